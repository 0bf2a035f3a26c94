"""The torch datasets over the image store, and what turns their batches into a backbone's input.

Owns: gathering a whole batch at once, the keys of a batch, and preparing it on the training device.
Does not own storage (store.py implements PixelRows), augmentation (augmenter.py) or the loop (training).

Keys of a training batch of B rows: `pixel_values` uint8 [B, 3, S, S], `labels` int64 [B] or float32 [B, K], `rows`
int64 [B], `sizes` int64 [B, 2], the draws as `draw_*`; with mixup or cutmix also `partner_pixel_values`,
`partner_labels`, `partner_draw_*`, `mix` float32 [B] (the row's own share) and `box` float32 [B, 4]. Every value has B
as its first dimension.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch.utils.data import Dataset

from hf_finetune.data.augment.augmenter import Augmenter
from hf_finetune.data.augment.mix import PARTNER_STREAM, blend, draw_mix
from hf_finetune.types import PixelRows

Batch = dict[str, torch.Tensor]

_DRAW = "draw_"
_PARTNER = "partner_"


class TrainRows(Dataset[Batch]):
    """Training rows with everything random about them already drawn for the current epoch."""

    def __init__(self, rows: PixelRows, augmenter: Augmenter, seed: int) -> None:
        self.rows = rows
        self.augmenter = augmenter
        self.seed = seed
        self.epoch = 0

    def __len__(self) -> int:
        return len(self.rows)

    def set_epoch(self, epoch: int) -> None:
        """Every epoch draws anew, and the same epoch draws the same.

        The training loop must call it at the start of every epoch (a callback's `on_epoch_begin`): accelerate 1.15
        does so for one process from the start, but neither with several ranks nor after a resume inside an epoch,
        where every epoch would repeat the first one's draws.
        """
        self.epoch = epoch

    def __getitems__(self, indices: Sequence[int]) -> Batch:
        """The batch of these rows, gathered at once; torch's loader calls it where it exists.

        Index r + k · N of N rows is row r with other draws, for samplers that take it more than once in an epoch.
        """
        config, augmenter = self.augmenter.config, self.augmenter
        epoch, keys = self.epoch, np.asarray(indices, dtype=np.int64)
        rows = keys % len(self.rows)
        batch = self._side(rows, epoch, stream=0, keys=keys)
        batch["rows"] = rows
        batch["sizes"] = np.asarray(self.rows.sizes, dtype=np.int64)[rows]
        if config.mixup > 0 or config.cutmix > 0:
            shape = (augmenter.height, augmenter.width)
            partner, share, box = draw_mix(self.seed, epoch, keys, len(self.rows), config.mixup, config.cutmix, *shape)
            other = self._side(partner, epoch, stream=PARTNER_STREAM, keys=keys)
            batch |= {_PARTNER + name: values for name, values in other.items()}
            batch["mix"], batch["box"] = share, box
        return {name: torch.from_numpy(values) for name, values in batch.items()}

    def _side(self, rows: np.ndarray, epoch: int, stream: int, keys: np.ndarray) -> dict[str, np.ndarray]:
        """Pixels and labels of `rows`, and the draws of `keys`: a partner's belong to the row that it is with."""
        sizes = np.asarray(self.rows.sizes)[rows]
        draws = self.augmenter.draw(keys, sizes, epoch, self.seed, stream)
        return {
            "pixel_values": self.rows.gather(rows),
            "labels": np.asarray(self.rows.labels)[rows],
            **{_DRAW + name: values for name, values in draws.items()},
        }


class EvalRows(Dataset[Batch]):
    """Evaluation rows at the checkpoint's exact geometry: `pixel_values` uint8 [B, 3, H, W], `labels`, `rows`."""

    def __init__(self, rows: PixelRows) -> None:
        self.rows = rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitems__(self, indices: Sequence[int]) -> Batch:
        rows = np.asarray(indices, dtype=np.int64)
        return {
            "pixel_values": torch.from_numpy(self.rows.gather(rows)),
            "labels": torch.from_numpy(np.asarray(self.rows.labels)[rows]),
            "rows": torch.from_numpy(rows),
        }


def prepare(
    batch: Batch, augmenter: Augmenter, dtype: torch.dtype = torch.float32
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None, torch.Tensor | None]:
    """A training batch, on the device that trains -> pixel_values [B, 3, H, W], labels, partner labels, shares.

    The last two are None without mixing; else the loss is share · loss(label) + (1 − share) · loss(partner label).
    """
    if "mix" not in batch:
        return augmenter.apply(batch["pixel_values"], _draws(batch, _DRAW), dtype), batch["labels"], None, None
    own = augmenter.apply(batch["pixel_values"], _draws(batch, _DRAW))
    other = augmenter.apply(batch[_PARTNER + "pixel_values"], _draws(batch, _PARTNER + _DRAW))
    mixed = blend(own, other, batch["mix"], batch["box"]).to(dtype)
    return mixed, batch["labels"], batch[_PARTNER + "labels"], batch["mix"]


def _draws(batch: Batch, prefix: str) -> Batch:
    return {name.removeprefix(prefix): values for name, values in batch.items() if name.startswith(prefix)}
