"""Single-label image classification: the recipe's `task` section, its loss and its class weights."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from hf_finetune.section import Section


class Classification(Section):
    """One label per image."""

    kind: Literal["classification"] = "classification"
    label_smoothing: float = Field(default=0.0, ge=0, lt=1)
    class_weights: Literal["none", "auto"] | tuple[Annotated[float, Field(gt=0)], ...] = Field(
        default="none", description="none, auto (inverse class frequency, mean 1), or one weight per class in label order"
    )
