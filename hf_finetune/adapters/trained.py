"""What trains after wrapping, checked against the plan; and the norms that training must leave in eval mode."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from hf_finetune.errors import ModelError

if TYPE_CHECKING:
    import torch
    from peft import PeftConfig, PeftModel
    from torch import nn
    from transformers import PreTrainedModel

_PREFIX = "base_model.model."


def wrap(model: PreTrainedModel, config: PeftConfig, revision: str | None) -> PeftModel:
    """`get_peft_model`, with the base's revision written into the adapter's config."""
    from peft import get_peft_model

    with warnings.catch_warnings():
        # 2026-11-23: peft 0.21.2 reads a property that transformers 5.23 calls deprecated.
        warnings.filterwarnings("ignore", message="`is_gradient_checkpointing` is deprecated", category=FutureWarning)
        return get_peft_model(model, config, revision=revision)  # pyright: ignore[reportReturnType]


def check_lora(model: PeftModel, targets: Iterable[str], head: Iterable[str]) -> None:
    """Raise ModelError unless exactly the low-rank factors on `targets` and the whole head train."""
    from peft.tuners.lora import LoraLayer
    from peft.utils import ModulesToSaveWrapper

    modules = dict(model.named_modules())
    wrapped = {name.removeprefix(_PREFIX) for name, module in modules.items() if isinstance(module, LoraLayer)}
    saved = {name.removeprefix(_PREFIX) for name, each in modules.items() if isinstance(each, ModulesToSaveWrapper)}
    # PEFT matches by the ends of names, so a name may catch a second module.
    _same("LoRA", wrapped, set(targets))
    _same("the trained head", saved, set(head))
    _check_trains(model, ("lora_", "modules_to_save."))


def check_head_only(model: PeftModel, head: Iterable[str]) -> None:
    """Raise ModelError unless exactly the head trains."""
    from peft.tuners.ln_tuning.layer import LNTuningLayer

    modules = model.named_modules()
    _same("the trained head", {n.removeprefix(_PREFIX) for n, m in modules if isinstance(m, LNTuningLayer)}, set(head))
    _check_trains(model, ("ln_tuning_layers.",))


def _same(what: str, found: set[str], wanted: set[str]) -> None:
    if found != wanted:
        raise ModelError(
            f"{what} is not where it was planned; more: {sorted(found - wanted)}, missing: {sorted(wanted - found)}",
            "name the modules in adapter.targets in full",
        )


def _check_trains(model: nn.Module, marks: tuple[str, ...]) -> None:
    wrong = [
        name for name, weight in model.named_parameters() if weight.requires_grad != any(mark in name for mark in marks)
    ]
    if wrong:
        raise ModelError(f"these weights train although they should not, or do not although they should: {wrong}")


def frozen_norms(model: nn.Module) -> list[nn.Module]:
    """Modules with running statistics whose weights do not train: training must put them in eval mode every step.

    In train mode their buffers change although nothing saves them, and the reloaded adapter would answer differently.
    A norm without weights counts as frozen where any weight of the model is.
    """
    adapted = any(not weight.requires_grad for weight in model.parameters())
    found = []
    for module in model.modules():
        buffers = [name for name, _ in module.named_buffers(recurse=False)]
        if not any(name in ("running_mean", "running_var") for name in buffers):
            continue
        weights = list(module.parameters(recurse=False))
        if not any(weight.requires_grad for weight in weights) and (weights or adapted):
            found.append(module)
    return found


def trained_module(model: nn.Module, name: str) -> nn.Module:
    """The module whose weights train where the backbone has `name`: inside PEFT's wrapper, if there is one."""
    from peft import PeftModel

    base = model.get_base_model() if isinstance(model, PeftModel) else model
    module = base.get_submodule(name)  # pyright: ignore[reportCallIssue, reportAttributeAccessIssue]
    for copies in ("modules_to_save", "ln_tuning_layers"):
        found = getattr(module, copies, None)
        if found is not None:
            return found["default"]
    return module


def trained_state(model: nn.Module) -> dict[str, torch.Tensor]:
    """Copies on the CPU of everything that training changes: trained weights, and statistics of trained norms."""
    state = {name: weight for name, weight in model.named_parameters() if weight.requires_grad}
    if all(weight.requires_grad for weight in model.parameters()):
        state |= dict(model.named_buffers())
    return {name: tensor.detach().cpu().clone() for name, tensor in state.items()}


def restore_state(model: nn.Module, state: Mapping[str, torch.Tensor]) -> None:
    """Put `trained_state` back, in place."""
    there = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    for name, tensor in state.items():
        there[name].data.copy_(tensor)
