from __future__ import annotations

import dataclasses
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from pydantic import ValidationError

from hf_finetune.data.augment.augmenter import Augmenter
from hf_finetune.data.config import Augment
from hf_finetune.preprocess.normalise import Normaliser
from hf_finetune.types import Preprocess

from .arrays import (
    BICUBIC,
    BILINEAR,
    assert_alike,
    make_preprocess,
    plain_preprocess,
    random_rows,
    smooth_photo,
    squash,
    to_pixels,
    to_tensors,
)

OFF = Augment(crop_scale=(1, 1), flip=0)
ALL = Augment(rotate_degrees=15, color=0.4, randaugment=3, erasing=0.5, mixup=0.4, cutmix=1.0)
SINGLE = {
    "crop": Augment(flip=0),
    "flip": Augment(crop_scale=(1, 1), flip=1),
    "rotation": Augment(crop_scale=(1, 1), flip=0, rotate_degrees=30),
    "colour": Augment(crop_scale=(1, 1), flip=0, color=0.9),
    "randaugment": Augment(crop_scale=(1, 1), flip=0, randaugment=4, randaugment_magnitude=10),
    "erasing": Augment(crop_scale=(1, 1), flip=0, erasing=1),
    "all": ALL,
}


def augmented(
    augmenter: Augmenter, pixels: torch.Tensor, sizes: np.ndarray, epoch: int = 0, seed: int = 0
) -> torch.Tensor:
    draws = augmenter.draw(np.arange(len(pixels)), sizes, epoch, seed)
    return augmenter.apply(pixels, to_tensors(draws))


def normalised(preprocess: Preprocess, pixels: torch.Tensor) -> torch.Tensor:
    return Normaliser(preprocess)({"pixel_values": pixels})


def stock_pixels(photo: Image.Image, side: int, edge: int | None) -> Image.Image:
    if edge is None:
        return photo.resize((side, side), BICUBIC)
    width, height = photo.size
    size = (edge, edge * height // width) if width <= height else (edge * width // height, edge)
    left, top = round((size[0] - side) / 2), round((size[1] - side) / 2)
    return photo.resize(size, BICUBIC).crop((left, top, left + side, top + side))


@pytest.mark.parametrize("edge", [None, 62, 56])
@pytest.mark.parametrize("size", [(300, 200), (90, 400), (64, 64), (20, 31)])
def test_everything_off_is_the_evaluation_geometry(size: tuple[int, int], edge: int | None):
    preprocess, photo = make_preprocess(edge=edge), smooth_photo(*size)
    rows, augmenter = squash([photo], 64), Augmenter(OFF, preprocess, 64)
    found = augmented(augmenter, torch.from_numpy(rows.pixels), rows.sizes)
    expected = normalised(preprocess, to_pixels(stock_pixels(photo, 56, edge)).byte()[None])
    difference = (found - expected).abs() * 0.225 * 255
    assert difference.mean() < 1.2 and difference.quantile(0.99) < 6


@pytest.mark.real
def test_everything_off_shows_real_photos_as_the_stock_rule_does(shared_data: Path):
    files = sorted((shared_data / "datasets" / "trashnet" / "test").glob("*/*"))[::40]
    assert len(files) > 8
    photos = [Image.open(file).convert("RGB") for file in files]
    rows = squash(photos, 256)
    preprocess = make_preprocess(224, 248)
    augmenter = Augmenter(OFF, preprocess, 256)
    found = augmented(augmenter, torch.from_numpy(rows.pixels), rows.sizes)
    stock = torch.stack([to_pixels(stock_pixels(photo, 224, 248)).byte() for photo in photos])
    difference = (found - normalised(preprocess, stock)).abs() * 0.225 * 255
    assert difference.mean() < 2.0


@pytest.mark.parametrize("bgr", [False, True])
def test_evaluation_is_the_stock_normalisation(bgr: bool):
    preprocess = dataclasses.replace(make_preprocess(), bgr=bgr, offset=-0.1)
    pixels = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16).expand(2, 3, 16, 16).contiguous()
    mean, std = (torch.tensor(v, dtype=torch.float64).view(3, 1, 1) for v in (preprocess.mean, preprocess.std))
    expected = (pixels.double() * preprocess.scale + preprocess.offset - mean) / std
    expected = expected.flip(1) if bgr else expected
    found = normalised(preprocess, pixels)
    assert found.dtype == torch.float32 and found.is_contiguous()
    assert (found - expected).abs().max() < 1e-6


