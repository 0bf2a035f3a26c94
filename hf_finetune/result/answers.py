"""Forward passes without gradients over decoded rows: evaluation and prediction outside of training. Imports torch."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np
import torch
from torch import nn

from hf_finetune.backbones.engines.engine import Engine
from hf_finetune.labels import Answers
from hf_finetune.preprocess.normalise import Normaliser
from hf_finetune.tasks import Target
from hf_finetune.tasks.measures import no_rows
from hf_finetune.training.pieces import forward_in_pieces
from hf_finetune.types import PixelRows, Preprocess


def logits_of(model: nn.Module, pixels: np.ndarray, preprocess: Preprocess, *, batch: int = 4) -> np.ndarray:
    """Logits float32 [N, C] of uint8 pixels [N, 3, H, W], `batch` images at a time, the model in eval mode.

    All of them at once: for few rows. On a CPU an int8 layer's outputs depend on what else is in the batch: compare
    such models with the same one. A lack of memory halves the batch and goes on.
    """
    pieces = (pixels[start : start + batch] for start in range(0, len(pixels), batch))
    return np.concatenate(list(_batches(model, pieces, preprocess, batch)))


def predict_answers(
    model: nn.Module,
    rows: PixelRows,
    preprocess: Preprocess,
    target: Target,
    *,
    batch: int,
    indices: Sequence[int] | None = None,
    engine: Engine | None = None,
    mirrored: bool = False,
) -> Answers:
    """What the model says of these rows (all where `indices` is None), in order; never holds all rows' logits.

    `engine` answers in the model's stead (scoring_engine.py). `mirrored`: by the mean of an image's logits and those of
    its mirror image.

    Raises DataError where there are no rows, or a label is not one of the model's.
    """
    chosen = np.arange(len(rows)) if indices is None else np.asarray(indices)
    places = [chosen[start : start + batch] for start in range(0, len(chosen), batch)]

    def logits_by(pieces: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        return _batches(model, pieces, preprocess, batch) if engine is None else _by(engine, pieces, preprocess)

    logits = _mirrored(logits_by, map(rows.gather, places)) if mirrored else logits_by(map(rows.gather, places))
    parts = [target.answers(each, rows.labels[here]) for here, each in zip(places, logits, strict=True)]
    if not parts:
        raise no_rows()
    return Answers.joined(parts)


def _mirrored(
    logits_by: Callable[[Iterable[np.ndarray]], Iterator[np.ndarray]], pieces: Iterable[np.ndarray]
) -> Iterator[np.ndarray]:
    """The mean of the logits of each piece and of its mirror image."""
    both = (turned for piece in pieces for turned in (piece, np.ascontiguousarray(piece[..., ::-1])))
    logits = logits_by(both)
    for plain in logits:
        yield (plain + next(logits)) / 2


def _by(engine: Engine, pieces: Iterable[np.ndarray], preprocess: Preprocess) -> Iterator[np.ndarray]:
    normalise = Normaliser(preprocess)
    for piece in pieces:
        yield engine(normalise({"pixel_values": torch.from_numpy(piece).to(engine.device)})).logits.numpy()


def _batches(
    model: nn.Module, pieces: Iterable[np.ndarray], preprocess: Preprocess, batch: int
) -> Iterator[np.ndarray]:
    """Logits float32 [n, C] of each piece, uint8 [n, 3, H, W], n at most `batch`."""
    model.eval()
    device = next(model.parameters()).device
    normalise = Normaliser(preprocess)
    fits = batch
    for piece in pieces:
        given = {"pixel_values": torch.from_numpy(piece).to(device), "labels": torch.empty(len(piece))}
        logits, fits = forward_in_pieces(model, normalise, given, fits)
        yield logits.cpu().numpy()
