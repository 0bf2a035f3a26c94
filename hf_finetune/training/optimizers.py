"""The recipe's optimizer as a class and its arguments, for the Trainer's `optimizer_cls_and_kwargs`."""

from __future__ import annotations

from typing import Any

import torch

from hf_finetune.errors import MachineError
from hf_finetune.training.config import Train


def optimizer_of(
    train: Train, learning_rate: float, device: str, precision: str
) -> tuple[type[torch.optim.Optimizer], dict[str, Any]]:
    """Class and keyword arguments. Raises MachineError where the device cannot run it.

    Betas are each method's published defaults. The Trainer adds the parameter groups, with no weight decay on biases
    and norms.
    """
    # One kernel for all weights, where many short ones keep the host of a GPU busy. Not in fp16: fused optimizers skip
    # an overflown update by themselves, and Accelerate would count it.
    fused = {"fused": True} if device == "cuda" and precision != "fp16" else {}
    match train.optimizer:
        case "adamw":
            return torch.optim.AdamW, {"lr": learning_rate, **fused}
        case "adam":
            return torch.optim.Adam, {"lr": learning_rate, **fused}
        case "sgd":
            return torch.optim.SGD, {"lr": learning_rate, "momentum": train.momentum}
        case "lion":
            from timm.optim.lion import Lion

            return Lion, {"lr": learning_rate}
        case "adamw_8bit":
            if device == "mps":
                raise MachineError(
                    "train.optimizer: adamw_8bit needs bitsandbytes, which has no backend for mps.",
                    "Use adamw; with LoRA its state is small anyway.",
                )
            from bitsandbytes.optim.adamw import AdamW8bit

            return AdamW8bit, {"lr": learning_rate}
