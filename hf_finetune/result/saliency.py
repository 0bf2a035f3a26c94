"""What a model looked at: how much each place of an image speaks for what is said of it.

Gradient times activation, place by place. Of a network of convolutions it is taken on what enters the last block, as
Grad-CAM does (Selvaraju et al. 2017, arXiv 1610.02391). Of a network of tokens it is the mean over the last half of its
blocks, since the last tokens alone hold little of where they came from: what each block's attention reads. That is
behind the block's normalisation: a layer norm does not change where a token grows, so that gradient times activation
before it is zero, whatever the token says. The blocks before are not differentiated. Owns the map; drawing is
`report/predicted/overlay.py`'s. Imports torch only to run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from hf_finetune.errors import ModelError
from hf_finetune.result.classifier import Classifier

if TYPE_CHECKING:
    from torch import Tensor, nn

BATCH = 16
Score = Callable[["Tensor"], "Tensor"]


def saliency(
    model: Classifier | nn.Module, pixels: np.ndarray | Tensor, *, outputs: np.ndarray | None = None, batch: int = BATCH
) -> np.ndarray:
    """float32 [N, H, W], each map from 0 to its largest value, 1; zeros where nothing speaks for the answer.

    `pixels`: uint8 [N, 3, H, W] as the checkpoint sees them for a Classifier; what goes into the model for a module.
    `outputs` int [N]: which output is asked about; None: of classes the likeliest against all others, of labels the
    likeliest, of numbers and grades their sum, of several targets all of these. Raises ModelError where the model has
    no feature map of images.
    """
    import torch

    from hf_finetune.tasks.loss import log_odds

    network: Any = model.model if isinstance(model, Classifier) else model
    device = next(network.parameters()).device
    found: list[np.ndarray] = []
    for start in range(0, len(pixels), batch):
        piece = pixels[start : start + batch]
        inputs = model.inputs(np.asarray(piece)) if isinstance(model, Classifier) else torch.as_tensor(piece).to(device)
        score = model.manifest.target.strength if isinstance(model, Classifier) else log_odds
        if outputs is not None:
            chosen = torch.as_tensor(np.asarray(outputs)[start : start + batch], device=device)
            score = lambda logits, chosen=chosen: logits.gather(1, chosen[:, None])[:, 0]  # noqa: E731
        found.append(_maps(network, inputs, score).cpu().numpy())
    return np.concatenate(found) if found else np.zeros((0, *pixels.shape[2:]), np.float32)


def _maps(model: nn.Module, inputs: Tensor, score: Score) -> Tensor:
    """float32 [N, H, W] by the first of the model's places that hold feature maps."""
    import torch

    was_training = model.training
    model.eval()
    try:
        for names in _places(model):
            with torch.no_grad(), _read_by([model.get_submodule(name) for name in names], model) as states:
                logits = model(pixel_values=inputs).logits.float()
                grids = [_on_grid(state, inputs) for state in states]
                if not grids or grids[-1] is None or not logits.requires_grad:
                    continue
                used = [number for number, grid in enumerate(grids) if grid and states[number].requires_grad]
                if not grids[-1].channels_last:
                    used = used[-1:]
                wanted = [states[number] for number in used]
                gradients = torch.autograd.grad(score(logits).sum(), wanted, allow_unused=True)
            read = [
                (state, gradient) for state, gradient in zip(wanted, gradients, strict=True) if gradient is not None
            ]
            if read:
                return _mean([_heat(state.detach() * gradient, inputs) for state, gradient in read])
    finally:
        model.train(was_training)
    raise ModelError(
        f"{type(model).__name__} has no feature map in which places of the image can be told",
        "what it looks at can be shown for networks of blocks (ViT, Swin, ConvNeXt, ResNet …) and of convolutions",
    )