def test_training_pixels_are_reversed_where_the_backbone_reads_bgr():
    rows = random_rows(4)
    pixels = torch.from_numpy(rows.pixels)
    rgb = augmented(Augmenter(ALL, plain_preprocess(), 64), pixels, rows.sizes)
    reverse = dataclasses.replace(plain_preprocess(), bgr=True)
    bgr = augmented(Augmenter(ALL, reverse, 64), pixels, rows.sizes)
    assert torch.equal(bgr, rgb.flip(1))


@pytest.mark.parametrize("name", SINGLE)
def test_no_step_leaves_the_range_of_pixels_or_gives_anything_non_finite(name: str):
    pixels = torch.from_numpy(np.random.default_rng(0).integers(0, 2, (40, 3, 64, 64), dtype=np.uint8) * 255)
    pixels[0], pixels[1], pixels[2] = 0, 255, 77
    sizes = np.random.default_rng(1).integers(1, 500, (40, 2))
    for resample in (BILINEAR, BICUBIC):
        preprocess = dataclasses.replace(plain_preprocess(), resample=resample)
        found = augmented(Augmenter(SINGLE[name], preprocess, 64), pixels, sizes)
        assert found.shape == (40, 3, 56, 56) and found.dtype == torch.float32
        assert torch.isfinite(found).all() and found.min() >= 0 and found.max() <= 1 + 1e-6


@pytest.mark.parametrize("name", SINGLE)
def test_a_row_looks_the_same_in_any_company(name: str):
    rows, augmenter = random_rows(24), Augmenter(SINGLE[name], make_preprocess(), 64)
    pixels, numbers = torch.from_numpy(rows.pixels), np.arange(24)
    whole = augmented(augmenter, pixels, rows.sizes, epoch=2, seed=9)
    order = np.random.default_rng(0).permutation(24)
    for parts in (1, 3, 5, 24):
        pieces = []
        for part in np.array_split(order, parts):
            draws = to_tensors(augmenter.draw(numbers[part], rows.sizes[part], 2, 9))
            pieces.append(augmenter.apply(pixels[part], draws))
        assert_alike(torch.cat(pieces), whole[order])
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(3 - min(threads, 2))
        assert_alike(augmented(augmenter, pixels, rows.sizes, epoch=2, seed=9), whole)
    finally:
        torch.set_num_threads(threads)


def test_epochs_seeds_and_partners_draw_anew_and_repeats_draw_the_same():
    rows, augmenter = random_rows(24), Augmenter(ALL, make_preprocess(), 64)
    numbers = np.arange(24)
    first = augmenter.draw(numbers, rows.sizes, epoch=1, seed=0)
    again = augmenter.draw(numbers, rows.sizes, epoch=1, seed=0)
    assert set(first) == {"grid", "color", "operations", "parameters", "erase"}
    for name, values in first.items():
        assert values.dtype == np.float32 and len(values) == 24
        np.testing.assert_array_equal(values, again[name])
    for other in (
        augmenter.draw(numbers, rows.sizes, epoch=2, seed=0),
        augmenter.draw(numbers, rows.sizes, epoch=1, seed=1),
        augmenter.draw(numbers, rows.sizes, epoch=1, seed=0, stream=1),
    ):
        assert all((values != other[name]).any() for name, values in first.items())


def test_switching_a_step_on_leaves_the_others_as_they_were_drawn():
    rows, numbers = random_rows(24), np.arange(24)
    few = Augmenter(Augment(color=0.3), make_preprocess(), 64).draw(numbers, rows.sizes, 0, 0)
    more = Augmenter(Augment(color=0.3, erasing=0.5), make_preprocess(), 64).draw(numbers, rows.sizes, 0, 0)
    for name, values in few.items():
        np.testing.assert_array_equal(values, more[name])


def test_the_draws_of_a_row_are_pinned():
    draws = Augmenter(Augment(color=0.4), make_preprocess(), 64).draw(
        np.array([3]), np.array([[500, 375]]), epoch=1, seed=5
    )
    np.testing.assert_allclose(draws["grid"][0], [[0.638, 0.0, 0.066], [0.0, 0.9706666, -0.0186667]], atol=1e-6)
    np.testing.assert_allclose(draws["color"][0], [1.3720427, 1.0905136, 1.1654721], atol=1e-6)


