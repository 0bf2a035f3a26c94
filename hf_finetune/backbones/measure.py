"""What autograd keeps for one image, counted on a model that has no weights.

A count of bytes, not a forecast: what the plan makes of it (precision, checkpointing, LoRA's own copies) is plan.py's.
"""

from __future__ import annotations

import logging

import torch
from torch import nn

log = logging.getLogger(__name__)


def saved_bytes_per_image(model: nn.Module, height: int, width: int) -> int | None:
    """Bytes of tensors that autograd keeps for one more image, in float32, when every weight trains.

    Each storage is counted once and the weights not at all; the difference of batches of three and two leaves out what
    does not grow with the batch (position tables), and keeps batch norm from meeting a single 1×1 map. None where the
    model does not run this way on its device.
    """
    training = model.training
    model.train()
    try:
        counts = [_saved_bytes(model, batch, height, width) for batch in (2, 3)]
    except Exception as error:  # noqa: BLE001  any third-party forward may fail on the meta device; None is the answer
        log.debug("saved activations could not be counted: %s", error)
        return None
    finally:
        model.train(training)
    return counts[1] - counts[0]


def _saved_bytes(model: nn.Module, batch: int, height: int, width: int) -> int:
    own = {_storage(weight) for weight in model.parameters()} | {_storage(buffer) for buffer in model.buffers()}
    kept: dict[int, torch.Tensor] = {}  # holds the tensors, so that no storage's address is given out twice

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        if _storage(tensor) not in own:
            kept.setdefault(_storage(tensor), tensor)
        return tensor

    pixels = torch.zeros(batch, 3, height, width, device=next(model.parameters()).device)
    with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        output = model(pixel_values=pixels)
        total = sum(tensor.untyped_storage().nbytes() for tensor in kept.values())
    del output
    return total


def _storage(tensor: torch.Tensor) -> int:
    return tensor.untyped_storage()._cdata
