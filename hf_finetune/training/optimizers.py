"""The recipe's optimizers: what each implies for the plan, and how it is built. Imports torch only to build one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from hf_finetune.errors import MachineError
from hf_finetune.training.config import Train

if TYPE_CHECKING:
    import torch

    Built = tuple[type[torch.optim.Optimizer], dict[str, Any]]


@dataclass(frozen=True)
class Optimizer:
    """`family`: whose base rates (of the adapters) it takes; `state_bytes`: float32 state per trained parameter beside
    the parameter and its gradient; `scaling`: how the rate grows with the batch; `build`: class and arguments but for
    the learning rate, from the section, the device and the precision."""

    family: str
    state_bytes: int
    build: Callable[[Train, str, str], Built]
    scaling: Literal["sqrt", "linear"] = "sqrt"


def _fused(device: str, precision: str) -> dict[str, Any]:
    """One kernel for all weights, where many short ones keep the host of a GPU busy. Not in fp16: fused optimizers skip
    an overflown update by themselves, and Accelerate would count it."""
    return {"fused": True} if device == "cuda" and precision != "fp16" else {}


def _adamw(_: Train, device: str, precision: str) -> Built:
    import torch

    return torch.optim.AdamW, _fused(device, precision)


def _adam(_: Train, device: str, precision: str) -> Built:
    import torch

    return torch.optim.Adam, _fused(device, precision)


def _sgd(train: Train, _device: str, _precision: str) -> Built:
    import torch

    return torch.optim.SGD, {"momentum": train.momentum}


def _lion(_: Train, _device: str, _precision: str) -> Built:
    from timm.optim.lion import Lion

    return Lion, {}


def _adamw_8bit(_: Train, device: str, _precision: str) -> Built:
    if device == "mps":
        raise MachineError(
            "train.optimizer: adamw_8bit needs bitsandbytes, which has no backend for mps.",
            "Use adamw; with LoRA its state is small anyway.",
        )
    from bitsandbytes.optim.adamw import AdamW8bit

    return AdamW8bit, {}


# Betas are each method's published defaults. Adaptive methods' rates grow with the batch's square root (arXiv
# 2205.10287), SGD's linearly (arXiv 1706.02677). Lion's sign updates are larger: its base rates are a third to a tenth
# of AdamW's (Chen et al. 2023, arXiv 2302.06675).
OPTIMIZERS: Mapping[str, Optimizer] = {
    "adamw": Optimizer("adamw", 8, _adamw),
    "adam": Optimizer("adamw", 8, _adam),
    "sgd": Optimizer("sgd", 4, _sgd, "linear"),
    "adamw_8bit": Optimizer("adamw", 2, _adamw_8bit),
    "lion": Optimizer("lion", 4, _lion),
}


def optimizer_of(train: Train, learning_rate: float, device: str, precision: str) -> Built:
    """For the Trainer's `optimizer_cls_and_kwargs`. Raises MachineError where the device cannot run it.

    The Trainer adds the parameter groups, with no weight decay on biases and norms.
    """
    optimizer, arguments = OPTIMIZERS[train.optimizer].build(train, device, precision)
    return optimizer, {"lr": learning_rate, **arguments}
