"""What a forward pass over one image computes, counted on a model that has no weights."""

from __future__ import annotations

import logging

import torch
from torch import nn

log = logging.getLogger(__name__)


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
