"""The clock and the steps: schedule, stop, and the sharing of a budget among rungs."""

from __future__ import annotations

import math
import time
from dataclasses import replace

import pytest
import torch
from torch import nn

from hf_finetune.ladder.lengths import CACHED_EPOCHS, FEWEST_UPDATES, LONGEST
from hf_finetune.ladder.pacing import (
    LEAST_AVERAGED,
    LEAST_UPDATES,
    LONGEST_FULL,
    LORA_FORWARD,
    PATIENCE,
    TimeLeft,
    TimeSharing,
    Turn,
)
from hf_finetune.recipe.recipe import load_recipe
from hf_finetune.training.pace import Pace
from hf_finetune.types import Decision, Plan
from hf_finetune.units import parse_seconds
from tests.training.rows import tiny_plan


def test_without_a_clock_the_schedule_is_that_of_the_steps() -> None:
    pace = Pace(100)
    assert pace.factor(0, "cosine", 0.1) == pytest.approx(0.01 / 0.11)
    assert pace.factor(10, "cosine", 0.1) == pytest.approx(1.0)
    assert pace.factor(55, "cosine", 0.1) == pytest.approx(0.5 * (1 + math.cos(math.pi / 2)))
    assert pace.factor(55, "linear", 0.1) == pytest.approx(0.5)
    assert pace.factor(100, "linear", 0.1) == pytest.approx(0.0)
    assert pace.factor(99, "constant", 0.1) == 1.0
    rising = [Pace(10_000).factor(step, "auto", 0.1) for step in (0, 14, 29, 9_000)]
    assert rising == [pytest.approx(each) for each in (1 / 30, 0.5, 1.0, 1.0)]
    assert [Pace(100).factor(step, "auto", warmup) for step, warmup in ((4, 0.1), (0, 0.0))] == [0.5, 1.0]


def test_the_clock_overtakes_the_steps() -> None:
    pace = Pace(1000, seconds=0.2)
    pace.start()
    assert pace.share(0) < 0.5
    time.sleep(0.21)
    assert pace.share(1) >= 1
    assert pace.last >= 1
    optimizer = torch.optim.SGD(nn.Linear(1, 1).parameters(), lr=1.0)
    scheduler = pace.scheduler(optimizer, "cosine", 0.1)
    assert scheduler.get_last_lr() == [pytest.approx(0.0)]


def plan(rungs: tuple[str, ...] = ("probe", "cached", "full"), keep: float = 0.5) -> Plan:
    base = tiny_plan(batch=32, steps=600)
    return replace(base, rungs=Decision(rungs, ""), patches_kept=Decision(keep, ""), suffix_blocks=Decision(6, ""))


def sharing(seconds: float | None, plan: Plan, rows: int = 3200, *, any_time: bool = True) -> TimeSharing:
    budget = None if seconds is None else TimeLeft(seconds, lambda: 0.0, 0.0, 0)
    # Of 3,200 rows: 100 updates an epoch.
    return TimeSharing(plan, load_recipe({}), rows, budget, any_time=any_time)


def test_a_long_budget_is_cacheds_while_it_gains_but_for_the_least_of_full() -> None:
    time_sharing = sharing(1002.5, plan())  # 1,000 s after the closing
    turn = time_sharing.cached(lambda _: 0.5, lambda _: 1.0, 0)
    assert turn is not None
    assert turn.pace is not None
    assert turn.pace.seconds == pytest.approx(600)  # four passes of full are 400 s
    assert turn.pace.patience == PATIENCE
    assert turn.pace.evaluations == 12  # after each pass: four are what the rung usually wants
    assert turn.share == 0.5
    turn = time_sharing.full(lambda _: 1.0, 0)  # cached ended at once, where it did not gain
    assert turn is not None
    assert turn.pace is not None
    assert (turn.pace.seconds, turn.share, turn.pace.patience) == (pytest.approx(1000), 0.5, PATIENCE)
    assert turn.forecast_s == pytest.approx(1000, abs=2)


