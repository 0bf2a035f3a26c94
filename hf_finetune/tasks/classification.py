"""Single-label image classification: the recipe's `task` section, its class weights, and what they are settled to.

Its loss is in `loss.py`, its metrics in `scoring.py`; both are imported by who needs them, this module stays light.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
from pydantic import Field

from hf_finetune.errors import DataError
from hf_finetune.labels import TEMPERATURES, Answers, ClassAnswers, Labels, Reading
from hf_finetune.section import Section
from hf_finetune.tasks.target import NO_METRICS, Part, ProblemType
from hf_finetune.types import Index

if TYPE_CHECKING:
    from torch import Tensor

    from hf_finetune.tasks.custom_metrics import Metric
    from hf_finetune.tasks.loss import RowLoss
    from hf_finetune.tasks.predictions import Prediction

_LARGEST_BOOST = 10.0
COVERAGE = 0.9  # share of new images whose class is in the set


class Classification(Section):
    """One label per image."""

    kind: Literal["classification"] = "classification"
    label_smoothing: float = Field(default=0.0, ge=0, lt=1, description="share of the target spread over all classes")
    class_weights: Literal["none", "auto"] | tuple[Annotated[float, Field(gt=0, allow_inf_nan=False)], ...] = Field(
        default="none",
        description="none, auto (inverse class frequency, mean 1), or one weight per class in label order",
    )
    logit_adjustment: float = Field(
        default=0.0,
        ge=0,
        le=10,
        description="what the loss adds to logits, times the logarithm of each class's share of train; 1: the model "
        "answers as if classes were equally frequent",
    )

    def weights_for(self, label_counts: Sequence[int]) -> list[float] | None:
        """One weight per class, from the number of training rows of each; None where classes count alike.

        Only ratios matter, since the loss divides by the weights of its rows.
        Raises DataError where the recipe's list has another length than the dataset has classes.
        """
        if self.class_weights == "none":
            return None
        if self.class_weights == "auto":
            return auto_class_weights(label_counts)
        if len(self.class_weights) != len(label_counts):
            raise DataError(
                f"task.class_weights: one weight for each of the {len(label_counts)} classes is expected, "
                f"found {len(self.class_weights)}.",
                "List them in label order (sorted class names, or as the dataset numbers them), or use "
                "task.class_weights=auto.",
            )
        return list(self.class_weights)

    @property
    def reading(self) -> Reading:
        """One class a row."""
        return Reading("classes")

    def settle(self, index: Index) -> ClassTarget:
        """Raises DataError as `weights_for` does."""
        names = index.columns[0].names
        ids = [row.label for row in index.splits["train"] if isinstance(row.label, int)]
        counts = np.bincount(ids, minlength=len(names)).tolist()
        weights = self.weights_for(counts)
        return ClassTarget(
            Labels(names),
            None if weights is None else tuple(weights),
            self.label_smoothing,
            tuple(counts),
            self.logit_adjustment,
        )


@dataclass(frozen=True)
class ClassTarget:
    """One class a row: labels int64 [N] are class ids. `weights`: one a class, None where classes count alike;
    `counts`: training rows of each class, empty where they are not known; `logit_adjustment`: as the recipe has it.

    `temperature` divides logits before the softmax (Guo et al. 2017, arXiv 1706.04599); classes of at least the
    probability `set_threshold` make the set that holds the right one of `COVERAGE` of new images (Sadinle et al. 2019,
    arXiv 1609.00451, by split conformal prediction); None: too few rows to promise that. `calibrated_from`: on what.
    """

    outputs: Labels
    weights: tuple[float, ...] | None = None
    label_smoothing: float = 0.0
    counts: tuple[int, ...] = ()
    logit_adjustment: float = 0.0
    temperature: float = 1.0
    set_threshold: float | None = None
    calibrated_from: str = ""

    @property
    def reading(self) -> Reading:
        """As in training."""
        return Reading("classes")

    @property
    def settings(self) -> dict[str, Any]:
        """Weights and smoothing are training's; the counts are for an adjustment after it."""
        settings: dict[str, Any] = {"kind": "classification"}
        if self.counts:
            settings["class_counts"] = list(self.counts)
        if self.calibrated_from:
            settings |= {key: getattr(self, key) for key in ("temperature", "set_threshold", "calibrated_from")}
        return settings

    @classmethod
    def restored(cls, settings: Mapping[str, Any], outputs: Labels) -> ClassTarget:
        """From a result."""
        known = {key: value for key, value in settings.items() if key not in ("kind", "class_counts")}
        return cls(outputs, counts=tuple(settings.get("class_counts", ())), **known)

    @property
    def problem_type(self) -> ProblemType:
        """Softmax."""
        return "single_label_classification"

    @property
    def offsets(self) -> tuple[float, ...]:
        """What the loss adds to the logits; empty where nothing is."""
        return log_prior(self.counts, self.logit_adjustment) if self.logit_adjustment else ()

    @property
    def parts(self) -> tuple[Part, ...]:
        """One, of all classes."""

        def encode(labels: Tensor) -> tuple[Tensor, Tensor]:
            return labels, self.row_weights(labels)

        return (Part(len(self.outputs.names), "softmax", encode, self.offsets),)

    @property
    def chosen_by(self) -> tuple[str, ...]:
        """The usual one first."""
        return ("accuracy", "balanced_accuracy", "macro_f1", "loss")

    def row_loss(self, own: RowLoss | None = None) -> RowLoss:
        """Cross-entropy, or `own`; either weighted by class, and of adjusted logits."""
        import torch

        from hf_finetune.tasks.loss import Adjusted, CrossEntropy, Weighted

        weights = self._class_weights()
        if own is None:
            loss: RowLoss = CrossEntropy(self.label_smoothing, weights)
        else:
            loss = own if weights is None else Weighted(own, weights)
        return Adjusted(loss, torch.tensor(self.offsets)) if self.offsets else loss

    def row_weights(self, labels: Tensor, partner_labels: Tensor | None = None, mix: Tensor | None = None) -> Tensor:
        """The weight of each row's class."""
        from hf_finetune.tasks.loss import row_weights

        return row_weights(labels, partner_labels, mix, self._class_weights(labels.device))

    def worth(self, logits: Tensor, labels: Tensor) -> Tensor:
        """1 where the best class is the right one."""
        return (logits.argmax(dim=-1) == labels).float()

    def answers(self, logits: np.ndarray, labels: np.ndarray) -> ClassAnswers:
        """The best classes, the confidence and the loss of each row."""
        from hf_finetune.tasks.scoring import answers_of

        return answers_of(logits if self.temperature == 1 else logits / self.temperature, labels)

    def calibrated(self, answers: Answers, labels: np.ndarray, what: str) -> ClassTarget:
        """Of answers with the temperature 1, which know where they are wrong."""
        del labels
        said = _of_classes(answers)
        at = said.best_temperature
        of_label = np.sort(np.exp(-said.tempered[:, at].astype(np.float64)))
        rank = int((len(of_label) + 1) * (1 - COVERAGE) + 1e-9)
        threshold = float(of_label[rank - 1]) if rank else None
        return replace(self, temperature=TEMPERATURES[at], set_threshold=threshold, calibrated_from=what)

    def uncalibrated(self) -> ClassTarget:
        """Without what `calibrated` chose."""
        return replace(self, temperature=1.0, set_threshold=None, calibrated_from="")

    def strength(self, logits: Tensor) -> Tensor:
        """The logarithm of the odds of the likeliest class, float [B]."""
        from hf_finetune.tasks.loss import log_odds

        return log_odds(logits)

    def again(self, answers: Answers) -> ClassAnswers:
        """With loss and confidence at its temperature."""
        said = _of_classes(answers)
        if self.temperature == 1:
            return said
        loss = said.tempered[:, TEMPERATURES.index(self.temperature)].astype(np.float64)
        loss[~np.isfinite(said.loss)] = np.nan
        return replace(said, loss=loss, confidence=np.exp(said.behind / self.temperature - loss))

    def predictions(self, logits: np.ndarray) -> list[Prediction]:
        """The class, its probability, and the set."""
        from hf_finetune.tasks.predictions import ClassPrediction

        names, threshold = self.outputs.names, self.set_threshold
        scaled = logits.astype(np.float64) / self.temperature
        shares = np.exp(scaled - scaled.max(1, keepdims=True))
        shares /= shares.sum(1, keepdims=True)
        found: list[Prediction] = []
        for row in shares:
            best = int(row.argmax())
            within = None if threshold is None else tuple(names[at] for at in np.flatnonzero(row >= threshold))
            found.append(ClassPrediction(names[best], float(row[best]), tuple(row.tolist()), names, within))
        return found

    def score(
        self, answers: Answers, labels: np.ndarray, *, full: bool, metrics: Mapping[str, Metric] = NO_METRICS
    ) -> dict[str, Any]:
        """What `score_answers` says."""
        from hf_finetune.tasks.scoring import score_answers

        said, threshold = _of_classes(answers), self.set_threshold if full else None
        result = score_answers(said, labels, self.outputs.names, full=full, metrics=metrics)
        if threshold is not None:
            result["covered"] = float((np.exp(-said.loss) >= threshold).mean())
        return result

    def differences(self, answers: Answers, than: Answers) -> tuple[int, float]:
        """Of predictions and of their probabilities."""
        one, other = _of_classes(answers), _of_classes(than)
        return int((one.predicted != other.predicted).sum()), float(np.abs(one.confidence - other.confidence).max())

    def table(self, answers: Answers, labels: np.ndarray) -> tuple[tuple[str, ...], Iterator[tuple[str, ...]]]:
        """Label, prediction and its probability, from which every accuracy can be recomputed."""
        said, names = _of_classes(answers), self.outputs.names
        rows = zip(labels.tolist(), said.predicted.tolist(), said.confidence.tolist(), strict=True)
        lines = ((names[label], names[best], f"{share:.6f}") for label, best, share in rows)
        return ("label", "predicted", "probability"), lines

    def gains(self, answers: Answers, than: Answers, labels: np.ndarray, by: str) -> np.ndarray:
        """By loss its fall, else 1 where only `answers` is right and −1 where only `than` is; for balanced
        accuracy rows are weighted so that classes count alike."""
        if by == "loss":
            return than.loss - answers.loss
        right, before = (_of_classes(each).predicted == labels for each in (answers, than))
        gains = right.astype(float) - before
        if by == "balanced_accuracy":
            _, place, sizes = np.unique(labels, return_inverse=True, return_counts=True)
            gains *= (len(labels) / (len(sizes) * sizes))[place]
        return gains

    def _class_weights(self, device: Any = "cpu") -> Tensor | None:
        return None if self.weights is None else _on_device(self.weights, str(device))


