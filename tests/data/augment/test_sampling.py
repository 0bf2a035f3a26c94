from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from hf_finetune.data.augment import geometry
from hf_finetune.data.augment.sampling import gather_rows, multiply_rows, sample_affine, sample_separable, taps

from .arrays import BICUBIC, BILINEAR, smooth_photo, squash, to_pixels

SIDE, OUTPUT = 128, 112
SHAPES = [(400, 300), (150, 600), (700, 120), (128, 128), (37, 50)]


def stored(photo: Image.Image, side: int = SIDE) -> torch.Tensor:
    return torch.from_numpy(squash([photo], side).pixels)


def box_grid(box: tuple[int, int, int, int], photo: Image.Image, flipped: bool = False) -> np.ndarray:
    grid = geometry.crop_grid(np.array([box], dtype=float), np.array([photo.size]))
    return geometry.compose(grid, geometry.flip_grid(np.array([flipped])))


def shown(photo: Image.Image, grid: np.ndarray, path: str, size: tuple[int, int] = (OUTPUT, OUTPUT)) -> torch.Tensor:
    pixels, tensor = stored(photo), torch.from_numpy(grid.astype(np.float32))
    if path == "affine":
        return sample_affine(pixels, tensor, *size)[0]
    return sample_separable(pixels, tensor, *size, cubic=path == "cubic")[0]


def a_box(photo: Image.Image, share: float = 0.6) -> tuple[int, int, int, int]:
    width, height = photo.size
    return round(0.3 * width), round(0.1 * height), round(share * width), round(0.9 * share * height)


@pytest.mark.parametrize("path", ["linear", "cubic", "affine"])
@pytest.mark.parametrize("flipped", [False, True])
@pytest.mark.parametrize("size", SHAPES)
def test_a_crop_of_the_squashed_square_is_pillows_crop_of_the_original(size: tuple[int, int], flipped: bool, path: str):
    photo = smooth_photo(*size)
    left, top, wide, tall = a_box(photo)
    expected = photo.resize((OUTPUT, OUTPUT), BICUBIC, box=(left, top, left + wide, top + tall))
    if flipped:
        expected = expected.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    found = shown(photo, box_grid((left, top, wide, tall), photo, flipped), path)
    difference = (found - to_pixels(expected)).abs()
    assert difference.mean() < 1.2 and difference.quantile(0.999) < 8


@pytest.mark.parametrize("path", ["linear", "cubic", "affine"])
@pytest.mark.parametrize("size", SHAPES)
def test_a_marked_point_lands_where_the_crop_puts_it(size: tuple[int, int], path: str):
    width, height = size
    x, y = np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5)
    mark_x, mark_y = 0.55 * width, 0.35 * height
    blob = 255 * np.exp(-(((x - mark_x) / (0.04 * width)) ** 2 + ((y - mark_y) / (0.04 * height)) ** 2))
    photo = Image.fromarray(np.repeat(blob.astype(np.uint8)[..., None], 3, axis=2))
    left, top, wide, tall = a_box(photo)
    for flipped in (False, True):
        image = shown(photo, box_grid((left, top, wide, tall), photo, flipped), path)[0].double()
        total = image.sum()
        found_x = float((image.sum(0) * (torch.arange(OUTPUT) + 0.5)).sum() / total)
        found_y = float((image.sum(1) * (torch.arange(OUTPUT) + 0.5)).sum() / total)
        expected_x = (mark_x - left) / wide * OUTPUT
        assert found_x == pytest.approx(OUTPUT - expected_x if flipped else expected_x, abs=0.25)
        assert found_y == pytest.approx((mark_y - top) / tall * OUTPUT, abs=0.25)