def test_a_rung_that_gains_may_take_longer_than_planned_and_not_for_ever() -> None:
    for epochs, steps in (("auto", round(LONGEST_FULL * 600)), (6, 600)):
        budget = TimeLeft(1e6, lambda: 0.0, 0.0, 0)
        recipe = load_recipe({"train": {"epochs": epochs}})
        turn = TimeSharing(plan(), recipe, 3200, budget).full(lambda _: 1.0, 0)
        assert turn is not None
        assert turn.pace is not None
        assert turn.pace.steps == steps, epochs


def test_where_the_rate_falls_a_rung_ends_when_it_has_fallen() -> None:
    for seconds in (None, 1e6):
        each = sharing(seconds, plan(), any_time=False)
        turn = each.cached(lambda _: 0.5, lambda _: 1.0, 0)
        assert turn is not None
        assert turn.pace is not None
        assert (turn.pace.steps, turn.pace.patience) == (400, 0)
        if seconds is not None:
            turn = each.full(lambda _: 1.0, 0)
            assert turn is not None
            assert turn.pace is not None
            assert (turn.pace.steps, turn.pace.patience) == (600, 0)


@pytest.mark.parametrize(("seconds", "cached_s"), [(590, 590), (700, 300)])
def test_full_has_its_turn_where_its_least_fits_behind_all_passes_of_cached(seconds: float, cached_s: float) -> None:
    time_sharing = sharing(2.5 + seconds, plan())  # 200 s of cached, and 400 s of full are four passes
    turn = time_sharing.cached(lambda _: 0.5, lambda _: 1.0, 0)
    assert turn is not None
    assert turn.pace is not None
    assert turn.pace.seconds == pytest.approx(cached_s, rel=1e-3)


def test_evaluations_take_their_share_of_the_time() -> None:
    def evaluations(seconds: float, images: int) -> tuple[int, float]:
        time_sharing = sharing(2.5 + seconds, plan())  # 2.5 s are the run's closing
        time_sharing.announce_probe(0.01, 0)  # an evaluation of 1,000 images takes 10 s, and one is kept for the end
        turn = time_sharing.full(lambda _: 1.0, images)
        assert turn is not None
        assert turn.pace is not None
        return turn.pace.evaluations, turn.forecast_s

    assert evaluations(610, 1) == (6, pytest.approx(610, abs=2))  # one a pass of 100 updates
    assert evaluations(610, 1000) == (6, pytest.approx(550 + 60, abs=2))
    assert evaluations(610, 6000) == (2, pytest.approx(490 + 120, abs=2))
    assert evaluations(1250, 60_000) == (1, pytest.approx(650 + 600, abs=2))


def test_the_expected_updates_follow_the_clock() -> None:
    pace = Pace(90, seconds=60.0)
    assert pace.expected(0) == 90
    pace.start()
    pace.last = 0.25  # a quarter of the time is over after 10 updates
    assert pace.expected(10) == 40
    pace.last = 0.01
    assert pace.expected(10) == 90
    pace.last = 1.03
    assert pace.expected(55) == 55


def test_a_short_budget_is_the_cached_rungs_alone() -> None:
    turn = sharing(102.5, plan()).cached(lambda keep: keep, lambda _: 1.0, 0)
    assert turn is not None
    assert turn.pace is not None
    assert turn.pace.seconds == pytest.approx(100, rel=1e-3)  # measuring takes its part
    assert turn.share == 0.5
    assert turn.pace.steps == pytest.approx(300, abs=3)  # a bound: 1.5 times what is forecast
    assert turn.pace.evaluations == 2
    whole = sharing(72.5, plan(keep=1.0)).cached(lambda keep: keep, lambda _: 1.0, 0)
    assert whole is not None
    assert whole.share == 1.0


def test_too_little_time_is_no_rung() -> None:
    for rung, least, any_time in (
        ("cached", LEAST_AVERAGED, True),
        ("cached", LEAST_UPDATES, False),
        ("full", LEAST_UPDATES, True),
    ):
        for updates, runs in ((least - 1, False), (least + 1, True)):
            assert (turn_of(rung, updates, plan(), any_time=any_time) is not None) is runs, (rung, updates)
    assert sharing(1.0, plan()).full(lambda _: 0.5, 0) is None


