"""What a program brings of its own is named, and tried before anything is decoded."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional
from transformers import TrainerCallback

from hf_finetune.errors import RecipeError, TrainingError
from hf_finetune.labels import ClassAnswers, Labels
from hf_finetune.plan.extensions import Extensions
from hf_finetune.recipe.recipe import load_recipe
from hf_finetune.tasks.classification import ClassTarget
from hf_finetune.tasks.loss import mean_loss
from hf_finetune.tasks.scoring import answers_of, score_answers
from tests.plan.test_plan import FACTS as LARGE

FACTS = replace(LARGE, preprocess=replace(LARGE.preprocess, height=32, width=32))


def focal(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    each = functional.cross_entropy(logits, labels, reduction="none")
    return (1 - torch.exp(-each)) ** 2 * each


def focal_with(logits: torch.Tensor, labels: torch.Tensor, power: float) -> torch.Tensor:
    return focal(logits, labels) ** power


def mean_error(answers: ClassAnswers, labels: np.ndarray) -> float:
    return float(np.abs(answers.predicted - labels).mean())


def upside_down(image: torch.Tensor) -> torch.Tensor:
    return image.flip(1)


class Quiet(TrainerCallback):
    pass


def test_a_function_goes_by_its_name_and_source_an_object_by_its_class_and_settings() -> None:
    described = Extensions(focal, {"error": mean_error}, (Quiet(),), upside_down).described()
    assert described["loss"].startswith("tests.plan.test_extensions.focal (")
    assert described["metrics"]["error"].startswith("tests.plan.test_extensions.mean_error (")
    assert described["callbacks"][0].startswith("tests.plan.test_extensions.Quiet (")
    assert described["transform"].startswith("tests.plan.test_extensions.upside_down (")
    named = Extensions(nn.CrossEntropyLoss(reduction="none")).described()["loss"]
    assert named.startswith("torch.nn.modules.loss.CrossEntropyLoss (") and " CrossEntropyLoss() with " in named
    assert Extensions().described() == {}


def test_two_functions_of_one_name_are_told_apart_by_their_source() -> None:
    def made(power: int) -> Callable[..., Any]:
        if power == 2:

            def loss(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
                return focal(logits, labels) ** 2
        else:

            def loss(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
                return focal(logits, labels)

        return loss

    one, other = (Extensions(made(power)).described()["loss"] for power in (1, 2))
    assert one != other
    assert one.rpartition(" (")[0] == other.rpartition(" (")[0]


class Scaled:
    def __init__(self, scale: float) -> None:
        self.scale = scale

    def __call__(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        return self.scale * focal(logits, labels)

    def loss(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        return self(logits, labels)


PAIRS: dict[str, tuple[Any, Any]] = {
    "keywords of a partial": tuple(partial(focal_with, power=power) for power in (1.0, 2.0)),
    "functions of a partial": (partial(focal), partial(functional.cross_entropy, reduction="none")),
    "settings of a module": tuple(
        nn.CrossEntropyLoss(reduction="none", label_smoothing=smoothing) for smoothing in (0.0, 0.5)
    ),
    "weights of a module": tuple(
        nn.CrossEntropyLoss(reduction="none", weight=torch.tensor([1.0, weight])) for weight in (1.0, 9.0)
    ),
    "objects that are called": (Scaled(1.0), Scaled(2.0)),
    "methods of objects": (Scaled(1.0).loss, Scaled(2.0).loss),
}


@pytest.mark.parametrize("what", PAIRS)
def test_what_an_object_holds_tells_it_from_another(what: str) -> None:
    one, other = (Extensions(loss).described()["loss"] for loss in PAIRS[what])
    assert one != other
    assert one == Extensions(PAIRS[what][0]).described()["loss"]
    assert " at 0x" not in one and "\n" not in one


SAYS: dict[str, tuple[dict[str, Any], str]] = {
    "a mean": ({"loss": functional.cross_entropy}, r"a tensor \[3\] for 3 rows; found a tensor \[\]"),
    "no gradient": ({"loss": lambda *_: torch.zeros(3)}, "one differentiable number a row"),
    "no tensor": ({"loss": lambda *_: 1.0}, "found float"),
    "an error": ({"loss": lambda logits, labels: logits @ labels}, r"loss=, given logits .* raised RuntimeError"),
    "a name that is taken": ({"metrics": {"accuracy": mean_error}}, "'accuracy' is no name for a metric"),
    "no name": ({"metrics": {"my metric": mean_error}}, "'my metric' is no name"),
    "no function": ({"metrics": {"kappa": "kappa"}}, "a function of answers and labels is expected, found str"),
    "a class": ({"callbacks": (Quiet,)}, "objects of transformers.TrainerCallback are expected"),
    "the other dimension": (
        {"loss": lambda logits, labels: functional.one_hot(labels, 10).sub(logits).square().mean(0)},
        r"a tensor \[3\] for 3 rows; found a tensor \[10\]",
    ),
    "weights that nothing trains": ({"loss": nn.Sequential(nn.Linear(10, 1))}, "has parameters of its own"),
    "a list of metrics": ({"metrics": [mean_error]}, "a mapping of names to functions is expected"),
    "a metric of several numbers": ({"metrics": {"f": lambda *_: {"f1": 1.0}}}, "one number is expected, found dict"),
    "one callback": ({"callbacks": Quiet()}, "callbacks=: a list is expected"),
    "a transform that fails": ({"transform": lambda image: image[5]}, r"uint8 \[3, 32, 32\], raised IndexError"),
    "a transform of nothing": ({"transform": lambda _: None}, "found NoneType"),
    "floats": ({"transform": lambda image: image / 255}, r"found torch.float32 \[3, 32, 32\]"),
    "another size": ({"transform": lambda image: image[:, 2:]}, r"found torch.uint8 \[3, 30, 32\]"),
}


@pytest.mark.parametrize("case", SAYS)
def test_what_cannot_work_is_refused_with_what_was_found(case: str) -> None:
    brought, says = SAYS[case]
    with pytest.raises(RecipeError, match=says):
        Extensions(**brought).check(load_recipe({}), FACTS, 10)


def test_smoothing_and_a_loss_of_ones_own_exclude_each_other() -> None:
    with pytest.raises(RecipeError, match=r"task\.label_smoothing belongs to cross-entropy"):
        Extensions(focal).check(load_recipe({"task": {"label_smoothing": 0.1}}), FACTS, 10)
    Extensions(focal).check(load_recipe({}), FACTS, 10)


def test_a_transform_is_tried_at_the_backbones_size() -> None:
    seen: list[tuple[int, ...]] = []

    def watch(image: torch.Tensor) -> torch.Tensor:
        seen.append(tuple(image.shape))
        return image

    facts = replace(FACTS, preprocess=replace(FACTS.preprocess, height=24, width=40))
    Extensions(transform=watch).check(load_recipe({}), facts, 10)
    assert seen == [(3, 24, 40)]


def test_what_no_rung_calls_is_told() -> None:
    everything = Extensions(focal, {"error": mean_error}, (Quiet(),), upside_down)
    assert [note.split("=")[0] for note in everything.idle(("probe",))] == ["loss", "callbacks", "transform"]
    assert everything.idle(("probe", "cached")) == ["transform= is for the rung full"]
    assert everything.idle(("full",)) == Extensions().idle(("probe",)) == []


def test_a_loss_of_ones_own_is_weighted_mixed_and_meaned_as_cross_entropy_is() -> None:
    """Plain cross-entropy handed over is the built-in one, in every combination."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(12, 3, generator=generator)
    labels, partners = torch.randint(0, 3, (2, 12), generator=generator)
    mix = torch.rand(12, generator=generator)
    own = partial(functional.cross_entropy, reduction="none")
    for weights in (None, (0.5, 1.0, 3.0)):
        target = ClassTarget(Labels(("a", "b", "c")), weights)
        for mixed in ({}, {"partner_labels": partners, "mix": mix}):
            normaliser = target.row_weights(labels, mixed.get("partner_labels"), mixed.get("mix")).sum()
            found, wanted = (
                mean_loss(target.row_loss(loss), logits, labels, normaliser=normaliser, **mixed) for loss in (own, None)
            )
            torch.testing.assert_close(found, wanted)


