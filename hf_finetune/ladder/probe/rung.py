"""The `probe` rung: heads fitted on the features of one forward pass; validation chooses, and the model then says it.

The pass and its cache are feature_pass.py's and feature_cache.py's, fitting is heads.py's.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from hf_finetune.adapters.trained import trained_module
from hf_finetune.errors import ModelError
from hf_finetune.labels import Answers
from hf_finetune.ladder.forecast import CACHED_NOTE
from hf_finetune.ladder.probe.every_row import MOST_CROSS_FITTED, together
from hf_finetune.ladder.probe.feature_cache import SplitFeatures
from hf_finetune.ladder.probe.feature_pass import PassResult
from hf_finetune.ladder.probe.heads import Fitted, Head, LeftOut, fit_heads
from hf_finetune.ladder.probe.logistic import Kept
from hf_finetune.ladder.starting_model import as_passed
from hf_finetune.machine import processes
from hf_finetune.machine.rounding import ANOTHER_ORDER, difference
from hf_finetune.training.autocast import autocast
from hf_finetune.training.best import are_alike, is_better, is_more_than_luck
from hf_finetune.types import LabelledRows, PixelRows, Split

if TYPE_CHECKING:
    from hf_finetune.plan.context import RunContext

# Standard errors by which a head that did not see the other validation rows must be better to be left as it is.
DOUBTS = 2.0
# Heads that are right equally often are told apart by their losses where those differ by more than another cut of the
# folds would do. Assumption.
FOLDS_APART = 0.05
# Of a note.
LOGISTIC = ", then logistic regression"
REFITTED = ", fitted again with the validation rows"
BOTH = "training and validation"


@dataclass(frozen=True)
class Probed:
    """A head, fitted on the training rows, and what it says of all validation rows.

    `final`: the same kind of head fitted on the rows of both, where that is not worse; `answers` are then of heads of
    that kind that were not fitted on the row. `left_out`: such answers to all rows that have any, None where there are
    none beside `answers`. `closed_form`: what the ridge solution of the training rows says of each, left out.
    """

    head: Head
    answers: Answers
    metrics: dict[str, Any]
    note: str
    final: Head
    left_out: LeftOut | None = None
    closed_form: LeftOut | None = None

    @property
    def refitted(self) -> bool:
        """Whether the final head knows the validation rows."""
        return self.final is not self.head


def run_probe(
    model: nn.Module,
    context: RunContext,
    rows: Mapping[Split, PixelRows],
    passed: PassResult,
    dtype: torch.dtype | None,
) -> Probed:
    """The better of the two heads, as fitted on the training rows, installed in the model; the same on every process.

    Raises ModelError, and leaves the model as it was, where the model says something else than that head or the final
    one: what is installed at the end of the run is known to be right now.
    """
    found = CACHED_NOTE if passed.found else ""
    refit = context.recipe.train.refit
    probed = better_head(context, rows, passed.own, own_outputs(model, context), found, refit=refit)
    heads = (probed.final, probed.head) if probed.refitted else (probed.head,)
    _install_checked(model, context, heads, passed, dtype)
    return probed


def fit_on(context: RunContext, rows: LabelledRows, train: SplitFeatures) -> Fitted:
    """Heads for the training rows with the features that they gave, classes weighted as the recipe says; rows that
    belong together are left out together."""
    return _fit(context, np.asarray(rows.labels), train, context.units_of(rows))


def fit_on_both(
    context: RunContext, rows: Mapping[Split, LabelledRows], features: Mapping[Split, SplitFeatures]
) -> Fitted:
    """The same for training and validation rows together, those of validation numbered behind the others."""
    labels = np.concatenate([np.asarray(rows[split].labels) for split in ("train", "validation")])
    kept = together(features["train"], features["validation"], len(rows["train"]))
    return _fit(context, labels, kept, _units_of_both(context, rows))


def _units_of_both(context: RunContext, rows: Mapping[Split, LabelledRows]) -> np.ndarray:
    splits: tuple[Split, ...] = ("train", "validation")
    return np.concatenate([context.units_of(rows[split], split) for split in splits])


def _fit(context: RunContext, labels: np.ndarray, kept: SplitFeatures, units: np.ndarray) -> Fitted:
    classes = context.classes_to_balance(labels)
    counts = None if classes is None else balanced(classes)
    return fit_heads(kept, labels, context.target, counts, units)


def balanced(classes: np.ndarray) -> np.ndarray:
    """What rows of classes int64 [N] weigh where each class counts as much as every other, as if rows were drawn by a
    balanced sampler: float64 [N] of mean 1."""
    _, place, sizes = np.unique(classes, return_inverse=True, return_counts=True)
    return (len(classes) / (len(sizes) * sizes))[place]


def own_outputs(model: nn.Module, context: RunContext) -> Kept | None:
    """The outputs of the base's own head that answer labels of the run, of a model as it starts; None without any.

    A head that is no linear layer with a bias has none.
    """
    own = context.base_head
    if own is None or not own.kept:
        return None
    try:
        head = installed(model, context.facts.head)
    except ModelError:
        return None
    return Kept(head.weight, head.bias, torch.tensor([row is not None for row in own.rows]))


def better_head(
    context: RunContext,
    rows: Mapping[Split, LabelledRows],
    features: Mapping[Split, SplitFeatures],
    kept: Kept | None = None,
    remark: str = "",
    *,
    refit: bool,
) -> Probed:
    """The better of the heads that are fitted on train, as told by validation; the same on every process. `features` of
    this process's rows; `kept`: outputs that may stay as they are; `remark` ends the note.

    With `refit` the final head is fitted on the rows of both, and which kind is better is told by all of them.
    """
    fitted = fit_on(context, rows["train"], features["train"])
    targets, own = np.asarray(rows["validation"].labels), features["validation"]

    def probed(head: Head, how: str) -> Probed:
        found = head.answers(own.features, targets[own.rows], context.target)
        answers = processes.gather_answers(own.rows, found)
        note = f"{fitted.note}{how}"
        note += f", {remark}" if remark else ""
        return Probed(head, answers, context.score(answers, targets, full=False), note, head)

    left_out, refined = fitted.left_out(), fitted.logistic()
    best = probed(fitted.closed_form(), "")
    further = None if refined is None else probed(refined, LOGISTIC)
    every = fit_on_both(context, rows, features) if refit else None
    if every is None:
        best = replace(best, left_out=left_out)
        if further is not None and is_better(further.metrics, best.metrics, context.recipe.train.best_by):
            best = further
    else:
        best = _refitted(context, every, best, further, _units_of_both(context, rows), targets)
    if kept is not None and not kept.which.all() and (completed := fitted.completed(kept)) is not None:
        count = f"{int(kept.which.sum())} of {len(kept.which)}"
        beside = probed(completed, f"; {count} outputs as in the base's own head, logistic regression for the others")
        if _prefers_kept(beside, best, kept, targets, context):
            again = every.completed(kept) if every is not None else None
            best = beside if again is None else replace(beside, final=again, note=beside.note + REFITTED)
    return replace(best, closed_form=left_out)


def _refitted(
    context: RunContext, every: Fitted, closed: Probed, further: Probed | None, units: np.ndarray, targets: np.ndarray
) -> Probed:
    """The better of both kinds of head on the rows of `every`, training's and behind them validation's, each answered
    by a head that was not fitted on it; and that kind fitted on all of them. Left as it is where the head that saw
    training rows alone answers validation better by more than luck: those rows are of another kind."""
    by, count = context.recipe.train.best_by, len(every.labels) - len(targets)
    found, best, final = every.of_every_row().left_out(), closed, every.closed_form()
    crossed = every.cross_fitted(units) if further is not None and every.work <= MOST_CROSS_FITTED else None
    if further is not None and crossed is not None:
        told = [context.score(each.answers, every.labels, full=False) for each in (crossed, found)]
        refined = (
            every.logistic()
            if is_better(told[0], told[1], by) and not are_alike(told[0], told[1], by, FOLDS_APART)
            else None
        )
        if refined is not None:
            found, best, final = crossed, further, refined
    elif further is not None and is_better(further.metrics, closed.metrics, by):
        refined = every.logistic()
        return further if refined is None else replace(further, final=refined, note=further.note + REFITTED)
    answers = found.answers.take(np.arange(count, len(every.labels)))
    if is_more_than_luck(context.target.gains(best.answers, answers, targets, by), DOUBTS):
        return best
    metrics = context.score(answers, targets, full=False)
    note = best.note + REFITTED
    return replace(best, final=final, answers=answers, metrics=metrics, note=note, left_out=replace(found, of=BOTH))


def _prefers_kept(beside: Probed, best: Probed, kept: Kept, targets: np.ndarray, context: RunContext) -> bool:
    """Whether to take the head with the kept outputs. Where those are most of them it must not lose by mere luck."""
    by = context.recipe.train.best_by
    if 2 * int(kept.which.sum()) < len(kept.which) or is_better(beside.metrics, best.metrics, by):
        return is_better(beside.metrics, best.metrics, by)
    return not is_more_than_luck(context.target.gains(best.answers, beside.answers, targets, by))


def _install_checked(
    model: nn.Module, context: RunContext, heads: Sequence[Head], passed: PassResult, dtype: torch.dtype | None
) -> None:
    """Put one head after the other into the model, where the last one stays; where the model does not say one of them,
    all are taken back."""
    modules = [trained_module(model, name) for name in context.facts.head]
    before = [(weight, weight.detach().clone()) for module in modules for weight in module.parameters()]
    try:
        for head in heads:
            install(model, context.facts.head, head)
            with as_passed(model, context):
                check_installed(model, passed.inputs, head.logits(passed.features), dtype)
    except ModelError:
        for weight, fresh in before:  # the next rungs start from the fresh head, not from a wrong one
            weight.data.copy_(fresh)
        raise


def installed(model: nn.Module, names: Sequence[str]) -> Head:
    """What `install` would write to leave the model as it is: several heads as one. Raises ModelError as it does."""
    parts = list(_linear_heads(model, names))
    weight = torch.cat([weight.flatten(1) for weight, _ in parts], 1) / len(parts)
    bias = torch.stack([bias for _, bias in parts]).mean(0)
    return Head(weight.detach().float().cpu(), bias.detach().float().cpu())


@torch.no_grad()
def install(model: nn.Module, names: Sequence[str], head: Head) -> None:
    """Write the head into the trained copies of the model's head modules; several share the features side by side.

    A model with several heads averages them, so each gets its part times their number. Raises ModelError where a head
    is no linear layer with a bias.
    """
    start = 0
    for number, (weight, bias) in enumerate(_linear_heads(model, names)):
        width = weight.shape[1]
        part = head.weight[:, start : start + width] * len(names)
        weight.copy_(part.reshape(weight.shape))
        bias.copy_(head.bias * len(names) if number == 0 else torch.zeros_like(head.bias))
        start += width
    if start != head.weight.shape[1]:
        raise ModelError(f"the head takes {start} features, but {head.weight.shape[1]} were seen")


def _linear_heads(model: nn.Module, names: Sequence[str]) -> Iterator[tuple[Tensor, Tensor]]:
    """Weight [C, d] or [C, d, 1, 1] and bias [C] of each of the head's modules. Raises ModelError for another kind."""
    for name in names:
        module: Any = trained_module(model, name)
        weight, bias = getattr(module, "weight", None), getattr(module, "bias", None)
        if not isinstance(weight, Tensor) or not isinstance(bias, Tensor) or weight.ndim not in (2, 4):
            raise ModelError(f"the head {name} is no linear layer with a bias, but {type(module).__name__}")
        yield weight, bias


@torch.no_grad()
def check_installed(model: nn.Module, inputs: Tensor, expected: np.ndarray, dtype: torch.dtype | None) -> None:
    """Raise ModelError unless the model's logits on normalised `inputs` are the expected ones."""
    with autocast(inputs.device.type, dtype):
        found = model.eval()(pixel_values=inputs).logits.float().cpu().numpy()
    apart, allowed = difference(expected, found, ANOTHER_ORDER)
    if not apart <= allowed:
        raise ModelError(
            f"with the head in closed form the model's logits differ by {apart:.3g} from what the head says, "
            f"{allowed:.3g} allowed"
        )
