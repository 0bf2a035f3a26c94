"""What autograd keeps for one image, and what a forward pass computes, counted on a model that has no weights.

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


def forward_flops(model: nn.Module, height: int, width: int) -> float | None:
    """Additions and multiplications of Linear layers and convolutions in a forward pass over one image.

    What attention multiplies beside its layers is left out, under a tenth at 224 px. None where the model does not run
    on its device, or reads its weights past these layers.
    """
    counted = [0.0]

    def count(module: nn.Module, _: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        weight: torch.Tensor = module.weight  # pyright: ignore[reportAssignmentType]
        each = weight.numel() / weight.shape[0]  # multiplications for one output
        counted[0] += 2 * each * output.numel()

    layers = [each for each in model.modules() if isinstance(each, nn.Linear | nn.Conv2d)]
    hooks = [each.register_forward_hook(count) for each in layers]
    training = model.training
    model.eval()
    try:
        with torch.no_grad():
            model(pixel_values=torch.zeros(1, 3, height, width, device=next(model.parameters()).device))
    except Exception as error:  # noqa: BLE001  as above
        log.debug("operations could not be counted: %s", error)
        return None
    finally:
        model.train(training)
        for hook in hooks:
            hook.remove()
    return counted[0] or None


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