def test_a_circle_of_a_wide_and_of_a_tall_photo_is_a_circle_again():
    for width, height in ((600, 200), (200, 600)):
        x, y = np.meshgrid(np.arange(width) + 0.5 - width / 2, np.arange(height) + 0.5 - height / 2)
        disc = np.where(x**2 + y**2 < 60**2, 255, 0).astype(np.uint8)
        photo = Image.fromarray(np.repeat(disc[..., None], 3, axis=2))
        box = (width // 2 - 100, height // 2 - 100, 200, 200)
        image = shown(photo, box_grid(box, photo), "cubic")[0]
        middle = OUTPUT // 2
        across, down = float(image[middle].sum() / 255), float(image[:, middle].sum() / 255)
        assert across == pytest.approx(120 / 200 * OUTPUT, abs=1)
        assert down == pytest.approx(across, abs=1)


@pytest.mark.parametrize("degrees", [-25.0, 10.0, 90.0])
def test_rotation_is_pillows_and_undoes_the_squash(degrees: float):
    photo = smooth_photo(400, 240)
    box = (80, 20, 200, 200)
    grid = geometry.compose(box_grid(box, photo), geometry.rotation_grid(np.array([degrees]), OUTPUT, OUTPUT))
    expected = photo.rotate(degrees, Image.Resampling.BICUBIC, center=(180, 120)).crop((80, 20, 280, 220))
    expected = to_pixels(expected.resize((OUTPUT, OUTPUT), BICUBIC))
    difference = (shown(photo, grid, "affine") - expected).abs()
    middle = difference[:, 30:-30, 30:-30]
    assert middle.mean() < 1.2 and middle.max() < 6


@pytest.mark.parametrize("cubic", [False, True])
@pytest.mark.parametrize(("source", "output"), [(128, 112), (64, 100), (300, 64), (7, 5), (1, 4)])
def test_gathering_and_multiplying_are_the_same_sums(source: int, output: int, cubic: bool):
    torch.manual_seed(0)
    values = torch.rand(5, 3, source, 11) * 255
    weights = taps(torch.tensor([1.0, -0.7, 0.3, 1.0, -0.05]), torch.linspace(-0.5, 0.9, 5), source, output, cubic)
    torch.testing.assert_close(multiply_rows(values, *weights), gather_rows(values, *weights), atol=1e-3, rtol=0)


@pytest.mark.parametrize("resample", [BILINEAR, BICUBIC])
@pytest.mark.parametrize("output", [300, 112, 40])
def test_the_whole_square_is_pillows_resize_away_from_its_edges(output: int, resample: int):
    # Not the whole range: Pillow clips overshoots between its two passes.
    noise = np.random.default_rng(0).integers(90, 166, (SIDE, SIDE, 3), dtype=np.uint8)
    expected = to_pixels(Image.fromarray(noise).resize((output, output), resample))
    grid = torch.tensor([[[1.0, 0, 0], [0, 1, 0]]])
    pixels = torch.from_numpy(noise.transpose(2, 0, 1).copy())[None]
    found = sample_separable(pixels, grid, output, output, cubic=resample == BICUBIC)[0]
    edge = max(3, 3 * output // SIDE)
    assert (found - expected)[:, edge:-edge, edge:-edge].abs().max() < 1.5


@pytest.mark.parametrize("path", ["linear", "cubic", "affine"])
def test_a_shrunken_fine_pattern_turns_grey_instead_of_aliasing(path: str):
    pattern = ((np.arange(SIDE)[:, None] + np.arange(SIDE)) % 2 * 255).astype(np.uint8)
    photo = Image.fromarray(np.repeat(pattern[..., None], 3, axis=2))
    grid = geometry.crop_grid(np.array([[0.0, 0, SIDE, SIDE]]), np.array([photo.size]))
    image = shown(photo, grid, path, size=(30, 30))
    assert (image - 127.5).abs().max() < 32
    plain = stored(photo)[0, 0, ::4, ::4].float()
    assert (plain - 127.5).abs().min() == 127.5


@pytest.mark.parametrize("path", ["linear", "cubic", "affine"])
def test_beyond_the_edge_the_image_is_mirrored(path: str):
    photo = smooth_photo(SIDE, SIDE)
    whole = geometry.crop_grid(np.array([[0.0, 0, SIDE, SIDE]]), np.array([photo.size]))
    moved = geometry.compose(whole, geometry.shift_grid(np.array([0.25]), np.array([-0.25])))
    image = shown(photo, moved, path, size=(SIDE, SIDE))
    quarter, pixels = SIDE // 4, stored(photo)[0].float()
    torch.testing.assert_close(image[:, :-quarter, quarter:], pixels[:, quarter:, :-quarter], atol=0.01, rtol=0)
    mirrored = pixels[:, quarter:, :quarter].flip(2)
    torch.testing.assert_close(image[:, :-quarter, :quarter], mirrored, atol=0.01, rtol=0)
    beyond = image[:, -2 * quarter : -quarter].flip(1)  # from places that are computed otherwise
    torch.testing.assert_close(image[:, -quarter:], beyond, atol=0.01, rtol=0)


def test_both_paths_agree_where_nothing_turns_or_shrinks():
    photo = smooth_photo(300, 200)
    grid = box_grid(a_box(photo), photo, flipped=True)
    torch.testing.assert_close(shown(photo, grid, "affine"), shown(photo, grid, "linear"), atol=0.01, rtol=0)


@pytest.mark.parametrize("path", ["linear", "cubic", "affine"])
def test_outputs_need_not_be_square_and_stay_in_range(path: str):
    noise = np.random.default_rng(0).integers(0, 2, (90, 120, 3), dtype=np.uint8) * 255
    photo = Image.fromarray(noise)
    image = shown(photo, box_grid((0, 0, 120, 90), photo), path, size=(60, 100))
    assert image.shape == (3, 60, 100) and image.min() >= 0 and image.max() <= 255
