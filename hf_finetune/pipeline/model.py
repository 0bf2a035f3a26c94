"""The model of a run: the backbone with its adapter on the device that trains, and what the result will say of it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from hf_finetune.plan.context import RunContext
from hf_finetune.quantizers.checks import skip_patterns
from hf_finetune.recipe.recipe import Recipe
from hf_finetune.result.manifest import Manifest

if TYPE_CHECKING:
    from torch import nn

    from hf_finetune.adapters.starting.start import Start


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
        labels=context.index.labels.names,
        preprocess=context.facts.preprocess,
    )


def frozen_dtype(context: RunContext) -> str:
    """The type of the backbone's weights in memory: what trains stays float32."""
    return "fp32" if context.recipe.adapter.whole else context.plan.precision.value


def build_model(context: RunContext) -> nn.Module:
    """The backbone with its adapter, on the device that trains."""
    import torch

    from hf_finetune.backbones.load import enable_checkpointing, load_backbone
    from hf_finetune.machine.detect import limit_memory
    from hf_finetune.result.load import short_sequence, torch_dtype

    recipe, facts, plan = context.recipe, context.facts, context.plan
    if recipe.budget.memory is not None:
        limit_memory(context.machine, recipe.budget.memory)
    torch.manual_seed(recipe.train.seed)
    skipped = skip_patterns(recipe.quantization.left_out(facts), facts.linears)
    quantization = recipe.quantization.config(facts.head, skipped)
    place = context.machine.place
    model = load_backbone(
        recipe.model,
        context.index.labels,
        dtype=torch_dtype(frozen_dtype(context)),
        seed=recipe.train.seed,
        quantization_config=quantization,
        device_map={"": place} if quantization is not None else None,
        plain_attention=place == "cpu" and short_sequence(facts.preprocess),
    )
    adapted = recipe.adapter.apply(model, facts)
    if context.start is not None:
        put_start_on(context.start, adapted, recipe)
    for config in getattr(adapted, "peft_config", {}).values():
        # PEFT asks the Hub about this name at every checkpoint (for a vocabulary); the result names it again.
        config.base_model_name_or_path = ""
    if plan.checkpointing.value:
        enable_checkpointing(adapted)
    if quantization is None:
        # Before the Trainer would: the probe runs without one.
        adapted.to(place)  # pyright: ignore[reportArgumentType]  transformers wraps nn.Module.to
    return adapted


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