def test_without_a_probe_there_is_nothing_to_lose() -> None:
    assert turn_of("full", FEWEST_UPDATES + 1, plan(("full",))) is not None
    assert turn_of("full", FEWEST_UPDATES - 1, plan(("full",))) is None


def test_with_few_rows_the_time_goes_to_a_rung_that_can_use_it() -> None:
    time_sharing = sharing(102.5, plan(), rows=100)  # 40 updates of full, which are no use, or 100 of cached
    turn = time_sharing.cached(lambda _: 1.0, lambda _: 2.5, 0)
    assert turn is not None
    assert turn.forecast_s == pytest.approx(100, abs=1)


def turn_of(rung: str, updates: int, of: Plan, *, any_time: bool = True) -> Turn | None:
    """The rung's turn where the time is enough for so many updates, and a little."""
    time_sharing = sharing(2.5 + 0.25 * updates + 0.1, of, any_time=any_time)  # 2.5 s are the run's closing
    if rung == "cached":
        return time_sharing.cached(lambda _: 0.25, lambda _: 1.0, 0)
    return time_sharing.full(lambda _: 0.25, 0)


def test_what_cannot_fit_is_not_even_measured() -> None:
    time_sharing = sharing(102.5, plan())
    time_sharing.announce_probe(0.02, 0)  # an update of the full rung takes 2 × 0.5 × 32 × 0.02 s at least: .64 s

    def measured(keep: float) -> float:
        raise AssertionError(f"{keep} was measured")

    turn = time_sharing.cached(lambda keep: keep, measured, 0)
    assert turn is not None
    assert turn.pace is not None
    assert turn.pace.seconds == pytest.approx(100, rel=1e-4)
    spent = sharing(4.0, plan())
    spent.announce_probe(0.02, 0)
    assert spent.full(measured, 0) is None
    over = sharing(1.0, plan())
    over.announce_probe(0.02, 0)
    assert over.cached(measured, measured, 0) is None


def test_after_the_cached_rung_full_needs_some_passes(caplog: pytest.LogCaptureFixture) -> None:
    alone, after = sharing(102.5, plan()), sharing(102.5, plan())
    assert after.cached(lambda _: 0.1, lambda _: 1.0, 0) is not None
    turns = [each.full(lambda _: 0.5, 0) for each in (alone, after)]  # 200 updates, two passes
    assert turns[0] is not None
    assert turns[1] is None
    caplog.clear()  # an earlier test may have left logging at INFO
    with caplog.at_level("INFO", logger="hf_finetune.ladder.pacing"):
        assert after.full(lambda _: 0.3, 0) is not None  # 333 updates
        assert after.full(lambda _: 0.4, 0) is None
    # 2.5 s at the end, 40 s of cached and four passes of full at .4 s, 162.5 s in all; and some more than that.
    said = "full: 1 min 40 s are left, too few; not run (about budget.time=4m would do)"
    assert [record.getMessage() for record in caplog.records] == [said]


def test_where_nothing_is_left_no_number_is_told(caplog: pytest.LogCaptureFixture) -> None:
    spent = sharing(1.0, plan())
    spent.note_pass(0.02)
    with caplog.at_level("INFO", logger="hf_finetune.ladder.pacing"):
        assert spent.full(lambda _: 0.4, 0) is None
    said = caplog.records[-1].getMessage()
    assert said.startswith("full: no time is left; not run (a guess: budget.time=")


@pytest.mark.parametrize("rows", [60, 400, 3200])
@pytest.mark.parametrize("image_s", [0.002, 0.02, 0.2])
@pytest.mark.parametrize("spent_s", [5.0, 40.0])
def test_the_budget_that_is_named_would_do(rows: int, image_s: float, spent_s: float) -> None:
    """Followed, it gives the rung its turn, behind the one before it; also where nothing could be measured."""

    def not_run(seconds: float) -> dict[str, str]:
        now = [spent_s]
        each = TimeSharing(plan(), load_recipe({}), rows, TimeLeft(seconds, lambda: now[0], 1.0, 20))
        each.note_pass(image_s)
        update_s = 2.5 * 32 * image_s
        turn = each.cached(lambda keep: keep * update_s / 2, lambda keep: keep * update_s, 10)
        now[0] += turn.pace.seconds if turn is not None and turn.pace is not None and turn.pace.seconds else 0.0
        each.full(lambda keep: keep * update_s, 20)
        return each.would_do

    assert "cached" in not_run(spent_s + 4)
    for seconds in (spent_s - 2, spent_s + 8, spent_s + 60, spent_s + 600):
        for rung, budget in not_run(seconds).items():
            assert rung not in not_run(parse_seconds(budget)), (rung, seconds, budget)


