"""What the targets have in common whose outputs are values by themselves: labels, numbers, grades."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import fields
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np

from hf_finetune.labels import Answers, Labels

if TYPE_CHECKING:
    from torch import Tensor

    from hf_finetune.tasks.loss import RowLoss


class ValueTarget(ABC):
    """Rows count alike, and answers are the same before and after calibration, which changes how they are scored."""

    @abstractmethod
    def row_loss(self, own: RowLoss | None = None) -> RowLoss:
        """As `Target.row_loss`."""

    def row_weights(self, labels: Tensor, partner_labels: Tensor | None = None, mix: Tensor | None = None) -> Tensor:
        """float32 [B] of ones."""
        import torch

        del partner_labels, mix
        return torch.ones(len(labels), dtype=torch.float32, device=labels.device)

    def worth(self, logits: Tensor, labels: Tensor) -> Tensor:
        """The likelihood that goes with the loss, float [B]."""
        return (-self.row_loss()(logits, labels)).exp()

    def strength(self, logits: Tensor) -> Tensor:
        """The sum of the outputs, float [B]: what makes numbers and grades larger."""
        return logits.sum(1)

    def losses(self, logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
        """float64 [N], NaN where a logit is not finite."""
        import torch

        found = self.row_loss()(torch.from_numpy(logits).float(), torch.from_numpy(np.asarray(labels)))
        return np.where(np.isfinite(logits).all(1), found.double().numpy(), np.nan)

    def gains(self, answers: Answers, than: Answers, labels: np.ndarray, by: str) -> np.ndarray:
        """The fall of the loss, float [N], whichever metric chooses: most are no means over rows."""
        del labels, by
        return than.loss - answers.loss

    def again(self, answers: Answers) -> Answers:
        """As they are."""
        return answers


class NamedTarget(ValueTarget):
    """A dataclass whose fields, but for `outputs`, are what a result keeps of it under its `kind`."""

    kind: ClassVar[str]

    @property
    def settings(self) -> dict[str, Any]:
        """Everything but the outputs."""
        names = (each.name for each in fields(self) if each.name != "outputs")  # pyright: ignore[reportArgumentType]
        return {"kind": self.kind, **{name: getattr(self, name) for name in names}}

    @classmethod
    def restored(cls, settings: Mapping[str, Any], outputs: Labels) -> Self:
        """From a result."""
        known = {key: tuple(of) if isinstance(of, list) else of for key, of in settings.items() if key != "kind"}
        return cls(outputs, **known)  # pyright: ignore[reportCallIssue]


def sigmoid(logits: np.ndarray) -> np.ndarray:
    """float64, without an overflow."""
    return 0.5 * (1 + np.tanh(logits.astype(np.float64) / 2))
