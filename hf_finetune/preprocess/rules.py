"""What a stock image processor's attributes say it does, as steps and constants; not yet checked.

One function a library; a family with a resize rule of its own is named in `_resize_steps`. The check against the
processor itself is in `describe.py`, so a rule that is wrong here costs speed, never pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from hf_finetune.errors import ModelError
from hf_finetune.preprocess.stock import is_timm, kind_of
from hf_finetune.types import CenterCrop, PixelStep, Resize, ResizeShortest

# Names of torchvision's InterpolationMode → Pillow's resampling numbers (Pillow's Image.Resampling).
_PILLOW_NUMBERS = {"nearest": 0, "nearest-exact": 0, "lanczos": 1, "bilinear": 2, "bicubic": 3, "box": 4, "hamming": 5}


@dataclass(frozen=True)
class Rule:
    """What a processor's attributes say, before it is checked."""

    steps: tuple[PixelStep, ...] | None
    mean: tuple[float, ...]
    std: tuple[float, ...]
    scale: float
    offset: float
    bgr: bool
    resample: int


def read_rule(processor: Any) -> Rule:
    """The rule of a timm or transformers image processor. Raises ModelError where it is not for 3 channels."""
    return _timm_rule(processor) if is_timm(processor) else _transformers_rule(processor)


def _transformers_rule(processor: Any) -> Rule:
    attributes = vars(processor)
    kind = kind_of(processor)
    image_std = _triple(attributes.get("image_std"), 1.0)
    mean, std = (0.0,) * 3, (1.0,) * 3
    # MobileViT's own _preprocess never normalises, whatever its config says.
    if attributes.get("do_normalize") and kind != "MobileViTImageProcessor":
        mean, std = _triple(attributes.get("image_mean"), 0.0), image_std
    if kind == "EfficientNetImageProcessor" and attributes.get("include_top"):
        # It divides by std once more ("include_top"): (x − mean) / std / std.
        std = tuple(first * second for first, second in zip(std, image_std, strict=True))
    offset = -1.0 if attributes.get("rescale_offset") else 0.0
    return Rule(
        steps=_transformers_steps(processor, kind),
        mean=mean,
        std=std,
        scale=float(attributes.get("rescale_factor") or 1.0) if attributes.get("do_rescale") else 1.0,
        offset=offset if attributes.get("do_rescale") else 0.0,
        bgr=bool(attributes.get("do_flip_channel_order")),
        resample=_resample(attributes.get("resample")),
    )


def _transformers_steps(processor: Any, kind: str) -> tuple[PixelStep, ...] | None:
    attributes = vars(processor)
    resample = _resample(attributes.get("resample"))
    steps: list[PixelStep] = []
    if kind == "PerceiverImageProcessor":
        return None  # crops a share of the image first, then resizes
    if attributes.get("do_resize"):
        resize = _resize_steps(kind, attributes, resample)
        if resize is None:
            return None
        steps += resize
    if attributes.get("do_center_crop"):
        crop = attributes.get("crop_size")
        if crop is None or not (crop.height and crop.width):
            return None
        steps.append(CenterCrop(int(crop.height), int(crop.width), "floor"))
    return tuple(steps)


def _resize_steps(kind: str, attributes: dict[str, Any], resample: int) -> list[PixelStep] | None:
    """The processor's `resize`, each family by its own rule (read in transformers 5.23)."""
    size = attributes.get("size")
    if size is None or size.longest_edge or size.max_height or size.max_width:
        return None
    edge, height, width = size.shortest_edge, size.height, size.width
    share = attributes.get("crop_pct")
    if kind == "ConvNextImageProcessor" and edge:
        if edge >= 384:
            return [Resize(edge, edge, resample)]
        return [ResizeShortest(int(edge / share), resample), CenterCrop(edge, edge, "floor")]
    if kind == "PoolFormerImageProcessor" and share is not None and (edge or height == width):
        return [ResizeShortest(int((edge or height) / share), resample)]
    if kind == "LevitImageProcessor" and edge:
        return [ResizeShortest(int((256 / 224) * edge), resample)]
    if edge:
        return [ResizeShortest(int(edge), resample)]
    return [Resize(int(height), int(width), resample)] if height and width else None


def _timm_rule(processor: Any) -> Rule:
    config = processor.data_config
    if len(config["mean"]) != 3 or config["input_size"][0] != 3:
        raise ModelError(
            f"model.name: a backbone for images of 3 channels was expected, this one takes {config['input_size'][0]}",
            "choose a checkpoint that was trained on RGB images",
        )
    return Rule(
        steps=_timm_steps(processor.val_transforms.transforms),
        mean=_triple(config["mean"], 0.0),
        std=_triple(config["std"], 1.0),
        scale=1 / 255,
        offset=0.0,
        bgr=False,
        resample=_PILLOW_NUMBERS.get(config["interpolation"], 3),
    )


def _timm_steps(transforms: Sequence[Any]) -> tuple[PixelStep, ...] | None:
    """timm's evaluation transforms as steps; None where one of them is of another kind (borders, non-square)."""
    steps: list[PixelStep] = []
    for transform in transforms:
        match type(transform).__name__:
            case "Resize" if transform.max_size is None:
                resample = _resample(transform.interpolation)
                if isinstance(transform.size, int) or len(transform.size) == 1:
                    edge = transform.size if isinstance(transform.size, int) else transform.size[0]
                    steps.append(ResizeShortest(int(edge), resample))
                else:
                    steps.append(Resize(int(transform.size[0]), int(transform.size[1]), resample))
            case "CenterCrop":
                steps.append(CenterCrop(int(transform.size[0]), int(transform.size[1]), "half_even"))
            case "ToTensor" | "MaybeToTensor" | "Normalize":
                continue
            case _:
                return None
    return tuple(steps)


def _resample(value: Any) -> int:
    """Pillow's number, from a number, Pillow's enum or torchvision's; bilinear where the processor leaves it open."""
    if value is None:
        return _PILLOW_NUMBERS["bilinear"]
    name = getattr(value, "value", value)
    return _PILLOW_NUMBERS[name] if isinstance(name, str) else int(name)


def _triple(value: Any, default: float) -> tuple[float, ...]:
    if value is None:
        return (default,) * 3
    values = (float(value),) * 3 if isinstance(value, int | float) else tuple(float(each) for each in value)
    return values * 3 if len(values) == 1 else values
