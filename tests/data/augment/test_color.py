from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torchvision.transforms import functional as stock

from hf_finetune.data.augment import color
from hf_finetune.data.augment.draws import uniform
from hf_finetune.data.augment.randaugment import COLOR_OPERATIONS, NAMES, apply_operations, draw_operations

from .arrays import smooth_photo, to_pixels


def photos() -> torch.Tensor:
    """uint8 [5, 3, 40, 50]: smooth, noisy, dark, flat and two-valued."""
    generator = np.random.default_rng(0)
    noise = generator.integers(0, 256, (3, 40, 50), dtype=np.uint8)
    images = [
        to_pixels(smooth_photo(50, 40)).byte().numpy(),
        noise,
        noise // 5 + 20,
        np.full((3, 40, 50), 77, dtype=np.uint8),
        np.where(noise > 200, 255, 0).astype(np.uint8),
    ]
    return torch.from_numpy(np.stack(images))


Stock = Callable[[torch.Tensor, float], torch.Tensor]
FACTORS = [0.0, 0.37, 1.0, 1.9]
CASES: list[tuple[str, Stock, list[float], float]] = [
    ("brightness", stock.adjust_brightness, FACTORS, 1.01),
    # torchvision rounds the grey or smoothed picture to whole levels before it takes the mean, or blends.
    ("contrast", stock.adjust_contrast, FACTORS, 2.01),
    ("saturation", stock.adjust_saturation, FACTORS, 2.01),
    ("sharpness", stock.adjust_sharpness, FACTORS, 2.01),
    ("posterize", lambda image, bits: stock.posterize(image, int(bits)), [8, 7, 5, 4, 1], 0.01),
    ("solarize", lambda image, bound: stock.solarize(image, round(bound * 255)), [0.0, 128 / 255, 1.0], 0.01),
    ("autocontrast", lambda image, _: stock.autocontrast(image), [0.0], 1.01),
    ("equalize", lambda image, _: stock.equalize(image), [0.0], 0.01),
]


@pytest.mark.parametrize(("name", "theirs", "parameters", "tolerance"), CASES, ids=[case[0] for case in CASES])
def test_an_operation_is_torchvisions(name: str, theirs: Stock, parameters: list[float], tolerance: float):
    operation = dict(COLOR_OPERATIONS)[name]
    assert operation is not None
    images = photos()
    for parameter in parameters:
        expected = torch.stack([theirs(image, parameter) for image in images]).float()
        found = operation(images / 255, torch.full((len(images),), parameter)) * 255
        assert (found - expected).abs().max() <= tolerance, parameter


def test_every_colour_operation_is_compared():
    assert {case[0] for case in CASES} | {"identity"} == {name for name, _ in COLOR_OPERATIONS}


def test_jitter_is_the_three_in_their_order():
    images = photos()
    factors = torch.tensor([[1.3, 0.7, 1.4]]).expand(len(images), 3)
    expected = stock.adjust_saturation(stock.adjust_contrast(stock.adjust_brightness(images / 255, 1.3), 0.7), 1.4)
    torch.testing.assert_close(color.jitter(images / 255, factors), expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("code", range(1, len(COLOR_OPERATIONS)))
def test_each_image_gets_its_own_parameter_and_nothing_leaves_the_range(code: int):
    name, operation = COLOR_OPERATIONS[code]
    assert operation is not None
    images = photos() / 255
    parameters = torch.tensor([3.0, 8, 5, 4, 1]) if name == "posterize" else torch.tensor([0.0, 0.1, 0.5, 1.0, 1.9])
    together = operation(images, parameters)
    alone = torch.cat([operation(images[i : i + 1], parameters[i : i + 1]) for i in range(len(images))])
    # A kernel may round the sums of five images otherwise than those of one. The photos' levels are whole numbers, so
    # that no such bit moves a pixel over a threshold.
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=0)
    assert torch.isfinite(together).all() and together.min() >= 0 and together.max() <= 1
    assert torch.equal(images, photos() / 255)


def test_randaugment_draws_every_operation_alike_and_both_signs():
    numbers = uniform(0, 0, np.arange(14_000), 0, 2).reshape(-1, 1, 2)
    operations, parameters, grid = draw_operations(numbers, 10, 64, 64)
    for code in range(1, len(COLOR_OPERATIONS)):
        assert abs((operations == code).sum() - 1000) < 150
    moved = ~np.isclose(grid, np.eye(2, 3)).all(axis=(1, 2))
    assert abs(moved.sum() - 5000) < 250 and (operations[moved] == 0).all()
    bright = parameters[operations == NAMES.index("brightness")]
    np.testing.assert_allclose(np.unique(bright), [0.1, 1.9])
    assert abs((bright > 1).mean() - 0.5) < 0.06
    assert set(parameters[operations == NAMES.index("posterize")]) == {4.0}


def test_full_strength_geometry_is_that_of_the_paper():
    def drawn(name: str, sign: float) -> np.ndarray:
        numbers = np.array([[[(NAMES.index(name) + 0.5) / len(NAMES), sign]]])
        return draw_operations(numbers, 10, 100, 200)[2][0]

    np.testing.assert_allclose(drawn("translate_x", 0.9), [[1, 0, -0.9], [0, 1, 0]], atol=1e-12)
    np.testing.assert_allclose(drawn("translate_y", 0.1), [[1, 0, 0], [0, 1, 0.9]], atol=1e-12)
    np.testing.assert_allclose(drawn("shear_x", 0.9), [[1, 0.15, 0], [0, 1, 0]], atol=1e-12)
    np.testing.assert_allclose(drawn("shear_y", 0.9), [[1, 0, 0], [0.6, 1, 0]], atol=1e-12)
    turned = drawn("rotate", 0.9)
    np.testing.assert_allclose(np.degrees(np.arccos(turned[0, 0])), 30)


def test_at_strength_zero_only_the_two_operations_without_strength_change_a_picture():
    images = photos() / 255
    for code, (name, _) in enumerate(COLOR_OPERATIONS):
        numbers = np.full((len(images), 1, 2), (code + 0.5) / len(NAMES))
        operations, parameters, grid = draw_operations(numbers, 0, 64, 64)
        found = apply_operations(images.clone(), torch.from_numpy(operations), torch.from_numpy(parameters).float())
        same = torch.allclose(found, images, atol=1e-6)
        assert same == (name not in ("autocontrast", "equalize")), name
        np.testing.assert_allclose(grid, np.tile(np.eye(2, 3), (len(images), 1, 1)))


def test_operations_of_an_image_run_in_the_order_drawn():
    images = photos()[:2] / 255
    solarize, posterize = NAMES.index("solarize"), NAMES.index("posterize")
    operations = torch.tensor([[solarize, posterize], [posterize, solarize]])
    parameters = torch.tensor([[0.5, 3.0], [3.0, 0.5]])
    found = apply_operations(images.clone(), operations, parameters)
    half, three = torch.tensor([0.5]), torch.tensor([3.0])
    # Two images at once may be rounded otherwise than one.
    torch.testing.assert_close(found[:1], color.posterize(color.solarize(images[:1], half), three))
    torch.testing.assert_close(found[1:], color.solarize(color.posterize(images[1:], three), half))
    assert not torch.allclose(found[:1], color.solarize(color.posterize(images[:1], three), half), atol=0.01)