def test_a_metric_of_ones_own_stands_beside_the_others() -> None:
    logits, labels = np.eye(3)[[0, 2, 1, 1]] * 5, np.array([0, 1, 1, 1])
    score = partial(score_answers, answers_of(logits, labels), labels, "abc", full=False)
    assert score(metrics={"error": mean_error})["error"] == pytest.approx(0.25)
    assert "error" not in score(metrics={"error": lambda *_: float("nan")})
    with pytest.raises(TrainingError, match=r"metrics\['error'\] raised ZeroDivisionError"):
        score(metrics={"error": lambda *_: 1 / 0})


def test_what_a_metric_does_to_its_arguments_stays_with_it() -> None:
    def spoils(answers: ClassAnswers, labels: np.ndarray) -> float:
        labels[:] = 0
        answers.top[:] = 0
        return 1.0

    answers, labels = answers_of(np.eye(3)[[0, 2, 1, 1]] * 5, np.array([0, 1, 1, 1])), np.array([0, 1, 1, 1])
    plain = score_answers(answers, labels, "abc", full=True)
    assert score_answers(answers, labels, "abc", full=True, metrics={"m": spoils}) == {**plain, "m": 1.0}
    assert labels.tolist() == [0, 1, 1, 1]


def test_a_loss_of_other_tasks_is_tried_on_their_labels() -> None:
    labels = np.array([[0.5, np.nan], [1.0, 2.0]], np.float32)

    def squares(logits: torch.Tensor, numbers: torch.Tensor) -> torch.Tensor:
        return (logits - numbers).square().nansum(1)

    Extensions(squares).check(load_recipe({}), FACTS, 2, labels)
    with pytest.raises(RecipeError, match=r"labels \[3, 2\], raised"):
        Extensions(lambda logits, numbers: logits.gather(1, numbers)).check(load_recipe({}), FACTS, 2, labels)
    with pytest.raises(RecipeError, match="'r2' is the name of a metric of the task's own"):
        Extensions(metrics={"r2": lambda *_: 1.0}).check(load_recipe({}), FACTS, 2, labels, ("r2", "mae"))
