"""What runs a frozen network forward: one interface, whatever computes. Imports torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor


@dataclass(frozen=True)
class Outputs:
    """Of a batch: `logits` float32 [B, C]; where they were asked for, `features` float32 [B, d], the inputs of the
    head, and `hidden` [B, …], the state that enters one block."""

    logits: Tensor
    features: Tensor | None = None
    hidden: Tensor | None = None

    @property
    def answer(self) -> Tensor:
        """What is compared between engines: the features, else the logits."""
        return self.logits if self.features is None else self.features

    @staticmethod
    def joined(parts: list[Outputs]) -> Outputs:
        """One batch after another."""
        features = [part.features for part in parts if part.features is not None]
        hidden = [part.hidden for part in parts if part.hidden is not None]
        return Outputs(
            torch.cat([part.logits for part in parts]),
            torch.cat(features) if features else None,
            torch.cat(hidden) if hidden else None,
        )


class Engine(Protocol):
    """Runs one network, as its weights are now, on normalised images.

    `name` is for people; `identity` is part of the name under which features are kept, and empty for the torch model:
    whatever changes an engine's numbers must change it. `device` is where it takes its images. A lack of memory is
    raised as torch's own error.
    """

    name: str
    identity: str
    device: torch.device

    def __call__(self, inputs: Tensor) -> Outputs:
        """float32 [B, 3, H, W], B of any size."""
        ...


class EngineRefusedError(Exception):
    """An engine cannot run this network here. The text is the reason, to stand after `because`, or a colon."""


def reason_of(error: BaseException) -> str:
    """One line of what an engine's library said: OpenVINO opens with where in its sources it happened."""
    error = error.__cause__ or error
    lines = [line.strip(" -") for line in str(error).splitlines() if line.strip()]
    places = ("Exception from", "Check '", "FrontEnd API failed", "Model wasn't fully")
    said = [line for line in lines if not line.startswith(places) and not line.endswith(":")]
    return ((said or lines or [type(error).__name__])[0])[:200]
