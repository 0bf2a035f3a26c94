from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats
from torchvision.transforms import RandomResizedCrop

from hf_finetune.data.augment import geometry
from hf_finetune.data.augment.draws import uniform
from hf_finetune.types import CenterCrop, Preprocess, Resize, ResizeShortest

SAMPLES = 3000


def our_boxes(size: tuple[int, int], scale: tuple[float, float], ratio: tuple[float, float]) -> np.ndarray:
    numbers = uniform(0, 0, np.arange(SAMPLES), 0, geometry.CROP_UNIFORMS)
    return geometry.random_boxes(numbers, np.tile(size, (SAMPLES, 1)), scale, ratio)


def same_distribution(ours: np.ndarray, theirs: np.ndarray) -> bool:
    """Two-sample Kolmogorov–Smirnov at 1e-4."""
    return float(np.asarray(stats.ks_2samp(ours, theirs))[1]) > 1e-4


@pytest.mark.parametrize("size", [(500, 375), (120, 400), (640, 90)])
@pytest.mark.parametrize("scale", [(0.35, 1.0), (0.08, 1.0)])
def test_boxes_are_distributed_as_torchvisions(size: tuple[int, int], scale: tuple[float, float]):
    torch.manual_seed(0)
    image, ratio = torch.empty(3, size[1], size[0]), (0.75, 4 / 3)
    theirs = np.array([RandomResizedCrop.get_params(image, list(scale), list(ratio)) for _ in range(SAMPLES)])
    theirs = theirs[:, [1, 0, 3, 2]]
    ours = our_boxes(size, scale, ratio)
    for name, mine, their in zip(("left", "top", "width", "height"), ours.T, theirs.T, strict=True):
        assert same_distribution(mine, their), name
    areas, their_areas = ours[:, 2] * ours[:, 3], theirs[:, 2] * theirs[:, 3]
    assert same_distribution(areas, their_areas)
    np.testing.assert_array_equal(ours, np.rint(ours))
    assert (ours[:, :2] >= 0).all() and (ours[:, :2] + ours[:, 2:] <= size).all()


@pytest.mark.parametrize("size", [(10, 1000), (1000, 10), (33, 250)])
def test_where_no_try_fits_the_box_is_torchvisions_central_one(size: tuple[int, int]):
    top, left, height, width = RandomResizedCrop.get_params(torch.empty(1, size[1], size[0]), [0.9, 1.0], [0.75, 4 / 3])
    boxes = our_boxes(size, (0.9, 1.0), (0.75, 4 / 3))
    np.testing.assert_array_equal(boxes, np.tile([left, top, width, height], (SAMPLES, 1)))


@pytest.mark.parametrize("size", [(1, 1), (1, 3000), (3000, 1), (7, 5)])
@pytest.mark.parametrize("scale", [(0.0, 0.001), (0.35, 1.0), (1.0, 1.0)])
def test_a_box_of_a_tiny_image_holds_at_least_a_pixel_of_it(size: tuple[int, int], scale: tuple[float, float]):
    boxes = our_boxes(size, scale, (0.75, 4 / 3))
    assert (boxes[:, 2:] >= 1).all()
    assert (boxes[:, :2] >= 0).all() and (boxes[:, :2] + boxes[:, 2:] <= size).all()


def rule(*steps: Resize | ResizeShortest | CenterCrop) -> Preprocess:
    return Preprocess(steps, 224, 224, (0.5,) * 3, (0.5,) * 3, 1 / 255, 0.0, False, 3, "test")


def test_evaluation_boxes_are_what_the_steps_keep():
    sizes = np.array([[512, 384], [300, 900], [224, 224]])
    squashed = geometry.evaluation_boxes(rule(Resize(224, 224, 3)), sizes)
    np.testing.assert_array_equal(squashed, [[0, 0, 512, 384], [0, 0, 300, 900], [0, 0, 224, 224]])
    cropped = geometry.evaluation_boxes(rule(ResizeShortest(256, 3), CenterCrop(224, 224, "half_even")), sizes)
    # 512 × 384 becomes 341 × 256 (the long edge truncated); margins 58.5 -> 58 (half to even) and 16.
    np.testing.assert_allclose(cropped[0], [58 * 512 / 341, 16 * 1.5, 224 * 512 / 341, 224 * 1.5])
    np.testing.assert_allclose(cropped[1], [16 * 300 / 256, 272 * 900 / 768, 224 * 300 / 256, 224 * 900 / 768])
    np.testing.assert_allclose(cropped[2], [14, 14, 196, 196])
    floored = geometry.evaluation_boxes(rule(Resize(225, 227, 3), CenterCrop(224, 224, "floor")), sizes)
    np.testing.assert_allclose(floored[2], [224 / 227, 0, 224 * 224 / 227, 224 * 224 / 225])


def test_without_steps_the_evaluation_box_is_the_largest_central_one_of_the_outputs_shape():
    preprocess = Preprocess(None, 100, 200, (0.5,) * 3, (0.5,) * 3, 1 / 255, 0.0, False, 3, "test")
    boxes = geometry.evaluation_boxes(preprocess, np.array([[400, 400], [900, 300]]))
    np.testing.assert_allclose(boxes, [[0, 100, 400, 200], [150, 0, 600, 300]])


def test_a_padding_crop_shows_more_than_the_image():
    box = geometry.evaluation_boxes(rule(Resize(200, 200, 3), CenterCrop(224, 224, "half_even")), np.array([[100, 50]]))
    np.testing.assert_allclose(box, [[-6, -3, 112, 56]])


def point(grid: np.ndarray, x: float, y: float) -> np.ndarray:
    return grid[0, :, :2] @ [x, y] + grid[0, :, 2]


def test_composition_reads_the_later_change_first():
    flip, shift = geometry.flip_grid(np.array([True])), geometry.shift_grid(np.array([0.25]), np.array([0.0]))
    # Flipped, then moved right by a quarter: the output's centre shows what was a quarter to the left of it in the
    # flipped picture, which is a quarter to the right in the original.
    np.testing.assert_allclose(point(geometry.compose(flip, shift), 0, 0), [0.5, 0])
    np.testing.assert_allclose(point(geometry.compose(shift, flip), 0, 0), [-0.5, 0])


def test_rotation_is_round_in_pixels_whatever_the_outputs_shape():
    grid = geometry.rotation_grid(np.array([90.0]), height=100, width=200)
    # Counter-clockwise by 90°: what is shown 50 pixels right of the centre was 50 pixels below it.
    np.testing.assert_allclose(point(grid, 50 / 100, 0), [0, 50 / 50], atol=1e-12)
    twice = geometry.compose(grid, grid)
    np.testing.assert_allclose(twice[0, :, :2], -np.eye(2), atol=1e-12)
    np.testing.assert_allclose(geometry.compose(twice, twice)[0, :, :2], np.eye(2), atol=1e-12)


def test_shear_moves_a_row_by_its_distance_from_the_centre():
    grid = geometry.shear_grid(np.array([0.3]), np.array([0.0]), height=100, width=200)
    # 40 pixels below the centre: read 12 pixels further right.
    np.testing.assert_allclose(point(grid, 0, 40 / 50), [12 / 100, 40 / 50])
