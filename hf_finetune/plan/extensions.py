"""What a program brings of its own to a run: a loss, metrics, callbacks, a transform of training images.

Owns that they are tried before anything is decoded, and what run.json says of them. What each of them is belongs to its
component: tasks/loss.py, tasks/scoring.py, the HF Trainer, data/augment/transform.py.
"""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from hf_finetune.errors import RecipeError

if TYPE_CHECKING:
    from transformers import TrainerCallback

    from hf_finetune.data.augment.transform import Transform
    from hf_finetune.recipe.recipe import Recipe
    from hf_finetune.tasks.loss import RowLoss
    from hf_finetune.tasks.scoring import Metric


@dataclass(frozen=True)
class Extensions:
    """The four, none by default; `hf_finetune.train` says what each is given and gives."""

    loss: RowLoss | None = None
    metrics: Mapping[str, Metric] = field(default_factory=dict)
    callbacks: Sequence[TrainerCallback] = ()
    transform: Transform | None = None

    def described(self) -> dict[str, Any]:
        """Their names, each with a digest of its source, for run.json and for telling a resumed run from another."""
        named = {
            "loss": None if self.loss is None else _name(self.loss),
            "metrics": {name: _name(metric) for name, metric in self.metrics.items()},
            "callbacks": [_name(callback) for callback in self.callbacks],
            "transform": None if self.transform is None else _name(self.transform),
        }
        return {kind: value for kind, value in named.items() if value}

    def check(self, recipe: Recipe, classes: int) -> None:
        """Try each on something small. Raises RecipeError, before anything is decoded, naming what is wrong."""
        if self.loss is not None:
            _check_loss(self.loss, recipe, classes)
        _check_metrics(self.metrics)
        _check_callbacks(self.callbacks)
        if self.transform is not None:
            _check_transform(self.transform)


def _name(extension: Any) -> str:
    """`module.qualified_name`, and the first twelve digits of the sha256 of its source, where it has one.

    An object that is called goes by its class, its settings by their text where that says the same in another process.
    """
    definition = extension if inspect.isroutine(extension) or inspect.isclass(extension) else type(extension)
    name = f"{definition.__module__}.{definition.__qualname__}"
    settings = "" if definition is extension else repr(extension)
    if settings and " at 0x" not in settings:
        name += f" {settings}"
    try:
        source = inspect.getsource(definition)
    except (OSError, TypeError):  # typed at a prompt, or written in C
        return name
    return f"{name} ({hashlib.sha256(source.encode()).hexdigest()[:12]})"


def _tried(what: str, run: Callable[[], Any]) -> Any:
    try:
        return run()
    except Exception as error:
        raise RecipeError(f"{what} raised {type(error).__name__}: {error}.", "Try it on such input alone.") from error


def _check_loss(loss: RowLoss, recipe: Recipe, classes: int) -> None:
    import torch

    if recipe.task.label_smoothing:
        raise RecipeError(
            "task.label_smoothing belongs to cross-entropy, which loss= replaces.",
            "Set task.label_smoothing=0, or smooth in the loss.",
        )
    logits = torch.zeros(2, classes, requires_grad=True)
    labels = torch.tensor([0, classes - 1])
    losses = _tried("loss=, given logits [2, classes] and labels [2],", lambda: loss(logits, labels))
    if not isinstance(losses, torch.Tensor) or losses.shape != (2,) or losses.grad_fn is None:
        found = f"a tensor {list(losses.shape)}" if isinstance(losses, torch.Tensor) else type(losses).__name__
        raise RecipeError(
            f"loss=: one differentiable number a row is expected, a tensor [2] for two rows; found {found}.",
            'Leave the mean to the training: most losses of torch take reduction="none".',
        )


def _check_metrics(metrics: Mapping[str, Metric]) -> None:
    from hf_finetune.tasks.scoring import OWN

    for name, metric in metrics.items():
        if not isinstance(name, str) or not name.isidentifier() or name in OWN:
            raise RecipeError(
                f"metrics=: {name!r} is no name for a metric; letters, digits and _ are expected, and none of "
                f"{', '.join(sorted(OWN))}.",
                "Rename it.",
            )
        if not callable(metric):
            raise RecipeError(
                f"metrics[{name!r}]: a function of answers and labels is expected, found {type(metric).__name__}.",
                "For a module of `evaluate`: lambda answers, labels: module.compute(predictions=answers.predicted, "
                "references=labels)['its key'].",
            )


def _check_callbacks(callbacks: Sequence[TrainerCallback]) -> None:
    from transformers import TrainerCallback

    for callback in callbacks:
        if not isinstance(callback, TrainerCallback):
            raise RecipeError(
                f"callbacks=: objects of transformers.TrainerCallback are expected, found {callback!r}.",
                "Derive from it, and hand over an object, not the class.",
            )


def _check_transform(transform: Transform) -> None:
    import torch

    image = torch.arange(3 * 32 * 32, dtype=torch.int64).remainder(256).to(torch.uint8).view(3, 32, 32)
    found = _tried("transform=, given a tensor uint8 [3, 32, 32],", lambda: transform(image.clone()))
    if not isinstance(found, torch.Tensor) or found.shape != image.shape or found.dtype != torch.uint8:
        what = f"{found.dtype} {list(found.shape)}" if isinstance(found, torch.Tensor) else type(found).__name__
        raise RecipeError(
            f"transform=: a tensor uint8 [3, 32, 32] is expected for one of that shape, found {what}.",
            "Resizing and normalising are the checkpoint's; leave both out.",
        )
