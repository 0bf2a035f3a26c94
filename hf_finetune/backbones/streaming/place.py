"""Puts a model on the device that computes, its frozen blocks streamed where the plan says so."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from hf_finetune.backbones.streaming.ahead import no_blocks


def place_model(model: nn.Module, blocks: Sequence[str], device: str, stream: str) -> None:
    """All of `model` to `device`, or all but the frozen weights of `blocks` where `stream` is host or disk.

    `blocks` are named as in the backbone, which PEFT may have wrapped. On a CPU streamed weights stay in the files that
    they were loaded from, and there is nothing to do.
    """
    if stream == "off" or device == "cpu":
        model.to(device)
        return
    from peft import PeftModel

    from hf_finetune.backbones.streaming.slots import BlockSlots

    base = model.get_base_model() if isinstance(model, PeftModel) else model
    if not blocks:
        raise no_blocks(type(base).__name__)
    modules = [base.get_submodule(name) for name in blocks]  # pyright: ignore[reportCallIssue, reportAttributeAccessIssue]
    BlockSlots(model, modules, device, pinned=stream == "host")
