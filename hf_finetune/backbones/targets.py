"""Which Linear and convolution modules LoRA may adapt, by role, and why each other one is left alone.

A wrapped module helps only if the network calls it; a weight that is read from outside (as nn.MultiheadAttention reads
`out_proj.weight`) would leave its adapter without effect and without gradient, and so would a module whose output
nobody uses (SigLIP's pooling head below a classifier that averages). So one image is run, watched (watch.py), and led
back. The same run tells which Linear layers a quantizer must leave as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import nn

from hf_finetune.backbones.watch import GEOMETRY, Watched, watched

ROLES = ("attention", "mlp", "conv")
_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
# Subclasses that compute what their parent does with the weight as it is (timm 1.0.31: only cast, or only pad).
_PLAIN_SUBCLASSES = frozenset({"timm.layers.linear.Linear", "timm.layers.conv2d_same.Conv2dSame"})


@dataclass(frozen=True)
class Targets:
    """`by_role`: names to adapt; `excluded`: every other Linear or convolution outside the head, with the reason.

    `shapes`: (in, out) as LoRA counts them; a k×k convolution reads in·k·k values per output. `linears`: (in, out) of
    every module outside the head that is a plain nn.Linear, adapted or not; `fixed`: those of them whose weight must
    stay where and as it is, with the reason; `mapped`: those that get [B, H, W, C], or more dimensions yet.
    """

    by_role: dict[str, tuple[str, ...]]
    excluded: dict[str, str]
    shapes: dict[str, tuple[int, int]]
    linears: dict[str, tuple[int, int]]
    fixed: dict[str, str]
    mapped: frozenset[str]


def find_targets(model: nn.Module, head: tuple[str, ...], run_once: Callable[[], torch.Tensor]) -> Targets:
    """Sort every Linear and convolution outside `head`; `run_once` gives the logits of one image, with their graph."""
    eligible = {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, (nn.Linear, *_CONVOLUTIONS)) and not _inside(name, head)
    }
    shared = _shared(model)
    # The caller may be inside no_grad or inference_mode; what reaches the logits is read from the graph.
    with torch.inference_mode(False), torch.enable_grad():
        with watched(eligible) as seen:
            logits = run_once()
        reached = _reached(logits, eligible)
    by_role: dict[str, list[str]] = {role: [] for role in ROLES}
    excluded: dict[str, str] = {}
    shapes: dict[str, tuple[int, int]] = {}
    for name, module in eligible.items():
        reason = _refuse_module(name, module, shared) or _refuse_use(name, seen, reached)
        if reason is not None:
            excluded[name] = reason
            continue
        by_role[_role(model, name, module)].append(name)
        shapes[name] = _shape(module)
    # By exact type, as transformers does where it replaces layers by quantized ones.
    linears = {name: _shape(module) for name, module in eligible.items() if type(module) is nn.Linear}
    fixed = {name: why for name in linears if (why := _fixed(name, seen, reached, shared)) is not None}
    mapped = frozenset(name for name in linears if seen.dimensions.get(name, 0) > 3)
    return Targets(
        {role: tuple(names) for role, names in by_role.items() if names}, excluded, shapes, linears, fixed, mapped
    )


def _inside(name: str, head: tuple[str, ...]) -> bool:
    return any(name == each or name.startswith(f"{each}.") for each in head)


def _reached(logits: torch.Tensor, eligible: Mapping[str, nn.Module]) -> set[str]:
    """The modules whose weight has any part in the logits."""
    weights = {name: module.get_parameter("weight") for name, module in eligible.items()}
    given = torch.autograd.grad(logits.sum(), list(weights.values()), allow_unused=True)
    return {name for name, gradient in zip(weights, given, strict=True) if gradient is not None}


def _refuse_module(name: str, module: nn.Module, shared: Mapping[str, str]) -> str | None:
    if name in shared:
        return f"shares its weight with {shared[name]}"
    if isinstance(module, _CONVOLUTIONS):
        return _refuse_convolution(module)
    return None if _is_plain(module, nn.Linear) else f"{type(module).__name__} does more than a Linear"


def _fixed(name: str, seen: Watched, reached: set[str], shared: Mapping[str, str]) -> str | None:
    if name in shared:
        return f"shares its weight with {shared[name]}"
    # The graph knows of reads by other ways than the attribute.
    if "weight" in seen.read.get(name, ()) or (name in reached and name not in seen.called):
        return "the network reads its weight itself"
    return None


def _refuse_use(name: str, seen: Watched, reached: set[str]) -> str | None:
    if name not in reached:
        return "has no part in the logits"
    if name not in seen.called:
        return "not called in forward: its weight is read from outside, where an adapter has no effect"
    if read := seen.read.get(name, set()) & GEOMETRY:
        return f"the network reads its {', '.join(sorted(read))}, which PEFT's wrapper does not pass on"
    return None


def _refuse_convolution(module: nn.Module) -> str | None:
    if not isinstance(module, nn.Conv2d):
        return f"{type(module).__name__}: only two-dimensional convolutions are adapted"
    if module.groups != 1:
        return f"grouped convolution ({module.groups} groups)"
    if module.in_channels == 3:
        return "reads the pixels: its filters fit any photo, and adapting it costs a backward pass at full resolution"
    if module.dilation not in (1, (1, 1)):
        return f"dilation {module.dilation}, which PEFT's convolution adapter leaves out"
    if module.padding_mode != "zeros":
        return f"padding mode {module.padding_mode}, which PEFT's convolution adapter leaves out"
    # A standardised convolution normalises lora_B too: the first step would jump from zero to full size.
    return (
        None if _is_plain(module, nn.Conv2d) else f"{type(module).__name__} changes its weight or its input in forward"
    )


def _is_plain(module: nn.Module, parent: type[nn.Module]) -> bool:
    kind = type(module)
    return kind.forward is parent.forward or f"{kind.__module__}.{kind.__qualname__}" in _PLAIN_SUBCLASSES


def _shared(model: nn.Module) -> dict[str, str]:
    """Modules that appear under two names, or whose weight another module holds too -> the other's name."""
    owners: dict[int, list[str]] = {}
    for name, module in model.named_modules(remove_duplicate=False):
        weight = getattr(module, "weight", None)
        if isinstance(weight, nn.Parameter):
            owners.setdefault(id(weight), []).append(name)
    return {
        name: next(other for other in names if other != name)
        for names in owners.values()
        if len(set(names)) > 1
        for name in names
    }


