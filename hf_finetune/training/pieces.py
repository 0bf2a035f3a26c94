"""A batch in pieces that fit into memory: cutting it, telling that memory is out, and passing it forward."""

from __future__ import annotations

import logging
from collections.abc import Callable
from itertools import accumulate, pairwise
from typing import TypeVar

import torch
from torch import nn

from hf_finetune.errors import MachineError
from hf_finetune.training.objective import Batch

logger = logging.getLogger(__name__)
T = TypeVar("T")


def cut(batch: Batch, size: int, least: int = 1) -> list[Batch]:
    """The batch in pieces of at most `size` rows, in order; the last may be shorter.

    None has fewer than `least` where there are as many: pieces are then about equal, and may be a little larger.
    """
    starts = list(accumulate(_sizes(len(batch["labels"]), size, least), initial=0))
    return [{key: value[start:end] for key, value in batch.items()} for start, end in pairwise(starts)]


def _sizes(count: int, size: int, least: int) -> list[int]:
    pieces = -(-count // size)
    if count - (pieces - 1) * size >= min(least, count):
        return [size] * (pieces - 1) + [count - (pieces - 1) * size]
    pieces = max(1, min(pieces, count // least))
    return [count // pieces + (number < count % pieces) for number in range(pieces)]


def is_out_of_memory(error: BaseException) -> bool:
    """Whether torch could not get memory: CUDA's own error, or what the CPU allocators of Linux and Windows say."""
    text = str(error)
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or (
        isinstance(error, RuntimeError)
        and any(said in text for said in ("can't allocate memory", "not enough memory", "out of memory"))
    )


def fitting(run: Callable[[], T], *, smallest: bool = False) -> T | None:
    """What `run` gives; None where memory lacks, the allocator's unused blocks then given back to the device.

    The caller makes its piece smaller; where it is the `smallest`, the lack is raised.
    """
    try:
        return run()
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error) or smallest:
            raise
    # Here and not in the handler: the error holds the frames, and with them the tensors, of what ran.
    free_cached_memory()
    return None


@torch.no_grad()
def forward_in_pieces(
    model: nn.Module,
    normalise: Callable[[Batch], torch.Tensor],
    batch: Batch,
    size: int,
    release: Callable[[], bool] = lambda: False,
) -> tuple[torch.Tensor, int]:
    """Logits float32 [B, C] of uint8 rows, and the piece size that fitted.

    Where memory lacks, `release` is asked first to give some back, and says whether it had any.
    Raises MachineError where not even one image fits.
    """

    def forward() -> torch.Tensor:
        return torch.cat([model(pixel_values=normalise(piece)).logits.float() for piece in cut(batch, size)])

    while True:
        if (logits := fitting(forward)) is not None:
            return logits, size
        if release():
            continue
        if size == 1:
            raise MachineError(
                "Out of memory evaluating one image at a time.", "Close other programs, or take a smaller backbone."
            )
        size = max(1, min(size, len(batch["labels"])) // 2)
        logger.warning("Out of memory in evaluation: going on with %d images at a time.", size)


def free_cached_memory() -> None:
    """Give the allocator's unused blocks back to the device."""
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    elif torch.backends.mps.is_available():
        torch.mps.empty_cache()
