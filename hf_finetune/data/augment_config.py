"""The recipe's `augment` section: what is done to training images, on the device that trains."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from hf_finetune.section import Section

Probability = Annotated[float, Field(ge=0, le=1)]
Strength = Annotated[float, Field(ge=0)]


class Augment(Section):
    """Per-sample augmentation of the batch. Zero switches a step off."""

    crop_scale: tuple[Probability, Probability] = Field(
        default=(0.35, 1.0), description="area of the random resized crop as a share of the image; [1, 1]: the centre crop"
    )
    crop_ratio: tuple[float, float] = Field(default=(0.75, 4 / 3), description="aspect of the crop, in original pixels")
    flip: Probability = Field(default=0.5, description="probability of a horizontal flip; 0 for text and digits")
    rotate_degrees: Strength = Field(default=0.0, description="rotation drawn from ± this many degrees")
    color: Strength = Field(default=0.0, description="brightness, contrast and saturation jitter, ± this share")
    randaugment: int = Field(default=0, ge=0, le=4, description="number of random operations per image")
    randaugment_magnitude: float = Field(default=9.0, ge=0, le=10, description="their strength, 0 to 10")
    mixup: Strength = Field(default=0.0, description="alpha of the Beta distribution; 0.2 to 0.8 are usual")
    cutmix: Strength = Field(default=0.0, description="alpha of the Beta distribution; 1.0 is usual")
    erasing: Probability = Field(default=0.0, description="probability of random erasing")