@lru_cache(maxsize=8)
def _on_device(weights: tuple[float, ...], device: str) -> Tensor:
    """Copied once: a copy in every loss waits for the GPU."""
    import torch

    return torch.tensor(weights, dtype=torch.float32, device=device)


def _of_classes(answers: Answers) -> ClassAnswers:
    if not isinstance(answers, ClassAnswers):
        raise TypeError(f"ClassAnswers are expected, got {type(answers).__name__}")
    return answers


def log_prior(counts: Sequence[int], strength: float = 1.0) -> tuple[float, ...]:
    """`strength` times the natural logarithm of each class's share of the training rows (Menon et al. 2021, arXiv
    2007.07314). A class without rows counts as one row."""
    shares = np.maximum(np.asarray(counts, np.float64), 1)
    return tuple((strength * np.log(shares / shares.sum())).tolist())


def auto_class_weights(label_counts: Sequence[int]) -> list[float]:
    """Inverse class frequency w_c = n / (C · n_c), so that the mean over the n training rows is 1.

    This is scikit-learn's `compute_class_weight("balanced")` (after King & Zeng 2001), with a cap: a class with less
    than a tenth of the mean class size is weighted as if it had that tenth (w ≤ 10), and the weights are scaled back
    to mean 1 over rows. Assumption: beyond that, one rare row outweighs the rest of its update and the gradient is
    mostly noise; inverse frequency is known to do badly on long tails (Cui et al. 2019, arXiv 1901.05555). A class
    without rows gets the cap's weight, as the rarest does.
    Raises DataError where no class has rows.
    """
    rows, classes = sum(label_counts), len(label_counts)
    if rows == 0:
        raise DataError("task.class_weights=auto: training rows are expected, found none.", "Check data.name.")
    capped = [min(_LARGEST_BOOST, rows / (classes * count)) if count else _LARGEST_BOOST for count in label_counts]
    mean = sum(weight * count for weight, count in zip(capped, label_counts, strict=True)) / rows
    return [weight / mean for weight in capped]
