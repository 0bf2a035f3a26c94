"""Bytes that autograd keeps for one image, of any model: ours and the references' are counted the same way."""

from __future__ import annotations

import torch
from torch import nn


def saved_bytes_per_image(model: nn.Module, height: int, width: int) -> int:
    """Bytes of tensors that autograd keeps for one more image, in float32, when every weight trains.

    Each storage is counted once and the weights not at all; the difference of batches of three and two leaves out what
    does not grow with the batch (position tables), and keeps batch norm from meeting a single 1×1 map.
    """
    training = model.training
    model.train()
    counts = [_saved_bytes(model, batch, height, width) for batch in (2, 3)]
    model.train(training)
    return counts[1] - counts[0]


def _saved_bytes(model: nn.Module, batch: int, height: int, width: int) -> int:
    # Storages of weights and of what is kept are held, so that no address is given out twice: bitsandbytes' layers
    # replace the data of their bias in a forward pass.
    weights = [tensor.untyped_storage() for tensors in (model.parameters(), model.buffers()) for tensor in tensors]
    own = {storage._cdata for storage in weights}
    kept: dict[int, torch.Tensor] = {}

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
