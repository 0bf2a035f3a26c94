"""The model of a run: the backbone with its adapter on the device that trains, and what the result will say of it."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING

from hf_finetune.plan.context import RunContext
from hf_finetune.quantizers.checks import skip_patterns
from hf_finetune.recipe.recipe import Recipe
from hf_finetune.result.manifest import Manifest
from hf_finetune.result.split_record import local_place

if TYPE_CHECKING:
    from torch import nn

    from hf_finetune.adapters.starting.start import Start
    from hf_finetune.backbones.own_head import OwnHead


logger = logging.getLogger(__name__)


def describe(context: RunContext) -> Manifest:
    """What the result will say of itself."""
    from hf_finetune.backbones.fingerprint import fingerprint

    recipe = context.recipe
    name = recipe.model.name
    folder = Path(name).expanduser()
    return Manifest(
        base=str(folder.resolve()) if folder.is_dir() else name,
        revision=context.facts.commit,
        fingerprint=fingerprint(recipe.model),
        adapter=recipe.adapter.model_dump(mode="json"),
        quantization=recipe.quantization.kind,
        unquantized=tuple(skip_patterns(recipe.quantization.left_out(context.facts), context.facts.linears)),
        dtype=frozen_dtype(context),
        head=context.facts.head,
        labels=context.target.outputs.names,
        task=context.target.settings,
        preprocess=context.facts.preprocess,
        data_revision=context.index.revision,
        data_is_local=local_place(recipe.data.name) is not None,
        max_pixels=recipe.data.max_pixels,
        stream=context.plan.stream.value,
    )


def frozen_dtype(context: RunContext) -> str:
    """The type of the backbone's weights in memory: what trains stays float32."""
    return "fp32" if context.recipe.adapter.whole else context.plan.precision.value


def build_model(context: RunContext) -> nn.Module:
    """The backbone with its adapter, on the device that trains."""
    return build_with_head(context)[0]


def build_with_head(context: RunContext) -> tuple[nn.Module, OwnHead]:
    """The model, and which of the run's labels the base's own head answers."""
    import torch

    from hf_finetune.backbones.load import load_with_head, short_sequence
    from hf_finetune.backbones.recompute import recompute
    from hf_finetune.backbones.streaming.place import place_model
    from hf_finetune.machine.detect import limit_memory
    from hf_finetune.machine.process import keep_freed_memory
    from hf_finetune.result.frozen_files import files_for
    from hf_finetune.result.load import torch_dtype

    recipe, facts, plan = context.recipe, context.facts, context.plan
    if recipe.budget.memory is not None:
        limit_memory(context.machine, recipe.budget.memory)
    torch.manual_seed(recipe.train.seed)
    skipped = skip_patterns(recipe.quantization.left_out(facts), facts.linears)
    quantization = recipe.quantization.config(facts.head, skipped)
    place = context.machine.place
    if place == "cpu":
        keep_freed_memory()
    dtype = torch_dtype(frozen_dtype(context))
    model, head = load_with_head(
        recipe.model,
        context.target.outputs,
        dtype=dtype,
        seed=recipe.train.seed,
        quantization_config=quantization,
        device_map={"": place} if quantization is not None else None,
        plain_attention=place == "cpu" and short_sequence(facts.preprocess),
        frozen_files=files_for(plan.stream.value, place, recipe.model, dtype, recipe.data.cache_dir),
        classes=context.index.of_classes,
    )
    if recipe.quantization.kind == "int8":
        from hf_finetune.backbones.quantized import compute_in

        compute_in(model, recipe.compute)
    adapted = recipe.adapter.apply(model, facts)
    if context.start is not None:
        put_start_on(context.start, adapted, recipe)
    for config in getattr(adapted, "peft_config", {}).values():
        # PEFT asks the Hub about this name at every checkpoint (for a vocabulary); the result names it again.
        config.base_model_name_or_path = ""
    recompute(adapted, facts.blocks, plan.checkpointing.value)
    if quantization is None:
        # Before the Trainer would: the probe runs without one.
        place_model(adapted, facts.blocks, place, plan.stream.value)
    if plan.stream.value != "off":
        where = "in files" if plan.stream.value == "disk" else "on the host"
        logger.info("Frozen weights stay %s and are brought in block by block (%s).", where, plan.stream.reason)
    return adapted, head


def say_head(context: RunContext) -> None:
    """Log what the base's own head is to this run, where it is anything."""
    own = context.base_head
    if own is not None and own.kept:
        what = "it is the first candidate" if own.answers_all else "those outputs are kept, the others are fresh"
        logger.info("The head of %s: %s; %s.", context.recipe.model.name, own.note, what)


def put_start_on(start: Start, model: nn.Module, recipe: Recipe) -> None:
    """The starting adapter's weights on the adapted model. Raises AdapterError where its base is another."""
    from peft import PeftModel

    from hf_finetune.adapters.starting.start import install
    from hf_finetune.backbones.fingerprint import fingerprint

    if start.fingerprint is not None:
        start.check_base(fingerprint(recipe.model), recipe.model.name)
    if not isinstance(model, PeftModel):
        raise TypeError(f"LoRA wraps a model in a PeftModel, not {type(model).__name__}")
    install(start, model)
