"""What a program brings of its own to a run: a loss, metrics, callbacks, a transform of training images.

Owns that they are tried before anything is trained, and what run.json says of them. What each of them is belongs to its
component: tasks/loss.py, tasks/custom_metrics.py, the HF Trainer, data/augment/transform.py.
"""

from __future__ import annotations

import functools
import hashlib
import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from hf_finetune.errors import RecipeError, TrainingError

if TYPE_CHECKING:
    from transformers import TrainerCallback

    from hf_finetune.data.augment.transform import Transform
    from hf_finetune.recipe.recipe import Recipe
    from hf_finetune.tasks.custom_metrics import Metric
    from hf_finetune.tasks.loss import RowLoss
    from hf_finetune.types import BackboneFacts


@dataclass(frozen=True)
class Extensions:
    """The four, none by default; `hf_finetune.train` says what each is given and gives. Raises RecipeError."""

    loss: RowLoss | None = None
    metrics: Mapping[str, Metric] = field(default_factory=dict)
    callbacks: Sequence[TrainerCallback] = ()
    transform: Transform | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.metrics, Mapping):
            raise RecipeError("metrics=: a mapping of names to functions is expected.", 'Such as {"kappa": kappa}.')
        if not isinstance(self.callbacks, Sequence):
            raise RecipeError("callbacks=: a list is expected.", "Put the callback into one.")
        for kind, brought in (("loss", self.loss), ("transform", self.transform)):
            if brought is not None and not callable(brought):
                raise RecipeError(f"{kind}=: a function is expected, found {type(brought).__name__}.", "Hand one over.")
        _check_metrics(self.metrics)
        _check_callbacks(self.callbacks)

    def described(self) -> dict[str, Any]:
        """Their names, each with a digest of its source, for run.json and for telling a resumed run from another."""
        named = {
            "loss": None if self.loss is None else _name(self.loss),
            "metrics": {name: _name(metric) for name, metric in self.metrics.items()},
            # What a callback holds changes while it is called, so that it goes by its class alone.
            "callbacks": [_source_name(type(callback)) for callback in self.callbacks],
            "transform": None if self.transform is None else _name(self.transform),
        }
        return {kind: value for kind, value in named.items() if value}

    def check(
        self,
        recipe: Recipe,
        facts: BackboneFacts,
        outputs: int,
        labels: np.ndarray | None = None,
        taken: Sequence[str] = (),
    ) -> None:
        """Try loss and transform on something small. `labels` [n, …]: of some rows (None: class ids); `taken`: the
        names of the task's own metrics. Raises RecipeError, naming what is wrong."""
        if double := [name for name in self.metrics if name in taken]:
            raise RecipeError(f"metrics=: {double[0]!r} is the name of a metric of the task's own.", "Rename it.")
        if self.loss is not None:
            _check_loss(self.loss, recipe, outputs, labels)
        if self.transform is not None:
            _check_transform(self.transform, facts.preprocess.height, facts.preprocess.width)

    def idle(self, rungs: Sequence[str]) -> list[str]:
        """Which of them no rung of the plan calls, each with the rungs that would."""
        trained = {"cached", "full"} & set(rungs)
        found = [kind for kind in ("loss", "callbacks") if getattr(self, kind) and not trained]
        notes = [f"{kind}= is for the rungs cached and full" for kind in found]
        return notes + (["transform= is for the rung full"] if self.transform and "full" not in rungs else [])


def _name(extension: Any) -> str:
    """Module and qualified name with a digest of the source; of an object that is called its class, with what it holds.

    Of a function only the source is looked at, not the values that it closes over.
    """
    if isinstance(extension, functools.partial):
        keywords = {**dict(enumerate(extension.args)), **extension.keywords}
        return f"partial of {_name(extension.func)} with {_held(keywords)}"
    if inspect.ismethod(extension):
        return f"{_source_name(extension.__func__)} of {_name(extension.__self__)}"
    if inspect.isroutine(extension) or inspect.isclass(extension):
        return _source_name(extension)
    text = " ".join(repr(extension).split())
    settings = "" if " at 0x" in text else f" {text}"
    holds = _held(getattr(extension, "__dict__", {}))
    return f"{_source_name(type(extension))}{settings} with {holds}"


def _source_name(definition: Any) -> str:
    """`module.qualified_name (first twelve digits of the sha256 of its source)`, the latter where it has one."""
    name = f"{definition.__module__}.{definition.__qualname__}"
    try:
        source = inspect.getsource(definition)
    except (OSError, TypeError):  # typed at a prompt, or written in C
        return name
    return f"{name} ({_digest(source.encode())})"


