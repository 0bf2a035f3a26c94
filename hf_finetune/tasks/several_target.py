"""What several targets settle to: their outputs, losses and answers side by side."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from hf_finetune.labels import Answers, LabelKind, Labels, Reading, TargetAnswers
from hf_finetune.tasks.kinds import restore_one
from hf_finetune.tasks.target import NO_METRICS, Part, ProblemType, Target
from hf_finetune.tasks.value_target import ValueTarget

if TYPE_CHECKING:
    from torch import Tensor

    from hf_finetune.tasks.custom_metrics import Metric
    from hf_finetune.tasks.loss import RowLoss
    from hf_finetune.tasks.predictions import Prediction

MEAN = "mean_score"


@dataclass(frozen=True)
class Single:
    """One of the targets: `width` numbers of a row's label are its."""

    name: str
    target: Target
    kind: LabelKind
    width: int
    weight: float

    @property
    def outputs(self) -> tuple[str, ...]:
        """With the target's name before them, so that no two are called alike."""
        own = self.target.outputs.names
        return own if own == (self.name,) else tuple(f"{self.name}: {name}" for name in own)

    @property
    def reading(self) -> Reading:
        """Of its column."""
        reading = self.target.reading
        return replace(reading, names=self.target.outputs.names) if self.kind == "classes" else reading

    def own(self, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Of its labels float [N, width]: which rows have it, bool [N], and those rows' labels as its target takes
        them."""
        there = np.asarray(~np.isnan(labels).all(1))
        known = labels[there]
        return there, known[:, 0].astype(np.int64) if self.kind in ("classes", "grades") else known

    def filled(self, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Of its labels float [N, width]: labels as its target takes them, 0 where a class is missing, and which rows
        have it, float32 [N]."""
        there = ~labels.isnan().all(1)
        if self.kind in ("classes", "grades"):
            return labels[:, 0].nan_to_num(0.0).long(), there.float()
        return labels, there.float()


@dataclass(frozen=True)
class SeveralTarget(ValueTarget):
    """Labels float [N, K]: those of the targets side by side, NaN where one is missing."""

    singles: tuple[Single, ...]

    @property
    def outputs(self) -> Labels:
        """Those of the targets, one after another."""
        return Labels(tuple(name for single in self.singles for name in single.outputs))

    @property
    def reading(self) -> Reading:
        """By column; classes by name, since a split may lack some."""
        return Reading(columns={single.name: single.reading for single in self.singles})

    @property
    def settings(self) -> dict[str, Any]:
        """Each target's own, with the names of its outputs."""
        return {
            "kind": "several",
            "targets": [
                {
                    "name": single.name,
                    "labels": {"kind": single.kind, "width": single.width},
                    "weight": single.weight,
                    "outputs": list(single.target.outputs.names),
                    "task": single.target.settings,
                }
                for single in self.singles
            ],
        }

    @classmethod
    def restored(cls, settings: Mapping[str, Any]) -> SeveralTarget:
        """From a result."""
        return cls(
            tuple(
                Single(
                    each["name"],
                    restore_one(each["task"], Labels(tuple(each["outputs"]))),
                    each["labels"]["kind"],
                    each["labels"]["width"],
                    each["weight"],
                )
                for each in settings["targets"]
            )
        )

    @property
    def problem_type(self) -> ProblemType | None:
        """None fits."""
        return None

    @property
    def parts(self) -> tuple[Part, ...]:
        """Those of the targets, on the rows that have them."""
        places = list(self.places())
        return tuple(_within(part, single, labels) for single, _, labels in places for part in single.target.parts)

    @property
    def chosen_by(self) -> tuple[str, ...]:
        """The mean of the targets' first metrics, the loss, or `column.metric`."""
        own = (f"{single.name}.{key}" for single in self.singles for key in single.target.chosen_by)
        return (MEAN, "loss", *own)

    def row_loss(self, own: RowLoss | None = None) -> RowLoss:
        """The weighted mean of the targets' losses; what is missing counts 0."""
        return own or _SeveralLoss(self)

    def worth(self, logits: Tensor, labels: Tensor) -> Tensor:
        """The weighted mean of the targets'."""
        import torch

        worth = torch.zeros(len(labels), device=logits.device)
        for single, outputs, place in self.places():
            own, there = single.filled(labels[:, place])
            worth += self.share(single) * there * single.target.worth(logits[:, outputs], own).float()
        return worth

    def strength(self, logits: Tensor) -> Tensor:
        """The sum of the targets', float [B]."""
        parts = [single.target.strength(logits[:, outputs]) for single, outputs, _ in self.places()]
        return sum(parts[1:], parts[0])

    def answers(self, logits: np.ndarray, labels: np.ndarray) -> TargetAnswers:
        """Those of the targets, for all rows; a row without a target has a loss of 0 there."""
        labels = np.asarray(labels)
        loss, parts = np.zeros(len(logits)), []
        for single, outputs, place in self.places():
            there, known = single.own(labels[:, place])
            filled = np.full((len(labels), *known.shape[1:]), 0 if known.ndim == 1 else np.nan, known.dtype)
            filled[there] = known
            part = single.target.answers(logits[:, outputs], filled)
            masked = np.where(there | np.isnan(part.loss), part.loss, 0.0)
            parts.append(replace(part, loss=masked))
            loss += self.share(single) * masked
        return TargetAnswers(loss, tuple(parts))

    def calibrated(self, answers: Answers, labels: np.ndarray, what: str) -> SeveralTarget:
        """Each target on the rows that have it."""
        return SeveralTarget(
            tuple(
                replace(single, target=single.target.calibrated(part, known, what))
                for single, part, known in self._known(answers, labels)
            )
        )

    def again(self, answers: Answers) -> TargetAnswers:
        """Each target's own."""
        said = _of_targets(answers)
        parts = (single.target.again(part) for single, part in zip(self.singles, said.parts, strict=True))
        return replace(said, parts=tuple(parts))

    def predictions(self, logits: np.ndarray) -> list[Prediction]:
        """By target."""
        from hf_finetune.tasks.predictions import TargetsPrediction

        names = [single.name for single in self.singles]
        columns = [single.target.predictions(logits[:, outputs]) for single, outputs, _ in self.places()]
        return [TargetsPrediction(dict(zip(names, row, strict=True))) for row in zip(*columns, strict=True)]

    def score(
        self, answers: Answers, labels: np.ndarray, *, full: bool, metrics: Mapping[str, Metric] = NO_METRICS
    ) -> dict[str, Any]:
        """`rows`, `loss`, `mean_score` (the mean of the targets' first metrics), each target's numbers as
        `column.metric`, and with `full` `per_target` (name → all that its own score has)."""
        from hf_finetune.tasks import measures
        from hf_finetune.tasks.custom_metrics import measure_custom

        if not len(answers):
            raise measures.no_rows()
        measures.check_finite(answers)
        scores: dict[str, dict[str, Any]] = {}
        firsts: list[float] = []
        for single, part, known in self._known(answers, labels):
            if len(known):
                scores[single.name] = its = single.target.score(part, known, full=full)
                firsts.append(its[single.target.chosen_by[0]])
        result: dict[str, Any] = {
            "rows": len(answers),
            "loss": float(answers.loss.mean()),
            MEAN: float(np.mean(firsts)),
        }
        for name, its in scores.items():
            result |= {f"{name}.{key}": value for key, value in its.items() if isinstance(value, int | float)}
        if full:
            result["per_target"] = scores
        return result | measure_custom(metrics, answers, np.asarray(labels))

    def differences(self, answers: Answers, than: Answers) -> tuple[int, float]:
        """Of the target that differs most."""
        pairs = zip(_of_targets(answers).parts, _of_targets(than).parts, strict=True)
        found = [single.target.differences(*pair) for single, pair in zip(self.singles, pairs, strict=True)]
        return max(count for count, _ in found), max(apart for _, apart in found)

    def table(self, answers: Answers, labels: np.ndarray) -> tuple[tuple[str, ...], Iterator[tuple[str, ...]]]:
        """The targets' own columns, with their names before them; empty cells where a row lacks one."""
        columns: list[str] = []
        blocks: list[list[tuple[str, ...]]] = []
        labels = np.asarray(labels)
        known = self._known(answers, labels)
        for (single, part, own), (_, _, place) in zip(known, self.places(), strict=True):
            names, lines = single.target.table(part, own)
            several = len(self.singles) > 1 and names[0] == "label"
            columns += [f"{single.name} {name}" if several or single.name not in name else name for name in names]
            there = single.own(labels[:, place])[0]
            lines = iter(lines)
            blocks.append([next(lines) if each else ("",) * len(names) for each in there.tolist()])
        return tuple(columns), (sum(row, ()) for row in zip(*blocks, strict=True))

    def places(self) -> Iterator[tuple[Single, slice, slice]]:
        """Each target, which outputs are its, and which labels."""
        ends = [0, *np.cumsum([len(single.target.outputs.names) for single in self.singles]).tolist()]
        edges = [0, *np.cumsum([single.width for single in self.singles]).tolist()]
        for single, outputs, labels in zip(self.singles, pairwise(ends), pairwise(edges), strict=True):
            yield single, slice(*outputs), slice(*labels)

    def _known(self, answers: Answers, labels: np.ndarray) -> Iterator[tuple[Single, Answers, np.ndarray]]:
        """Each target, its answers and its labels, of the rows that have it."""
        labels = np.asarray(labels)
        for (single, _, place), part in zip(self.places(), _of_targets(answers).parts, strict=True):
            there, known = single.own(labels[:, place])
            yield single, part.take(np.flatnonzero(there)), known

    def share(self, single: Single) -> float:
        return single.weight / sum(each.weight for each in self.singles)


@dataclass(frozen=True)
class _SeveralLoss:
    target: SeveralTarget

    def __call__(self, logits: Tensor, labels: Tensor) -> Tensor:
        import torch

        loss = torch.zeros(len(labels), dtype=torch.float32, device=logits.device)
        for single, outputs, place in self.target.places():
            own, there = single.filled(labels[:, place])
            loss = loss + self.target.share(single) * there * single.target.row_loss()(logits[:, outputs], own)
        return loss


def _within(part: Part, single: Single, place: slice) -> Part:
    """The part of a target on the labels of all of them."""

    def encode(labels: Tensor) -> tuple[Tensor, Tensor]:
        own, there = single.filled(labels[:, place])
        targets, weights = part.encode(own)
        return targets, weights * there

    return replace(part, encode=encode)


def _of_targets(answers: Answers) -> TargetAnswers:
    if not isinstance(answers, TargetAnswers):
        raise TypeError(f"TargetAnswers are expected, got {type(answers).__name__}")
    return answers
