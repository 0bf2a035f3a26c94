"""What a model looked at: how much each place of an image speaks for what is said of it.

Gradient times activation on the last feature map that the head reads: for networks that pool it that is Grad-CAM
(Selvaraju et al. 2017, arXiv 1610.02391) place by place; where the head reads a class token alone, the tokens that
enter the last block count, through which the class token sees them. Only the last block and the head are differentiated.
Owns the map; drawing is `report/predicted/overlay.py`'s. Imports torch only to run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from hf_finetune.errors import ModelError
from hf_finetune.result.classifier import Classifier
from hf_finetune.tasks import Target

if TYPE_CHECKING:
    from torch import Tensor, nn

BATCH = 32
Score = Callable[["Tensor"], "Tensor"]


def saliency(
    model: Classifier | nn.Module, pixels: np.ndarray | Tensor, *, outputs: np.ndarray | None = None, batch: int = BATCH
) -> np.ndarray:
    """float32 [N, H, W], each map from 0 to its largest value, 1; zeros where nothing speaks for the answer.

    `pixels`: uint8 [N, 3, H, W] as the checkpoint sees them for a Classifier; what goes into the model for a module.
    `outputs` int [N]: which output is asked about; None: of classes and labels the largest, of numbers and grades their
    sum, of several targets all of these. Raises ModelError where the model has no feature map of images.
    """
    import torch

    network: Any = model.model if isinstance(model, Classifier) else model
    device = next(network.parameters()).device
    found: list[np.ndarray] = []
    for start in range(0, len(pixels), batch):
        piece = pixels[start : start + batch]
        inputs = model.inputs(np.asarray(piece)) if isinstance(model, Classifier) else torch.as_tensor(piece).to(device)
        score = _score_of(model.manifest.target) if isinstance(model, Classifier) else _largest
        if outputs is not None:
            chosen = torch.as_tensor(np.asarray(outputs)[start : start + batch], device=device)
            score = lambda logits, chosen=chosen: logits.gather(1, chosen[:, None])[:, 0]  # noqa: E731
        found.append(_maps(network, inputs, score).cpu().numpy())
    return np.concatenate(found) if found else np.zeros((0, *pixels.shape[2:]), np.float32)


def _score_of(target: Target) -> Score:
    """What is asked about where no output is named."""
    from hf_finetune.tasks.several_target import SeveralTarget

    if isinstance(target, SeveralTarget):
        parts = [(_score_of(single.target), outputs) for single, outputs, _ in target.places()]
        return lambda logits: sum(
            (score(logits[:, outputs]) for score, outputs in parts), logits.new_zeros(len(logits))
        )
    return _largest if target.settings["kind"] in ("classification", "multilabel") else lambda logits: logits.sum(1)


def _largest(logits: Tensor) -> Tensor:
    return logits.amax(1)


def _maps(model: nn.Module, inputs: Tensor, score: Score) -> Tensor:
    """float32 [N, H, W] by the first of the model's places that holds a feature map."""
    import torch

    was_training = model.training
    model.eval()
    try:
        for name in _places(model):
            with torch.no_grad(), _kept(model.get_submodule(name)) as kept:
                logits = model(pixel_values=inputs).logits.float()
                states = kept.states()
                if states and logits.requires_grad:
                    gradients = torch.autograd.grad(score(logits).sum(), states, allow_unused=True)
                    if (found := _chosen(states, gradients, inputs)) is not None:
                        return found
    finally:
        model.train(was_training)
    raise ModelError(
        f"{type(model).__name__} has no feature map in which places of the image can be told",
        "what it looks at can be shown for networks of blocks (ViT, Swin, ConvNeXt, ResNet …) and of convolutions",
    )


def _places(model: nn.Module) -> Iterator[str]:
    """The last block, then the last convolutions, by their names in `model`."""
    from torch import nn

    from hf_finetune.backbones.anatomy import find_blocks

    backbone: Any = getattr(model, "get_base_model", lambda: model)()
    prefix = next(name for name, module in model.named_modules() if module is backbone)
    prefix = f"{prefix}." if prefix else ""
    if blocks := find_blocks(backbone, ()):
        yield prefix + blocks[-1]
    convolutions = [name for name, module in backbone.named_modules() if isinstance(module, nn.Conv2d)]
    for name in convolutions[:-4:-1]:
        yield prefix + name


@dataclass
class _Kept:
    """What went into a module and what came out, in this order; from there on gradients are kept."""

    entered: list[Tensor] = field(default_factory=list)
    left: list[Tensor] = field(default_factory=list)

    def states(self) -> list[Tensor]:
        return self.entered[:1] + self.left[:1]


@contextmanager
def _kept(module: nn.Module) -> Iterator[_Kept]:
    import torch

    kept = _Kept()

    def enter(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        state = args[0] if args else kwargs.get("hidden_states")
        if not isinstance(state, torch.Tensor):
            return args, kwargs
        state = state.detach().requires_grad_()
        kept.entered.append(state)
        torch.set_grad_enabled(True)  # until the caller's `no_grad` ends: nothing before this block is differentiated
        return ((state, *args[1:]), kwargs) if args else (args, {**kwargs, "hidden_states": state})

    def leave(_: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        del args
        state = output[0] if isinstance(output, tuple | list) else output
        if isinstance(state, torch.Tensor) and state.requires_grad:
            kept.left.append(state)

    handles = [module.register_forward_pre_hook(enter, with_kwargs=True), module.register_forward_hook(leave)]
    try:
        yield kept
    finally:
        for handle in handles:
            handle.remove()


def _chosen(states: list[Tensor], gradients: tuple[Tensor | None, ...], inputs: Tensor) -> Tensor | None:
    """The map of what left the block, unless the head reads next to none of its places; then of what entered it."""
    import torch

    for state, gradient in reversed(list(zip(states, gradients, strict=True))):
        if gradient is None:
            continue
        reached = _on_grid(gradient.float().abs(), inputs)
        if reached is None or (reached.sum(1) > 0).float().mean() < 0.5:
            continue
        places = _on_grid((state * gradient).detach().float(), inputs)
        assert places is not None
        heat = places.sum(1, keepdim=True).relu()
        heat = torch.nn.functional.interpolate(heat, size=inputs.shape[2:], mode="bilinear")[:, 0]
        return heat / heat.amax((1, 2), keepdim=True).clamp(min=torch.finfo(torch.float32).tiny)
    return None


def _on_grid(state: Tensor, inputs: Tensor) -> Tensor | None:
    """[N, C, h, w] of a state [N, C, h, w], [N, h, w, C] or [N, tokens, C]; None where it is no map of the images."""
    height, width = inputs.shape[2:]
    if len(state) != len(inputs):
        return None
    if state.ndim == 4:
        aspect = width / height
        first, last = (abs(np.log(shape[1] / shape[0] / aspect)) for shape in (state.shape[2:], state.shape[1:3]))
        found = state if first <= last else state.permute(0, 3, 1, 2)
        return found if max(found.shape[2:]) > 1 else None
    if state.ndim != 3:
        return None
    grids = {(height // patch, width // patch) for patch in range(1, min(height, width) + 1)}
    fitting = [(rows * columns, rows, columns) for rows, columns in grids if rows * columns <= state.shape[1]]
    count, rows, columns = max(fitting)
    if count < 4 or state.shape[1] - count > count:  # more other tokens than places: it is no grid
        return None
    # Tokens of class, distillation and registers stand before those of the image in every family that is known here.
    return state[:, state.shape[1] - count :].transpose(1, 2).unflatten(2, (rows, columns))
