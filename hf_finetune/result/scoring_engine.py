"""What scores many rows with a finished model: the torch model, or an engine that answers a sample of them alike.

A reported figure holds for stock loading: where another engine scored, `Choice.figures` say how many of the sampled
rows it answered otherwise than the torch model, and how far logits were apart.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from hf_finetune.backbones.engines.available import unavailable
from hf_finetune.backbones.engines.choose import SAMPLE, Choice, Offer, agreement, choose, evenly, pays
from hf_finetune.backbones.engines.eager import Eager
from hf_finetune.backbones.engines.engine import EngineRefusedError
from hf_finetune.backbones.engines.graph import Graph
from hf_finetune.preprocess.normalise import Normaliser
from hf_finetune.result.manifest import Manifest
from hf_finetune.types import PixelRows

logger = logging.getLogger(__name__)
_PRECISIONS = {torch.float32: "fp32", torch.bfloat16: "bf16"}
CONVERSIONS = 3  # nothing is decoded meanwhile: the rows must be worth so many conversions


def scoring_engine(
    model: nn.Module, rows: PixelRows, manifest: Manifest, wanted: str, *, batch: int, what: str
) -> Choice | None:
    """The engine that scores all `rows`; None where the torch model does without a word: rows are few, or nothing else
    is to be had. `wanted` is the recipe's `model.engine`, which insists on nothing here; `what` names the rows.

    The graph is made with PEFT's own forward: use it for scoring alone.
    """
    device = next(model.parameters()).device
    if wanted in ("eager", "int8") or unavailable(device.type, 1, manifest.quantization) is not None:
        return None
    if len(rows) <= 2 * SAMPLE:
        return None
    eager, normalise = Eager(model), Normaliser(manifest.preprocess)

    def batches(count: int) -> Sequence[torch.Tensor]:
        chosen = evenly(max(count, batch), len(rows))
        pieces = [chosen[start : start + batch] for start in range(0, len(chosen), batch)]
        return [normalise({"pixel_values": torch.from_numpy(rows.gather(piece)).to(device)}) for piece in pieces]

    parameters = sum(weight.numel() for weight in model.parameters())
    first = batches(1)[0]
    eager(first[:2])
    started = time.perf_counter()
    eager(first)
    image_s = (time.perf_counter() - started) / len(first)
    if not pays(len(rows) // CONVERSIONS, image_s, parameters):
        return None
    choice = choose("auto", f"scoring of {what}", eager, _offer(eager, manifest), len(rows), batches)
    if choice.sample is None:
        logger.info("%s.", choice.text)
        return choice
    expected, found = choice.sample
    count, differ, largest = agreement(expected.logits, found.logits)
    said = f"{differ} of {count} sampled rows are answered otherwise"
    text = f"{choice.text}; {said}, logits differ by {100 * largest:.1f} % at most"
    logger.info("%s.", text)
    figures = {**choice.figures, "why": text, "answers_compared": count, "answers_that_differ": differ}
    return replace(choice, text=text, figures={**figures, "logits_differ_by": largest})


def _offer(eager: Eager, manifest: Manifest) -> Offer:
    started = time.perf_counter()
    size = (manifest.preprocess.height, manifest.preprocess.width)
    frozen = max(eager.model.parameters(), key=lambda weight: weight.numel())
    try:
        with _own_forward(eager.model):
            graph = Graph(eager, size, _PRECISIONS.get(frozen.dtype, str(frozen.dtype)))
    except EngineRefusedError as refused:
        return Offer(reason=str(refused))
    return Offer(graph, seconds=time.perf_counter() - started)


@contextmanager
def _own_forward(model: nn.Module) -> Iterator[None]:
    """Inside, LoRA layers run PEFT's own forward: an autograd function of ours cannot be traced."""
    from peft.tuners.lora import LoraLayer

    layers: list[Any] = [
        module for module in model.modules() if isinstance(module, LoraLayer) and "forward" in vars(module)
    ]
    ours = [layer.__dict__.pop("forward") for layer in layers]
    try:
        yield
    finally:
        for layer, forward in zip(layers, ours, strict=True):
            layer.forward = forward
