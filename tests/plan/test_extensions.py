"""What a program brings of its own is named, and tried before anything is decoded."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional
from transformers import TrainerCallback

from hf_finetune.errors import RecipeError, TrainingError
from hf_finetune.plan.extensions import Extensions
from hf_finetune.recipe.recipe import load_recipe
from hf_finetune.tasks.classification import Classification
from hf_finetune.tasks.loss import mean_loss, row_weights
from hf_finetune.tasks.scoring import answers_of, score_answers
from hf_finetune.types import Answers


def focal(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    each = functional.cross_entropy(logits, labels, reduction="none")
    return (1 - torch.exp(-each)) ** 2 * each


def mean_error(answers: Answers, labels: np.ndarray) -> float:
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
    names = [Extensions(nn.CrossEntropyLoss(reduction=how)).described()["loss"] for how in ("none", "sum")]
    assert all(name.startswith("torch.nn.modules.loss.CrossEntropyLoss CrossEntropyLoss()") for name in names)
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


SAYS: dict[str, tuple[dict[str, Any], str]] = {
    "a mean": ({"loss": functional.cross_entropy}, r"a tensor \[2\] for two rows; found a tensor \[\]"),
    "no gradient": ({"loss": lambda *_: torch.zeros(2)}, "one differentiable number a row"),
    "no tensor": ({"loss": lambda *_: 1.0}, "found float"),
    "an error": ({"loss": lambda logits, labels: logits @ labels}, r"loss=, given logits .* raised RuntimeError"),
    "a name that is taken": ({"metrics": {"accuracy": mean_error}}, "'accuracy' is no name for a metric"),
    "no name": ({"metrics": {"my metric": mean_error}}, "'my metric' is no name"),
    "no function": ({"metrics": {"kappa": "kappa"}}, "a function of answers and labels is expected, found str"),
    "a class": ({"callbacks": (Quiet,)}, "objects of transformers.TrainerCallback are expected"),
    "floats": ({"transform": lambda image: image / 255}, r"found torch.float32 \[3, 32, 32\]"),
    "another size": ({"transform": lambda image: image[:, 2:]}, r"found torch.uint8 \[3, 30, 32\]"),
}


@pytest.mark.parametrize("case", SAYS)
def test_what_cannot_work_is_refused_with_what_was_found(case: str) -> None:
    brought, says = SAYS[case]
    with pytest.raises(RecipeError, match=says):
        Extensions(**brought).check(load_recipe({}), 10)


def test_smoothing_and_a_loss_of_ones_own_exclude_each_other() -> None:
    with pytest.raises(RecipeError, match=r"task\.label_smoothing belongs to cross-entropy"):
        Extensions(focal).check(load_recipe({"task": {"label_smoothing": 0.1}}), 10)
    Extensions(focal).check(load_recipe({}), 10)


def test_a_loss_of_ones_own_is_weighted_mixed_and_meaned_as_cross_entropy_is() -> None:
    """Plain cross-entropy handed over is the built-in one, in every combination."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(12, 3, generator=generator)
    labels, partners = torch.randint(0, 3, (2, 12), generator=generator)
    mix = torch.rand(12, generator=generator)
    own = partial(functional.cross_entropy, reduction="none")
    for weights in (None, torch.tensor([0.5, 1.0, 3.0])):
        for mixed in ({}, {"partner_labels": partners, "mix": mix}):
            normaliser = row_weights(labels, mixed.get("partner_labels"), mixed.get("mix"), weights).sum()
            found, wanted = (
                mean_loss(Classification().row_loss(weights, loss), logits, labels, normaliser=normaliser, **mixed)
                for loss in (own, None)
            )
            torch.testing.assert_close(found, wanted)


def test_a_metric_of_ones_own_stands_beside_the_others() -> None:
    logits, labels = np.eye(3)[[0, 2, 1, 1]] * 5, np.array([0, 1, 1, 1])
    score = partial(score_answers, answers_of(logits, labels), labels, "abc", full=False)
    assert score(metrics={"error": mean_error})["error"] == pytest.approx(0.25)
    with pytest.raises(TrainingError, match=r"metrics\['error'\]: a finite number is expected, found nan"):
        score(metrics={"error": lambda *_: float("nan")})
    with pytest.raises(TrainingError, match=r"metrics\['error'\] raised ZeroDivisionError"):
        score(metrics={"error": lambda *_: 1 / 0})
