"""Mixup and cutmix, each sample with a partner drawn from the whole training set.

Owns: the partner, the share λ, cutmix's rectangle, and blending. Mixup: Zhang et al. 2017, arXiv 1710.09412; cutmix:
Yun et al. 2019, arXiv 1905.04899. Since the partner does not come from the batch, a sample's result does not depend on
how batches are cut. The loss is λ · loss(label) + (1 − λ) · loss(partner label): no soft targets are needed.
"""

from __future__ import annotations

import numpy as np
import torch

from hf_finetune.data.augment.draws import beta, uniform
from hf_finetune.data.augment.erase import covered

# `Augmenter.draw` takes the random numbers 0 to 7 of a row for the row itself (its stream 0) and 8 to 15 for the
# partner (its stream 1); mixing comes after them.
PARTNER_STREAM = 1
_MIX_STREAM = 16


def draw_mix(
    seed: int,
    epoch: int,
    rows: np.ndarray,
    count: int,
    mixup: float,
    cutmix: float,
    height: int,
    width: int,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Partner rows int64 [B] of `count`, shares float32 [B] of the row itself, and boxes float32 [B, 4].

    A box is left, top, right, bottom in output pixels, where the partner shows; all zero for mixup. `mixup` and
    `cutmix` are the alphas of their Beta distributions, 0 for off; where both are on, each has probability 1/2. The
    share under cutmix is corrected to the pixels that the row keeps.
    """
    numbers = uniform(seed, epoch, rows, _MIX_STREAM, 5)
    partner = np.minimum(np.floor(numbers[:, 0] * count).astype(np.int64), count - 1)
    cut = numbers[:, 1] < (0.0 if cutmix == 0 else 1.0 if mixup == 0 else 0.5)
    share = np.where(
        cut,
        beta(cutmix, numbers[:, 2]) if cutmix > 0 else 1.0,
        beta(mixup, numbers[:, 2]) if mixup > 0 else 1.0,
    )
    side = np.sqrt(1 - share)
    box = _boxes(side * width, side * height, numbers[:, 3] * width, numbers[:, 4] * height, height, width)
    box = np.where(cut[:, None], box, 0.0)
    area = (box[:, 2] - box[:, 0]) * (box[:, 3] - box[:, 1])
    share = np.where(cut, 1 - area / (height * width), share)
    return partner, share.astype(np.float32), box.astype(np.float32)


def _boxes(wide: np.ndarray, tall: np.ndarray, x: np.ndarray, y: np.ndarray, height: int, width: int) -> np.ndarray:
    """Boxes about (x, y), [B] each, in whole pixels and cut at the image's edges: [B, 4]."""
    left, right = np.rint(np.clip(x - wide / 2, 0, width)), np.rint(np.clip(x + wide / 2, 0, width))
    top, bottom = np.rint(np.clip(y - tall / 2, 0, height)), np.rint(np.clip(y + tall / 2, 0, height))
    return np.stack([left, top, right, bottom], axis=1)


def blend(own: torch.Tensor, partner: torch.Tensor, share: torch.Tensor, box: torch.Tensor) -> torch.Tensor:
    """[B, 3, H, W] of both, shares [B] and boxes [B, 4] as draw_mix gives them -> the mixed images, same shape."""
    height, width = own.shape[2:]
    has_box = ((box[:, 2] > box[:, 0]) & (box[:, 3] > box[:, 1])).view(-1, 1, 1, 1)
    weight = torch.where(has_box, (~covered(box, height, width)).to(own.dtype), share.view(-1, 1, 1, 1).to(own.dtype))
    return own * weight + partner * (1 - weight)
