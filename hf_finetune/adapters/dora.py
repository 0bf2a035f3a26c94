"""What DoRA (arXiv 2402.09353) asks of the layers below it: filters with a length; and comparing without its rounding.

It writes each filter as a length times a direction, and divides by the length in every forward pass. Where a filter is
zero that is no number; where it is not, the quotient is one only up to the type's last digit, in every layer.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from hf_finetune.errors import ModelError

if TYPE_CHECKING:
    from torch import nn

logger = logging.getLogger(__name__)


def without_zero_filters(model: nn.Module, targets: Iterable[str]) -> tuple[str, ...]:
    """Those of `targets` that have no zero filter; the others are named in the log.

    Lengths are in the type of the weights, as PEFT computes them. Raises ModelError where no module is left.
    """
    from peft.utils.integrations import dequantize_module_weight

    kept, left_out = [], []
    for name in targets:
        module = model.get_submodule(name)
        if any(weight.is_meta for weight in module.parameters()):  # a model that is only counted
            kept.append(name)
            continue
        weight = dequantize_module_weight(module)
        lengths = weight.detach().flatten(1).norm(dim=1)
        (kept if bool((lengths > 0).all()) else left_out).append(name)
    if left_out:
        more = f" and {len(left_out) - 5} more" if len(left_out) > 5 else ""
        what = f"{len(left_out)} of {len(left_out) + len(kept)} modules have filters that are zero"
        if not kept:
            raise ModelError(f"adapter.dora: {what}, and DoRA divides by their length", "set adapter.dora=false")
        logger.warning(
            "adapter.dora: %s, by whose length DoRA would divide; these are not adapted: %s%s.",
            what,
            ", ".join(left_out[:5]),
            more,
        )
    return tuple(kept)


@contextmanager
def low_rank_off(model: nn.Module) -> Iterator[None]:
    """Inside, LoRA layers compute what the layers below them do; the trained head stays as it is."""
    from peft.tuners.lora import LoraLayer

    layers = [module for module in model.modules() if isinstance(module, LoraLayer)]
    for layer in layers:
        layer.enable_adapters(False)
    try:
        yield
    finally:
        for layer in layers:
            layer.enable_adapters(True)
