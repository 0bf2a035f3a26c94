"""Forward passes without gradients over decoded rows: evaluation and prediction outside of training. Imports torch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import nn

from hf_finetune.preprocess.normalise import Normaliser
from hf_finetune.tasks.measures import no_rows
from hf_finetune.tasks.scoring import answers_of
from hf_finetune.training.pieces import forward_in_pieces
from hf_finetune.types import Answers, PixelRows, Preprocess


@torch.no_grad()
def predict_logits(
    model: nn.Module,
    rows: PixelRows,
    preprocess: Preprocess,
    *,
    batch: int,
    indices: Sequence[int] | None = None,
) -> np.ndarray:
    """Logits float32 [len(indices), C] (all rows where `indices` is None), in order, the model in eval mode.

    All of them at once: for few rows. A lack of memory halves the batch and goes on.
    """
    chosen = np.arange(len(rows)) if indices is None else np.asarray(indices)
    return np.concatenate([logits for _, logits in _batches(model, rows, preprocess, chosen, batch)])


@torch.no_grad()
def predict_answers(
    model: nn.Module,
    rows: PixelRows,
    preprocess: Preprocess,
    *,
    batch: int,
    indices: Sequence[int] | None = None,
) -> Answers:
    """What the model says of these rows (all where `indices` is None), in order; never holds all rows' logits.

    Raises DataError where there are no rows, or a label is not one of the model's.
    """
    chosen = np.arange(len(rows)) if indices is None else np.asarray(indices)
    parts = [answers_of(logits, rows.labels[here]) for here, logits in _batches(model, rows, preprocess, chosen, batch)]
    if not parts:
        raise no_rows()
    return Answers.joined(parts)


def _batches(
    model: nn.Module, rows: PixelRows, preprocess: Preprocess, chosen: np.ndarray, batch: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Row numbers int64 [n] and their logits float32 [n, C], batch by batch."""
    model.eval()
    device = next(model.parameters()).device
    normalise = Normaliser(preprocess)
    piece = batch
    for start in range(0, len(chosen), batch):
        here = chosen[start : start + batch]
        pixels = torch.from_numpy(rows.gather(here)).to(device)
        labels = torch.from_numpy(rows.labels[here])
        logits, piece = forward_in_pieces(model, normalise, {"pixel_values": pixels, "labels": labels}, piece)
        yield here, logits.cpu().numpy()
