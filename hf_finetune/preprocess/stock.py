"""The checkpoint's stock image processor: found, and made to give uint8 pixels.

Owns the one place where transformers' processors are called. Does not own what they are compared with
(`backbones/preprocess.py`) or stored in (`data/`): both folders use this module. Heavy imports are inside functions.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from hf_finetune.errors import ModelError, first_line

Renderer = Callable[[Image.Image], np.ndarray]

# What the processors raise on an image, or a configuration, that they were not made for.
STOCK_FAILURES = (ValueError, TypeError, LookupError, AttributeError, RuntimeError, ArithmeticError)


def stock_processor(name: str, revision: str | None) -> Any:
    """The stock image processor of a local folder or a Hub id, with the Pillow backend.

    Why Pillow's: it is what portable evaluation code can repeat anywhere. The default torchvision backend differs from
    it by one grey level in about 0.5 % of bytes, and its uint8 kernels depend on the CPU (seen with transformers 5.23).
    Raises ModelError where there is none, or where it cannot be read.
    """
    from transformers import AutoImageProcessor

    name = str(Path(name).expanduser()) if name.startswith("~") else name
    try:
        # Without a word on code of the repo's own transformers asks at a terminal, and then runs it.
        return AutoImageProcessor.from_pretrained(name, revision=revision, backend="pil", trust_remote_code=False)
    except (OSError, ImportError, *STOCK_FAILURES) as error:
        if "trust_remote_code" in str(error) or "custom code" in str(error):
            raise ModelError(
                f"model.name: the image processor of {name!r} needs code from its own repository, which is never run "
                "here",
                "take a model whose processor is one of transformers' own, or of timm",
            ) from None
        raise ModelError(
            f"model.name: an image classifier with its preprocessing was expected; {name!r} has no image processor "
            f"that can be read: {library_words(error)}",
            "it needs preprocessor_config.json (transformers) or a config.json with pretrained_cfg (timm)",
        ) from error


def is_timm(processor: Any) -> bool:
    """Whether it is transformers' wrapper of timm's transforms."""
    return type(processor).__name__ == "TimmWrapperImageProcessor"


def kind_of(processor: Any) -> str:
    """The name of its class, the same for each backend."""
    return type(processor).__name__.removesuffix("Pil")


def stock_renderer(processor: Any) -> Renderer:
    """A function RGB image → uint8 [3, H, W] in RGB order: the stock processor without rescaling and normalising."""
    if is_timm(processor):
        return lambda image: _timm_pixels(processor, image)
    overrides: dict[str, Any] = {"do_rescale": False, "do_normalize": False}
    if getattr(processor, "include_top", None) is not None:
        overrides["include_top"] = False
    if getattr(processor, "do_flip_channel_order", None) is not None:
        overrides["do_flip_channel_order"] = False

    def pixels(image: Image.Image) -> np.ndarray:
        return _as_uint8(np.asarray(processor(image, **overrides)["pixel_values"][0]))

    return pixels


def _timm_pixels(processor: Any, image: Image.Image) -> np.ndarray:
    for transform in processor.val_transforms.transforms:
        if type(transform).__name__ in {"ToTensor", "MaybeToTensor", "MaybePILToTensor", "Normalize"}:
            break
        image = transform(image)
    return _as_uint8(np.asarray(image).transpose(2, 0, 1))


def _as_uint8(pixels: np.ndarray) -> np.ndarray:
    if pixels.ndim != 3 or pixels.shape[0] != 3:
        raise ValueError(f"it gives an array of shape {pixels.shape} instead of [3, height, width]")
    if pixels.dtype == np.uint8:
        return np.ascontiguousarray(pixels)
    whole = np.rint(pixels)
    if not np.array_equal(whole, pixels) or whole.min() < 0 or whole.max() > 255:
        raise ValueError("before normalisation it gives values that are not whole numbers from 0 to 255")
    return np.ascontiguousarray(whole.astype(np.uint8))


def library_words(error: BaseException) -> str:
    """The library's own words, cut: transformers lists every model type it knows in one of them."""
    line = first_line(error)
    if isinstance(error, LookupError):
        line = f"{type(error).__name__} {line}"
    return line if len(line) <= 240 else f"{line[:240]} …"
