"""A transform that a program brings: called image by image, with random numbers that belong to the image.

Image by image, since most transforms draw once a call, and a batch would be flipped as one. Every call is seeded by
row and epoch, so that the pieces of an update, its replay and a resumed run see the same image.
"""

from __future__ import annotations

import random
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from hf_finetune.errors import TrainingError

Transform = Callable[[Tensor], Tensor]  # one image, uint8 [3, H, W] -> the same
_SEEDS = 2**24  # what a float32 in 0 … 1 tells apart


def transformed(images: Tensor, seeds: Tensor, transform: Transform) -> Tensor:
    """float32 [B, 3, H, W] in 0 … 255 and a number in 0 … 1 for each [B] -> the same, transformed.

    The generators of torch, numpy and Python are as they were afterwards. Raises TrainingError as
    `checked`.
    """
    result = images.new_empty(images.shape)
    devices = [images.device] if images.device.type == "cuda" else []
    before = random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng(devices):
            for place, seed in enumerate((seeds.double() * _SEEDS).long().tolist()):
                torch.manual_seed(seed)
                random.seed(seed)
                np.random.seed(seed)
                result[place] = checked(transform, images[place].round().clamp(0, 255).to(torch.uint8))
    finally:
        random.setstate(before[0])
        np.random.set_state(before[1])
    return result


def checked(transform: Transform, image: Tensor) -> Tensor:
    """What the transform makes of one image. Raises TrainingError where it fails, or gives another shape or type."""
    shape = list(image.shape)
    try:
        found = transform(image)
    except Exception as error:
        raise TrainingError(
            f"transform=, given a tensor uint8 {shape}, raised {type(error).__name__}: {error}.", "Mend that function."
        ) from error
    if not isinstance(found, Tensor) or list(found.shape) != shape or found.dtype != torch.uint8:
        what = f"{found.dtype} {list(found.shape)}" if isinstance(found, Tensor) else type(found).__name__
        raise TrainingError(
            f"transform=: a tensor uint8 {shape} is expected for one of that shape, found {what}.",
            "Resizing and normalising are the checkpoint's; leave both out.",
        )
    return found
