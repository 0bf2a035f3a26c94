"""The preprocessing contract: our pixels against the stock processors', over families, settings and awkward sizes."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from hf_finetune.errors import ModelError
from hf_finetune.preprocess.describe import read_preprocess, verify_preprocess
from hf_finetune.preprocess.pixels import normalise_constants, open_rgb, render
from hf_finetune.preprocess.stock import stock_processor, stock_renderer
from hf_finetune.types import CenterCrop, Preprocess, Resize, ResizeShortest
from tests.data.store.samples import MAX_PIXELS, encode, picture

PROCESSORS: list[tuple[str, dict[str, Any]]] = [
    ("ViT", {}),
    ("ViT", {"resample": 3, "do_normalize": False}),
    ("ViT", {"do_rescale": False}),
    ("DeiT", {}),
    ("Beit", {}),
    ("Bit", {}),
    ("Bit", {"size": {"shortest_edge": 256}, "crop_size": {"height": 225, "width": 223}}),  # odd margins
    ("ConvNext", {"size": {"shortest_edge": 384}}),
    ("ConvNext", {"size": {"shortest_edge": 224}, "crop_pct": 0.875}),
    ("ConvNext", {"size": {"shortest_edge": 224}, "crop_pct": 0.95, "resample": 2}),
    ("EfficientNet", {}),
    ("EfficientNet", {"rescale_offset": True, "rescale_factor": 1 / 127.5, "include_top": False, "resample": 0}),
    ("MobileNetV1", {}),
    ("MobileNetV2", {}),
    ("MobileViT", {}),
    ("MobileViT", {"size": {"shortest_edge": 288}, "do_flip_channel_order": False}),
    ("Siglip", {}),
    ("CLIP", {}),
    ("Levit", {}),
    ("PoolFormer", {}),
    ("PoolFormer", {"size": {"height": 224, "width": 224}, "crop_pct": 0.95}),
    ("Pvt", {}),
    ("Segformer", {}),
    ("Flava", {}),
]
STOCK_ONLY: list[tuple[str, dict[str, Any]]] = [("Perceiver", {})]
TIMM: list[dict[str, Any]] = [
    {"crop_mode": mode, "crop_pct": share, "input_size": [3, *size]}
    for mode in ("center", "squash", "border")
    for share in (0.875, 0.95, 1.0)
    for size in ((64, 64), (65, 71))
] + [
    {"interpolation": name, "mean": [0.1, 0.2, 0.3], "std": [0.9, 0.8, 0.7], "input_size": [3, 64, 64]}
    for name in ("nearest", "bilinear", "bicubic", "lanczos", "hamming", "box")
]


def files() -> list[bytes]:
    sizes = [(97, 61), (61, 97), (500, 333), (333, 501), (224, 224), (31, 400), (410, 30), (20, 20)]
    return [encode(picture(*size, number), "PNG" if number % 2 else "JPEG") for number, size in enumerate(sizes)]


def save_processor(folder: Path, family: str, settings: dict[str, Any]) -> str:
    folder.mkdir(exist_ok=True)
    text = json.dumps({"image_processor_type": f"{family}ImageProcessor", **settings})
    (folder / "preprocessor_config.json").write_text(text)
    return str(folder)


def save_timm(folder: Path, settings: dict[str, Any]) -> str:
    config = {"architecture": "test_vit", "num_classes": 10, "pretrained_cfg": settings}
    (folder / "config.json").write_text(json.dumps(config))
    return str(folder)


def assert_floats_equal(preprocess: Preprocess, pixels: np.ndarray, wanted: np.ndarray) -> None:
    multiply, add = normalise_constants(preprocess)
    values = pixels.astype(np.float32) * multiply[:, None, None] + add[:, None, None]
    values = values[::-1] if preprocess.bgr else values
    np.testing.assert_allclose(values, wanted, rtol=0, atol=1e-6 * max(1.0, np.abs(wanted).max()))


@pytest.mark.parametrize(("family", "settings"), PROCESSORS, ids=lambda value: str(value)[:40])
def test_steps_equal_the_transformers_processor_byte_for_byte(
    tmp_path: Path, family: str, settings: dict[str, Any]
) -> None:
    name = save_processor(tmp_path, family, settings)
    preprocess, processor = read_preprocess(name, None), stock_processor(name, None)
    assert preprocess.steps is not None
    plain: dict[str, Any] = {"do_rescale": False, "do_normalize": False}
    if family == "EfficientNet":
        plain["include_top"] = False
    for data in files():
        image = Image.open(io.BytesIO(data)).convert("RGB")
        pixels = render(open_rgb(data, MAX_PIXELS), preprocess)
        stock = np.asarray(processor(image, **plain)["pixel_values"][0])
        stock = stock[::-1] if preprocess.bgr else stock
        assert stock.dtype == np.uint8
        assert (pixels == stock).all()
        assert_floats_equal(preprocess, pixels, np.asarray(processor(image)["pixel_values"][0]))


@pytest.mark.parametrize("settings", TIMM, ids=lambda value: " ".join(str(each) for each in value.values()))
def test_pixels_equal_timms_transforms_byte_for_byte(tmp_path: Path, settings: dict[str, Any]) -> None:
    name = save_timm(tmp_path, settings)
    preprocess, processor = read_preprocess(name, None), stock_processor(name, None)
    square = settings["input_size"][1] == settings["input_size"][2]
    expected_in_steps = settings.get("crop_mode") != "border" and (square or settings.get("crop_mode") == "squash")
    assert (preprocess.steps is not None) == expected_in_steps
    stock = stock_renderer(processor)
    for data in files():
        image = Image.open(io.BytesIO(data)).convert("RGB")
        ours = open_rgb(data, MAX_PIXELS)
        pixels = render(ours, preprocess) if preprocess.steps is not None else stock(ours)
        shown = image
        for transform in processor.val_transforms.transforms[:-2]:  # without ToTensor and Normalize
            shown = transform(shown)
        assert (pixels == np.asarray(shown).transpose(2, 0, 1)).all()
        assert_floats_equal(preprocess, pixels, np.asarray(processor.val_transforms(image)))


@pytest.mark.parametrize(("family", "settings"), STOCK_ONLY, ids=lambda value: str(value)[:40])
def test_a_rule_that_steps_cannot_say_runs_the_processor_itself(
    tmp_path: Path, family: str, settings: dict[str, Any]
) -> None:
    name = save_processor(tmp_path / "perceiver", family, settings)
    preprocess, processor = read_preprocess(name, None), stock_processor(name, None)
    assert preprocess.steps is None
    assert (preprocess.height, preprocess.width) == (224, 224)
    assert preprocess.source.startswith("perceiver: PerceiverImageProcessor (stock, transformers ")
    for data in files():
        image = open_rgb(data, MAX_PIXELS)
        pixels = stock_renderer(processor)(image)
        assert pixels.dtype == np.uint8 and pixels.shape == (3, 224, 224)
        assert_floats_equal(preprocess, pixels, np.asarray(processor(image)["pixel_values"][0]))


def test_the_check_notices_every_wrong_setting(tmp_path: Path) -> None:
    name = save_processor(tmp_path, "Bit", {"size": {"shortest_edge": 55}, "crop_size": 48})
    right, processor = read_preprocess(name, None), stock_processor(name, None)
    images = [picture(*size) for size in ((61, 80), (80, 61), (48, 90))]
    assert right.steps == (ResizeShortest(55, 3), CenterCrop(48, 48, "floor"))
    assert verify_preprocess(right, processor, images)
    wrong = [
        replace(right, steps=(ResizeShortest(55, 3), CenterCrop(48, 48, "half_even"))),
        replace(right, steps=(ResizeShortest(55, 2), CenterCrop(48, 48, "floor"))),
        replace(right, steps=(ResizeShortest(56, 3), CenterCrop(48, 48, "floor"))),
        replace(right, steps=(Resize(55, 55, 3), CenterCrop(48, 48, "floor"))),
        replace(right, steps=(Resize(47, 48, 3),)),
        replace(right, mean=(0.5, 0.5, 0.5)),
        replace(right, std=(right.std[0] * 1.00001, *right.std[1:])),
        replace(right, scale=1 / 256),
        replace(right, offset=-1.0),
        replace(right, bgr=True),
    ]
    assert [verify_preprocess(each, processor, images) for each in wrong] == [False] * len(wrong)


def test_an_old_feature_extractor_config_is_read(tmp_path: Path) -> None:
    old = {"feature_extractor_type": "ViTFeatureExtractor", "size": 224, "resample": 2, "do_resize": True}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(old))
    assert read_preprocess(str(tmp_path), None).steps == (Resize(224, 224, 2),)


@pytest.mark.parametrize(
    ("family", "settings", "message"),
    [
        (
            "CLIP",
            {"do_center_crop": False},
            r"preprocessing to one fixed size was expected; .* gives images of 298 × 224",
        ),
        ("ViT", {"do_resize": False}, r"preprocessing to one fixed size was expected"),
        ("Siglip2", {}, r"gives pixel_values \[3, height, width\] was expected; .* an array of shape \(256, 768\)"),
        (
            "ImageGPT",
            {},
            r"gives pixel_values \[3, height, width\] was expected; .* does not: Clusters must be provided",
        ),
        ("NoSuch", {}, r"'.*' has no image processor that can be read: Unrecognized image processor"),
    ],
)
def test_a_processor_that_gives_no_fixed_rgb_image_is_refused(
    tmp_path: Path, family: str, settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(ModelError, match=message) as raised:
        read_preprocess(save_processor(tmp_path, family, settings), None)
    assert raised.value.message.startswith("model.name: ")
    assert raised.value.hint
    assert len(str(raised.value)) < 900


def test_a_folder_without_preprocessing_a_grey_model_and_a_random_filter_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="has no image processor that can be read: Can't load image processor"):
        read_preprocess(str(tmp_path), None)
    with pytest.raises(ModelError, match="a backbone for images of 3 channels was expected, this one takes 1"):
        read_preprocess(save_timm(tmp_path, {"input_size": [1, 28, 28], "mean": [0.5], "std": [0.5]}), None)
    with pytest.raises(ModelError, match="has no image processor that can be read: KeyError 'random'"):
        read_preprocess(save_timm(tmp_path, {"input_size": [3, 28, 28], "interpolation": "random"}), None)


@pytest.mark.real
@pytest.mark.parametrize(
    ("name", "steps"),
    [
        ("vit_tiny_timm", (ResizeShortest(248, 3), CenterCrop(224, 224, "half_even"))),
        ("vit_tiny_transformers", (Resize(224, 224, 3),)),
        ("mobilenetv2_timm", (ResizeShortest(248, 3), CenterCrop(224, 224, "half_even"))),
    ],
)
def test_real_checkpoints_are_read_and_equal_stock_on_real_photos(shared_data: Path, name: str, steps: Any) -> None:
    folder = str(shared_data / "weights" / name)
    preprocess = read_preprocess(folder, None)
    stock = stock_renderer(stock_processor(folder, None))
    assert (preprocess.steps, preprocess.mean, preprocess.std) == (steps, (0.5,) * 3, (0.5,) * 3)
    photos = [*sorted((shared_data / "datasets/hymenoptera/val").glob("*/*.jpg"))[:20]]
    photos += sorted((shared_data / "datasets/trashnet/test").glob("*/*"))[::40]
    assert len(photos) > 25
    for photo in photos:
        image = open_rgb(photo.read_bytes(), MAX_PIXELS)
        assert (render(image, preprocess) == stock(image)).all(), photo.name