def test_flips_and_erasing_have_their_probability():
    rows = np.arange(4000)
    sizes = np.tile([80, 60], (4000, 1))
    draws = Augmenter(Augment(flip=0.3, erasing=0.2), make_preprocess(), 64).draw(rows, sizes, 0, 0)
    assert abs((draws["grid"][:, 0, 0] < 0).mean() - 0.3) < 0.03
    left, top, right, bottom = draws["erase"].T
    erased = right > left
    assert abs(erased.mean() - 0.2) < 0.03
    share = ((right - left) * (bottom - top))[erased] / 56**2
    assert 0.015 < share.min() < 0.03 and 0.28 < share.max() < 0.34
    assert left.min() >= 0 and right.max() <= 56 and bottom.max() <= 56


def test_what_is_erased_is_the_mean_and_the_rest_is_untouched():
    rows = random_rows(12)
    pixels = torch.from_numpy(rows.pixels)
    plain = augmented(Augmenter(Augment(), make_preprocess(), 64), pixels, rows.sizes)
    augmenter = Augmenter(Augment(erasing=1), make_preprocess(), 64)
    found = augmented(augmenter, pixels, rows.sizes)
    for image, before, box in zip(
        found, plain, augmenter.draw(np.arange(12), rows.sizes, 0, 0)["erase"].astype(int), strict=True
    ):
        left, top, right, bottom = box
        assert right > left and (image[:, top:bottom, left:right] == 0).all()
        outside = torch.ones(56, 56, dtype=torch.bool)
        outside[top:bottom, left:right] = False
        assert torch.equal(image[:, outside], before[:, outside])


def test_a_flip_is_the_mirror_image():
    rows = random_rows(6)
    pixels = torch.from_numpy(rows.pixels)
    flipped = augmented(Augmenter(SINGLE["flip"], make_preprocess(), 64), pixels, rows.sizes)
    plain = augmented(Augmenter(OFF, make_preprocess(), 64), pixels, rows.sizes)
    torch.testing.assert_close(flipped.flip(3), plain, atol=1e-3, rtol=0)


def test_rotation_stays_within_its_degrees():
    augmenter = Augmenter(SINGLE["rotation"], plain_preprocess(), 64)
    grid = augmenter.draw(np.arange(2000), np.tile([64, 64], (2000, 1)), 0, 0)["grid"]
    degrees = np.degrees(np.arctan2(grid[:, 1, 0], grid[:, 0, 0]))
    assert -30 <= degrees.min() < -29 and 29 < degrees.max() <= 30 and abs(degrees.mean()) < 2


def test_autocast_and_bfloat16_only_round_at_the_end():
    rows, augmenter = random_rows(5), Augmenter(ALL, make_preprocess(), 64)
    pixels = torch.from_numpy(rows.pixels)
    before = pixels.clone()
    draws = to_tensors(augmenter.draw(np.arange(5), rows.sizes, 0, 0))
    plain = augmenter.apply(pixels, draws)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(augmenter.apply(pixels, draws), plain)
    assert torch.equal(augmenter.apply(pixels, draws, torch.bfloat16), plain.bfloat16())
    assert torch.equal(pixels, before) and not plain.requires_grad


def test_an_augmenter_survives_pickling_small():
    augmenter = Augmenter(ALL, make_preprocess(), 64)
    blob = pickle.dumps(augmenter)
    rows = random_rows(3)
    pixels = torch.from_numpy(rows.pixels)
    assert len(blob) < 5000
    assert torch.equal(augmented(pickle.loads(blob), pixels, rows.sizes), augmented(augmenter, pixels, rows.sizes))


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"crop_scale": (0.8, 0.2)}, "expected [low, high] with low <= high and high above 0, found [0.8, 0.2]"),
        ({"crop_scale": (0, 0)}, "expected [low, high] with low <= high and high above 0, found [0.0, 0.0]"),
        ({"crop_ratio": (0, 1)}, "expected [low, high] with 0 < low <= high, found [0.0, 1.0]"),
        ({"crop_ratio": (2, 1)}, "expected [low, high] with 0 < low <= high, found [2.0, 1.0]"),
        ({"mixup": float("inf")}, "Input should be a finite number"),
    ],
)
def test_impossible_settings_are_refused(settings: dict[str, object], text: str):
    with pytest.raises(ValidationError) as caught:
        Augment.model_validate(settings)
    assert text in str(caught.value)