def _places(model: nn.Module) -> Iterator[list[str]]:
    """The last half of the blocks, then each of the last convolutions, by their names in `model`."""
    from torch import nn

    from hf_finetune.backbones.anatomy import find_blocks

    backbone: Any = getattr(model, "get_base_model", lambda: model)()
    prefix = next(name for name, module in model.named_modules() if module is backbone)
    prefix = f"{prefix}." if prefix else ""
    if blocks := find_blocks(backbone, ()):
        yield [prefix + name for name in blocks[len(blocks) // 2 :]]
    convolutions = [name for name, module in backbone.named_modules() if isinstance(module, nn.Conv2d)]
    for name in convolutions[:-4:-1]:
        yield [prefix + name]


@contextmanager
def _read_by(blocks: Sequence[nn.Module], model: nn.Module) -> Iterator[list[Tensor]]:
    """What each block reads, in the order in which they run: the state that enters it, or that state normalised where
    this comes first in the block. From the first block on gradients are kept."""
    import torch

    states: list[Tensor] = []
    entered: list[Tensor] = []  # the state as it came into the block that is at work, until it is normalised

    def enter(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        state = args[0] if args else kwargs.get("hidden_states")
        if not isinstance(state, torch.Tensor):
            return args, kwargs
        if not states:
            state = state.detach().requires_grad_()
            torch.set_grad_enabled(True)  # until the caller's `no_grad` ends
        states.append(state)
        entered[:] = [state]
        return ((state, *args[1:]), kwargs) if args else (args, {**kwargs, "hidden_states": state})

    def normalise(_: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        if entered and args and isinstance(output, torch.Tensor) and args[0].data_ptr() == entered[0].data_ptr():
            states[-1] = output
            entered.clear()

    handles = [block.register_forward_pre_hook(enter, with_kwargs=True) for block in blocks]
    handles += [module.register_forward_hook(normalise) for module in model.modules() if _normalises(module)]
    try:
        yield states
    finally:
        for handle in handles:
            handle.remove()


def _normalises(module: nn.Module) -> bool:
    """Whether it does so for each token by itself: a batch norm only scales."""
    kind = type(module).__name__
    return "Norm" in kind and "BatchNorm" not in kind and not any(True for _ in module.children())


@dataclass(frozen=True)
class _Grid:
    """Where the places of the image are in a state; `prefix`: other tokens that stand before them."""

    rows: int
    columns: int
    channels_last: bool
    prefix: int = 0


def _on_grid(state: Tensor, inputs: Tensor) -> _Grid | None:
    """Of a state [N, C, h, w], [N, h, w, C] or [N, tokens, C]; None where it is no map of the images."""
    height, width = inputs.shape[2:]
    if len(state) != len(inputs):
        return None
    if state.ndim == 4:
        first, last = (
            abs(np.log(shape[1] / shape[0] * height / width)) for shape in (state.shape[2:], state.shape[1:3])
        )
        rows, columns = state.shape[2:] if first <= last else state.shape[1:3]
        return _Grid(rows, columns, last < first) if max(rows, columns) > 1 else None
    if state.ndim != 3:
        return None
    tokens = state.shape[1]
    grids = {(height // patch, width // patch) for patch in range(1, min(height, width) + 1)}
    count, rows, columns = max((rows * columns, rows, columns) for rows, columns in grids if rows * columns <= tokens)
    if count < 4 or tokens - count > count:  # more other tokens than places: it is no grid
        return None
    # Tokens of class, distillation and registers stand before those of the image in every family that is known here.
    return _Grid(rows, columns, True, tokens - count)


def _heat(worth: Tensor, inputs: Tensor) -> Tensor:
    """float32 [N, H, W] that sums to 1, or is zero: what speaks for the answer, of gradient times activation."""
    import torch

    grid = _on_grid(worth, inputs)
    if grid is None:
        raise ValueError(f"a map of the images was expected, found {list(worth.shape)}")
    if worth.ndim == 3:
        places = worth[:, grid.prefix :].float().sum(2).unflatten(1, (grid.rows, grid.columns))
    else:
        places = worth.float().sum(3 if grid.channels_last else 1)
    size = (int(inputs.shape[2]), int(inputs.shape[3]))
    heat = torch.nn.functional.interpolate(places.relu()[:, None], size=size, mode="bilinear")[:, 0]
    return heat / heat.sum((1, 2), keepdim=True).clamp(min=torch.finfo(torch.float32).tiny)


def _mean(maps: Sequence[Tensor]) -> Tensor:
    """Of maps [N, H, W], its largest value 1."""
    import torch

    heat = torch.stack(tuple(maps)).mean(0)
    return heat / heat.amax((1, 2), keepdim=True).clamp(min=torch.finfo(torch.float32).tiny)
