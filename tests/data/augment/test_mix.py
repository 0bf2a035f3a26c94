from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats
from torch.nn import functional

from hf_finetune.data.augment.mix import blend, draw_mix

ROWS = np.arange(6000)
HEIGHT, WIDTH = 40, 60


def drawn(mixup: float, cutmix: float, count: int = 50) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return draw_mix(0, 0, ROWS, count, mixup, cutmix, HEIGHT, WIDTH)


def test_partners_come_from_the_whole_training_set_alike():
    partners, _, _ = drawn(0.2, 0.0)
    assert partners.dtype == np.int64 and partners.min() == 0 and partners.max() == 49
    assert stats.chisquare(np.bincount(partners, minlength=50)).pvalue > 1e-4
    assert (drawn(0.2, 0.0, count=1)[0] == 0).all()


@pytest.mark.parametrize("alpha", [0.2, 0.8, 1.0])
def test_mixup_shares_follow_beta_and_have_no_box(alpha: float):
    _, share, box = drawn(alpha, 0.0)
    assert stats.kstest(share, stats.beta(alpha, alpha).cdf).pvalue > 1e-4
    assert not box.any()


@pytest.mark.parametrize("alpha", [0.5, 1.0])
def test_cutmix_shares_are_the_pixels_that_the_row_keeps(alpha: float):
    _, share, box = drawn(0.0, alpha)
    np.testing.assert_array_equal(box, np.rint(box))
    left, top, right, bottom = box.T
    assert left.min() >= 0 and top.min() >= 0 and right.max() <= WIDTH and bottom.max() <= HEIGHT
    np.testing.assert_allclose(share, 1 - (right - left) * (bottom - top) / (WIDTH * HEIGHT), atol=1e-6)
    ones, zeros = torch.ones(200, 1, HEIGHT, WIDTH), torch.zeros(200, 1, HEIGHT, WIDTH)
    mixed = blend(ones, zeros, torch.from_numpy(share[:200]), torch.from_numpy(box[:200]))
    np.testing.assert_allclose(mixed.mean(dim=(1, 2, 3)), share[:200], atol=1e-5)


def test_an_uncut_box_has_the_area_that_beta_drew():
    _, share, box = drawn(0.0, 1.0)
    inside = (box[:, 0] > 0) & (box[:, 1] > 0) & (box[:, 2] < WIDTH) & (box[:, 3] < HEIGHT)
    aspect = (box[:, 2] - box[:, 0])[inside & (share < 0.8)] / (box[:, 3] - box[:, 1])[inside & (share < 0.8)]
    np.testing.assert_allclose(aspect, WIDTH / HEIGHT, rtol=0.12)
    middle = (box[:, :2] + box[:, 2:])[inside & (share > 0.95)] / 2
    assert stats.kstest(middle[:, 0] / WIDTH, "uniform", args=(0.1, 0.8)).statistic < 0.15


def test_with_both_on_each_gets_half_of_the_samples():
    _, share, box = drawn(0.8, 1.0)
    cut = box.any(axis=1)
    assert abs(cut.mean() - 0.5) < 0.03
    assert stats.kstest(share[~cut & (share < 1)], stats.beta(0.8, 0.8).cdf).pvalue > 1e-4


def test_blending_pastes_the_box_and_averages_the_rest_exactly():
    own, partner = torch.randn(3, 3, 8, 10), torch.randn(3, 3, 8, 10)
    share = torch.tensor([0.25, 0.9, 1.0])
    box = torch.tensor([[0.0, 0, 0, 0], [2, 1, 7, 4], [5, 5, 5, 8]])
    mixed = blend(own, partner, share, box)
    torch.testing.assert_close(mixed[0], 0.25 * own[0] + 0.75 * partner[0])
    assert torch.equal(mixed[1, :, 1:4, 2:7], partner[1, :, 1:4, 2:7])
    rest = torch.ones(8, 10, dtype=torch.bool)
    rest[1:4, 2:7] = False
    assert torch.equal(mixed[1][:, rest], own[1][:, rest])
    assert torch.equal(mixed[2], own[2])


def test_the_loss_of_two_labels_is_that_of_soft_targets():
    torch.manual_seed(0)
    logits, share = torch.randn(6, 4), torch.rand(6)
    labels, partners = torch.randint(0, 4, (6,)), torch.randint(0, 4, (6,))
    soft = share[:, None] * functional.one_hot(labels, 4) + (1 - share)[:, None] * functional.one_hot(partners, 4)
    two = share * functional.cross_entropy(logits, labels, reduction="none")
    two = two + (1 - share) * functional.cross_entropy(logits, partners, reduction="none")
    torch.testing.assert_close(two.mean(), functional.cross_entropy(logits, soft))