def test_no_budget_is_named_where_all_passes_of_the_cached_rung_are_too_few_updates() -> None:
    for batch, named in ((32, True), (256, False)):  # 15 passes over 400 images: 180 updates, or 15
        of = replace(plan(), effective_batch=Decision(batch, ""))
        time_sharing = sharing(4.5, of, rows=400)
        assert time_sharing.cached(lambda _: 1.0, lambda _: 2.0, 0) is None
        assert ("cached" in time_sharing.would_do) is named


def test_a_head_that_needs_more_patches_gets_them_however_short_the_time() -> None:
    for least, share, short in ((0.25, 0.5, 0.25), (0.5, 0.5, 0.5), (1.0, 1.0, 1.0)):
        cached, full = sharing(102.5, plan()), sharing(202.5, plan())
        for each in (cached, full):
            each.keep_at_least(least)
        turns = [cached.cached(lambda keep: keep, lambda _: 1.0, 0), full.full(lambda keep: 2 * keep, 0)]
        assert [turn is not None and turn.share for turn in turns] == [share, short]


def test_the_cached_rung_has_an_end() -> None:
    turn = sharing(10_000, plan(("probe", "cached"))).cached(lambda _: 0.1, lambda _: 1.0, 0)
    assert turn is not None
    assert turn.pace is not None
    assert turn.pace.steps == LONGEST * CACHED_EPOCHS * 100


def test_without_a_budget_the_plan_holds() -> None:
    time_sharing = sharing(None, plan())
    turn = time_sharing.cached(lambda _: 1.0, lambda _: 1.0, 0)
    assert turn is not None
    assert turn.pace is not None
    assert (turn.pace.steps, turn.pace.seconds, turn.share, turn.forecast_s) == (1600, None, 0.5, 1600)
    assert turn.pace.patience == PATIENCE
    assert time_sharing.full(lambda _: 1.0, 0) == Turn(None, 0.5, 600, 1.0)


def test_images_whose_states_were_kept_cost_the_end_what_the_cached_rung_trains() -> None:
    budget = TimeLeft(60, lambda: 20.0, load_s=2.0, end_rows=0, kept_rows=100)
    whole, half = budget.left_s(0.1), budget.left_s(0.1, 0.5)
    assert half - whole == pytest.approx(0.5 * 100 * 0.1 * LORA_FORWARD)
    time_sharing = TimeSharing(plan(("probe", "cached")), load_recipe({}), 3200, budget)
    time_sharing.note_pass(0.1)
    turn = time_sharing.cached(lambda _: 0.1, lambda _: 1.0, 10, 0.5)
    assert turn is not None
    assert turn.pace is not None
    assert turn.pace.seconds == pytest.approx(half - 10 * 0.1)  # one evaluation
    assert time_sharing.left_s() == whole


def test_the_end_of_the_run_is_paid_for_first() -> None:
    budget = TimeLeft(60, lambda: 20.0, load_s=2.0, end_rows=100)
    assert budget.left_s(0.01) == pytest.approx(60 - 20 - 2.5 - 2.0 - 1.2)


@pytest.mark.parametrize(("rows", "updates"), [(100, 90), (500, 180), (1_500, 184), (3_200, 400)])
def test_few_images_are_passed_over_more_often_by_the_cached_rung(rows: int, updates: int) -> None:
    for any_time, longest in ((False, 1), (True, LONGEST)):
        turn = sharing(None, plan(), rows, any_time=any_time).cached(lambda _: 0.5, lambda _: 1.0, 0)
        assert turn is not None and turn.pace is not None
        assert turn.pace.steps == longest * updates
