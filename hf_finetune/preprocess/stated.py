"""What a result's file may state of preprocessing: steps that can be taken, and numbers that normalise.

A scale that is no number answers every image alike, and a side of a million pixels ends in the system's killer.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from hf_finetune.files.stated import as_stated, check_within
from hf_finetune.types import CenterCrop, PixelStep, Preprocess, Resize, ResizeShortest

STEPS: Mapping[str, type[PixelStep]] = {"resize": Resize, "resize_shortest": ResizeShortest, "center_crop": CenterCrop}
LONGEST_SIDE = 8_192
FILTERS = range(6)  # Pillow's numbers of them


def step_as_stated(content: Mapping[str, Any]) -> PixelStep:
    """Raises ValueError, LookupError or TypeError."""
    stated = dict(content)
    step = as_stated(STEPS[stated.pop("step")], stated)
    sides = [getattr(step, each.name) for each in fields(step) if each.name in ("height", "width", "edge")]
    check_within("a step's side", sides, 1, LONGEST_SIDE)
    if not isinstance(step, CenterCrop) and step.resample not in FILTERS:
        raise ValueError(f"resample: one of Pillow's filters is expected, found {step.resample}")
    return step


def check_preprocess(preprocess: Preprocess) -> None:
    """Raise ValueError where pixels could not be normalised by it."""
    check_within("height and width", (preprocess.height, preprocess.width), 1, LONGEST_SIDE)
    for name in ("mean", "std"):
        values = getattr(preprocess, name)
        if len(values) != 3:
            raise ValueError(f"{name}: 3 numbers are expected, found {len(values)}")
    if not all(preprocess.std) or not preprocess.scale:
        raise ValueError("std and scale: numbers other than 0 are expected")
    if preprocess.value_range is not None and not preprocess.value_range[0] < preprocess.value_range[1]:
        raise ValueError("value_range: a low and a higher number are expected")