def _role(model: nn.Module, name: str, module: nn.Module) -> str:
    if isinstance(module, nn.Conv2d):
        return "conv"
    parts = name.split(".")
    for depth in range(1, len(parts) + 1):
        path = ".".join(parts[:depth])
        kind = type(model.get_submodule(path)).__name__.lower()
        step = parts[depth - 1].lower()
        if "attention" in kind or "attn" in kind or "attn" in step or "attention" in step:
            # Containers of whole blocks are sometimes called attention too; an MLP below one is still an MLP.
            rest = ".".join(parts[depth:]).lower()
            if not any(word in rest for word in ("mlp", "ffn", "fc1", "fc2", "cpb")):
                return "attention"
    return "mlp"


def _shape(module: nn.Module) -> tuple[int, int]:
    if isinstance(module, nn.Conv2d):
        return module.in_channels * module.kernel_size[0] * module.kernel_size[1], module.out_channels
    weight = module.get_parameter("weight")
    return int(weight.shape[1]), int(weight.shape[0])


def one_image(model: nn.Module, height: int, width: int) -> Callable[[], torch.Tensor]:
    """A function that gives the logits of one black image [1, 3, H, W], with their graph."""

    def run() -> torch.Tensor:
        return model(pixel_values=torch.zeros(1, 3, height, width, device=next(model.parameters()).device)).logits

    return run