def _held(values: Mapping[Any, Any]) -> str:
    """A digest of plain values and tensors, in objects and containers of them; other things go by their type."""
    return _digest(_plain(values).encode())


def _plain(value: Any, depth: int = 0) -> str:
    if value is None or isinstance(value, bool | int | float | str | bytes):
        return repr(value)
    if depth > 8:
        return type(value).__qualname__
    if hasattr(value, "detach") and hasattr(value, "numpy"):
        value = value.detach().cpu().float().numpy()
    if hasattr(value, "tobytes"):
        return f"{getattr(value, 'shape', '')}{_digest(value.tobytes())}"
    if isinstance(value, Mapping):
        return (
            "{" + ",".join(f"{_plain(key, depth + 1)}:{_plain(item, depth + 1)}" for key, item in value.items()) + "}"
        )
    if isinstance(value, list | tuple | set | frozenset):
        parts = [_plain(item, depth + 1) for item in value]
        return f"{type(value).__name__}({','.join(sorted(parts) if isinstance(value, set | frozenset) else parts)})"
    if inspect.isroutine(value) or inspect.isclass(value):
        return _source_name(value)
    return type(value).__qualname__ + (_plain(vars(value), depth + 1) if hasattr(value, "__dict__") else "")


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:12]


def _check_loss(loss: RowLoss, recipe: Recipe, classes: int, given: np.ndarray | None) -> None:
    import torch

    if getattr(recipe.task, "label_smoothing", 0):
        raise RecipeError(
            "task.label_smoothing belongs to cross-entropy, which loss= replaces.",
            "Set task.label_smoothing=0, or smooth in the loss.",
        )
    if isinstance(loss, torch.nn.Module) and any(weight.requires_grad for weight in loss.parameters()):
        raise RecipeError(
            "loss= has parameters of its own, and nothing trains those.", "Make them buffers, or requires_grad_(False)."
        )
    rows = 3 if classes != 3 else 4  # another number than of classes, which shows a mean over the wrong dimension
    logits = torch.zeros(rows, classes, requires_grad=True)
    labels = torch.arange(rows) % classes if given is None else torch.from_numpy(given[np.arange(rows) % len(given)])
    try:
        losses = loss(logits, labels)
    except Exception as error:
        given_text = f"logits [{rows}, {classes}] and labels {list(labels.shape)}"
        raise RecipeError(
            f"loss=, given {given_text}, raised {type(error).__name__}: {error}.",
            "Try it on such input alone.",
        ) from error
    if not isinstance(losses, torch.Tensor) or losses.shape != (rows,) or losses.grad_fn is None:
        found = f"a tensor {list(losses.shape)}" if isinstance(losses, torch.Tensor) else type(losses).__name__
        raise RecipeError(
            f"loss=: one differentiable number a row is expected, a tensor [{rows}] for {rows} rows; found {found}.",
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
                _FOR_EVALUATE,
            )
        _try_metric(name, metric)


_FOR_EVALUATE = (
    "For a module of `evaluate`: lambda answers, labels: module.compute(predictions=answers.predicted, "
    "references=labels)['its key']."
)


def _try_metric(name: str, metric: Metric) -> None:
    """Refuse what is no number. One that fails on so few rows may do well on more."""
    from hf_finetune.tasks.scoring import answers_of

    logits = np.log([[0.9, 0.1], [0.4, 0.6], [0.2, 0.8]])
    answers = answers_of(logits, np.array([0, 0, 1]))
    try:
        found = metric(answers, np.array([0, 0, 1]))
    except Exception:  # noqa: BLE001 - said where it is used on what it is for
        return
    try:
        float(found)
    except (TypeError, ValueError):
        raise RecipeError(
            f"metrics[{name!r}]: one number is expected, found {type(found).__name__}.", _FOR_EVALUATE
        ) from None


def _check_callbacks(callbacks: Sequence[TrainerCallback]) -> None:
    if not callbacks:
        return
    from transformers import TrainerCallback

    for callback in callbacks:
        if not isinstance(callback, TrainerCallback):
            raise RecipeError(
                f"callbacks=: objects of transformers.TrainerCallback are expected, found {callback!r}.",
                "Derive from it, and hand over an object, not the class.",
            )


def _check_transform(transform: Transform, height: int, width: int) -> None:
    import torch

    from hf_finetune.data.augment.transform import checked

    image = torch.arange(3 * height * width).remainder(256).to(torch.uint8).view(3, height, width)
    try:
        checked(transform, image)
    except TrainingError as error:
        raise RecipeError(error.message, error.hint) from error
