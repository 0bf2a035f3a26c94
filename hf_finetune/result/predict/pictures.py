"""What a program may hand over to be classified: paths, encoded bytes, Pillow images, arrays; one or several."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from os import PathLike
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from PIL import Image

from hf_finetune.errors import DataError

Picture: TypeAlias = str | Path | bytes | Image.Image | np.ndarray
_EXPECTED = "a path, encoded bytes, a Pillow image or an array is expected"


def several(images: Picture | Iterable[Picture]) -> Iterable[Picture]:
    """The images one by one, whether one was given alone or several. Raises DataError for what is neither."""
    if isinstance(images, str | bytes | Image.Image):
        return [images]
    if isinstance(images, PathLike):
        return [Path(images)]
    if _is_tensor(images) or isinstance(images, np.ndarray):
        array = np.asarray(images)
        return list(array) if array.ndim == 4 else [array]
    if isinstance(images, Mapping) or not isinstance(images, Iterable):
        raise DataError(f"{_EXPECTED.capitalize()}, or several; found {type(images).__name__}.")
    return images


def as_pillow(image: Any) -> Image.Image:
    """A Pillow image of one that is none yet but an array. Raises DataError, with what would do."""
    if isinstance(image, Image.Image):
        return image
    if not isinstance(image, np.ndarray) and not _is_tensor(image):
        raise DataError(f"{_EXPECTED.capitalize()}; found {type(image).__name__}.")
    array = np.asarray(image)
    if array.ndim == 3 and array.shape[-1] == 1:
        array = array[..., 0]
    grey, colour = array.ndim == 2, array.ndim == 3 and array.shape[-1] in (3, 4)
    if 0 in array.shape or not (grey or colour):
        turned = array.ndim == 3 and array.shape[0] in (1, 3, 4)
        remedy = "Put the channels last: array.transpose(1, 2, 0)." if turned else "Several are given as a list."
        raise DataError(f"An array [H, W] or [H, W, 3] is expected, found {list(array.shape)}.", remedy)
    if array.dtype == bool:
        array = array.astype(np.uint8) * 255
    if array.dtype != np.uint8 and not (grey and array.dtype == np.uint16):
        raise DataError(
            f"An array of uint8 from 0 to 255 is expected (uint16 for grey), found {array.dtype}.",
            "From 0 to 1: (array * 255).round().astype(numpy.uint8).",
        )
    return Image.fromarray(np.ascontiguousarray(array))


def _is_tensor(image: Any) -> bool:
    return hasattr(image, "detach") and hasattr(image, "__array__")
