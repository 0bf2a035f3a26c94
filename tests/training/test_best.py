"""What chooses: the metric where rows tell two models apart, else the loss at each one's best temperature."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from torch import nn

from hf_finetune.labels import Answers, ClassAnswers, Labels
from hf_finetune.ladder.candidates import START, Candidates, Usage
from hf_finetune.machine.peak import PeakMemory
from hf_finetune.tasks.classification import ClassTarget
from hf_finetune.tasks.scoring import answers_of
from hf_finetune.training.best import Told, is_better, is_more_than_luck, is_preferred

TARGET = ClassTarget(Labels(("a", "b")))
LABELS = np.zeros(200, np.int64)


def test_equal_scores_are_told_apart_by_the_loss() -> None:
    a, b = {"accuracy": 0.9, "loss": 0.3}, {"accuracy": 0.9, "loss": 0.4}
    assert is_better(a, b, "accuracy")
    assert not is_better(b, a, "accuracy")
    assert not is_better(a, b, "accuracy", ties=False)
    assert is_better(a, b, "loss")
    assert is_better({"accuracy": 0.91, "loss": 9.0}, a, "accuracy")


def test_one_image_more_of_a_few_is_luck() -> None:
    labels = np.zeros(8, dtype=np.int64)

    def answers(right: int, loss: float = 1.0) -> ClassAnswers:
        top = np.array([[0, 1]] * right + [[1, 0]] * (8 - right))
        losses = np.full(8, loss) + np.arange(8) / 10
        return ClassAnswers(losses, top, np.full(8, 0.9), np.zeros(8), np.zeros((8, 1), np.float32))

    def clearly_better(one: ClassAnswers, than: ClassAnswers, by: str) -> bool:
        return is_more_than_luck(ClassTarget(Labels(("a", "b"))).gains(one, than, labels, by))

    assert not clearly_better(answers(8), answers(7), "accuracy")
    assert clearly_better(answers(8), answers(6), "accuracy")
    assert not clearly_better(answers(7, 0.5), answers(7), "accuracy")
    assert clearly_better(answers(7, 0.5), answers(7), "loss")
    assert not clearly_better(answers(8, 0.9), answers(6, 0.8), "loss")


def told(right: int, wrong_by: float, sure: float = 1.0) -> Told:
    """Of 200 rows so many are right by 2, the others wrong by so much; all logits times `sure`."""
    margins = np.where(np.arange(200) < right, 2.0, -wrong_by)
    answers = answers_of(sure * np.stack([margins, 0 * margins], 1), LABELS)
    return Told(TARGET.score(answers, LABELS, full=False), answers)


def preferred(one: Told, than: Told, by: str = "accuracy", highest: Told | None = None) -> bool:
    def gains(told: Answers, before: Answers) -> np.ndarray:
        return TARGET.gains(told, before, LABELS, by)

    return is_preferred(one, than, highest or than, by, gains)


def test_a_photo_more_does_not_choose_where_more_is_lost_by_it() -> None:
    level, lucky, better = told(160, 1.0), told(161, 2.0), told(180, 2.0)
    assert is_better(lucky.metrics, level.metrics, "accuracy")
    assert not preferred(lucky, level)
    assert preferred(level, lucky)
    assert preferred(better, level)
    assert not preferred(level, better)
    assert not preferred(level, better, "loss")


def test_being_too_sure_is_mended_by_the_temperature_and_does_not_choose() -> None:
    plain, sure, better = told(160, 1.0), told(160, 1.0, sure=3.0), told(162, 0.8, sure=3.0)
    assert sure.metrics["loss"] > plain.metrics["loss"] + 0.1
    assert sure.answers.calibrated_loss == pytest.approx(plain.answers.calibrated_loss, rel=0.02)
    assert better.metrics["loss"] > plain.metrics["loss"]
    assert preferred(better, plain)
    assert better.as_compared("accuracy")["loss"] < plain.as_compared("accuracy")["loss"]
    assert better.as_compared("loss")["loss"] == better.metrics["loss"]


def test_where_fewer_than_ten_are_wrong_nothing_says_that_a_model_is_not_sure_enough() -> None:
    few, many = told(195, 1.0, sure=0.25), told(180, 1.0, sure=0.25)
    assert few.answers.calibrated_loss == pytest.approx(few.metrics["loss"])
    assert many.answers.calibrated_loss < many.metrics["loss"]
    perfect = [told(200, 0.0, sure=sure).answers.calibrated_loss for sure in (4.0, 8.0)]
    assert perfect[1] < perfect[0]


def test_steps_of_chance_do_not_lead_down() -> None:
    steps = [told(180 - step, 1.0 - 0.12 * step) for step in range(8)]
    for earlier, later in pairwise(steps):
        assert preferred(later, earlier)  # each is within chance of the one before, and loses less
    assert not preferred(steps[7], steps[6], highest=steps[0])
    assert preferred(steps[1], steps[0], highest=steps[0])


def test_by_a_metric_that_no_row_tells_of_rungs_are_chosen_by_it_alone() -> None:
    worse, better = told(160, 1.0), told(160, 2.0)
    higher = Told({**better.metrics, "macro_f1": 0.6}, better.answers)
    lower = Told({**worse.metrics, "macro_f1": 0.5}, worse.answers)
    assert preferred(higher, lower, "macro_f1")
    assert not preferred(lower, higher, "macro_f1")


def test_one_row_alone_is_luck_however_many_rows_there_are() -> None:
    for count in range(2, 400):
        for place in (0, count // 2, count - 1):
            gains = np.zeros(count)
            gains[place] = 1
            assert not is_more_than_luck(gains), (count, place)


def candidates() -> Candidates:
    usage = Usage(lambda: 0.0, PeakMemory())
    return Candidates(
        nn.Linear(1, 1), "accuracy", "cpu", usage, lambda one, than: TARGET.gains(one, than, LABELS, "accuracy")
    )


@pytest.mark.parametrize(
    ("first", "second", "kept", "note"),
    [
        (told(160, 1.0), told(180, 2.0), True, ""),
        (told(160, 2.0), told(159, 1.0), True, "accuracy apart by chance, less lost"),
        (told(160, 1.0), told(161, 2.0), False, "accuracy apart by chance, more lost"),
        (told(180, 1.0), told(160, 1.0), False, ""),
    ],
)
def test_what_is_kept_against_its_accuracy_says_why(first: Told, second: Told, kept: bool, note: str) -> None:
    found = candidates()
    found.offer("probe", first.metrics, first.answers, 1.0)
    found.offer("cached", second.metrics, second.answers, 1.0)
    climbed = found.settled(interrupted=False)
    assert [(each.kept, each.note) for each in climbed.candidates] == [(True, ""), (kept, note)]
    assert [each.by_chance for each in climbed.candidates] == [False, bool(note)]
    assert climbed.best.rung == ("cached" if kept else "probe")


def test_than_a_model_as_it_starts_a_rung_is_better_by_more_than_luck() -> None:
    for right, wrong_by, kept in ((160, 1.0, False), (161, 0.5, False), (180, 2.0, True)):
        found = candidates()
        start, rung = told(160, 2.0), told(right, wrong_by)
        found.offer(START, start.metrics, start.answers, 1.0)
        found.offer("probe", rung.metrics, rung.answers, 1.0)
        assert found.settled(interrupted=False).candidates[1].kept is kept
