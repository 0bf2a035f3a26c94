"""Makes an engine for the frozen pass ready while images are decoded, where the pass is long enough for it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from peft import PeftModel
from torch import nn

from hf_finetune.backbones.engines.available import unavailable
from hf_finetune.backbones.engines.choose import Offer, pays
from hf_finetune.backbones.engines.eager import Eager
from hf_finetune.backbones.engines.engine import EngineRefusedError, Outputs
from hf_finetune.backbones.engines.graph import Graph, identity
from hf_finetune.errors import ModelError
from hf_finetune.ladder.probe.engines import recorded
from hf_finetune.ladder.probe.feature_pass import FeaturePlace, cache_of_features, entry_of, watch_of
from hf_finetune.ladder.probe.last_block import short_last_block
from hf_finetune.ladder.starting_model import as_started
from hf_finetune.plan.speed import stated_flops
from hf_finetune.training.autocast import autocast_type
from hf_finetune.types import Split

if TYPE_CHECKING:
    from hf_finetune.plan.context import RunContext

WORTH_SAYING_S = 30.0  # a shorter pass is no reason to speak of an extra that is not installed
_BLANKS = 8  # images to measure with before any is decoded


def engine_ahead(model: nn.Module, context: RunContext, place: FeaturePlace, splits: Sequence[Split]) -> Offer:
    """A graph of the backbone as it starts, where the recipe, the machine and the length of the pass over `splits` ask
    for one and its features are not kept yet. Raises nothing: what fails is the offer's reason."""
    recipe, machine, begun = context.recipe, context.machine, recorded(place.record)
    wanted = recipe.model.engine if begun is None else "graph" if begun else "eager"
    if wanted in ("eager", "int8") or "probe" not in context.plan.rungs.value:
        return Offer()
    reason = unavailable(machine.device, machine.world_size, recipe.quantization.kind)
    if reason is not None and (wanted == "graph" or machine.device != "cpu" or machine.world_size > 1):
        return Offer(reason=reason if wanted == "graph" else "")
    images = sum(len(context.index.splits.get(split, ())) for split in splits)
    if reason is not None:
        # Nothing is measured for an extra that is not there: the machine's stated rate tells whether it would matter.
        stated_s = images * (context.facts.forward_flops or 0.0) / stated_flops(machine)
        return Offer(reason=reason if stated_s > WORTH_SAYING_S else "")
    entry, facts = entry_of(context), context.facts
    autocast = autocast_type(context.plan.precision.value) if recipe.adapter.whole else None
    eager = Eager(model, watch_of(model, facts.head, entry), autocast)
    size = (facts.preprocess.height, facts.preprocess.width)
    try:
        with as_started(model, context):
            found, image_s = _measured(eager, size)
    except ModelError:  # a head that takes more than a vector: the probe will say so
        return Offer()
    if wanted == "auto" and not pays(images, image_s, facts.parameters):
        return Offer()
    if _is_kept(context, place, entry, found, splits):
        return Offer()
    return _converted(eager, context, size)


def _converted(eager: Eager, context: RunContext, size: tuple[int, int]) -> Offer:
    backbone: Any = eager.model.get_base_model() if isinstance(eager.model, PeftModel) else eager.model
    started = time.perf_counter()
    try:
        # Blank noise decides whether the last block may be short: the graph is compared on the run's images later.
        noise = _Noise(size)
        with short_last_block(eager.model, backbone, context, noise, eager.autocast), _as_traced(eager.model, context):
            graph = Graph(eager, size, context.plan.precision.value)
    except EngineRefusedError as refused:
        return Offer(reason=str(refused))
    return Offer(graph, seconds=time.perf_counter() - started)


def _as_traced(model: nn.Module, context: RunContext) -> AbstractContextManager[object]:
    """As `as_started`, with PEFT's own forward where an adapter is on: our autograd function cannot be traced."""
    return nullcontext() if context.start is not None else as_started(model, context)


def _measured(eager: Eager, size: tuple[int, int]) -> tuple[Outputs, float]:
    """What the torch model gives for blank images, whose speed does not depend on what they show, and seconds each."""
    blank = torch.zeros(_BLANKS, 3, *size, device=eager.device)
    eager(blank[:2])
    started = time.perf_counter()
    found = eager(blank)
    return found, (time.perf_counter() - started) / _BLANKS


def _is_kept(
    context: RunContext, place: FeaturePlace, entry: str | None, found: Outputs, splits: Sequence[Split]
) -> bool:
    """Whether an earlier run left all features, by an engine that this run may take them from."""
    if found.features is None:
        return False
    shape = None if found.hidden is None else tuple(found.hidden.shape[1:])
    engines = [identity(context.plan.precision.value)] + [""] * (context.recipe.model.engine == "auto")
    rows: dict[Split, int] = {split: len(context.index.splits.get(split, ())) for split in splits}
    for engine in engines:
        cache = cache_of_features(context, place, entry, found.features.shape[1], shape, engine)
        if all(cache.has(count, split) for split, count in rows.items() if count):
            return True
    return False


class _Noise:
    """A few images of noise, as rows."""

    labels = np.zeros(_BLANKS, np.int64)
    sizes = np.zeros((_BLANKS, 2), np.int32)
    names: list[str] = [""] * _BLANKS

    def __init__(self, size: tuple[int, int]) -> None:
        self._pixels = np.random.default_rng(0).integers(0, 256, (_BLANKS, 3, *size), dtype=np.uint8)

    def __len__(self) -> int:
        return _BLANKS

    def gather(self, indices: np.ndarray) -> np.ndarray:
        """uint8 [n, 3, H, W]."""
        return self._pixels[indices]
