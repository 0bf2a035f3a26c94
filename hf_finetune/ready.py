"""What a run needs before training: index, machine, facts, plan; then the adapted model.

Shared by training, `plan` and `lr-find`. Loading starts only in the functions that say so.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hf_finetune.manifest import FILE, Manifest, read_manifest
from hf_finetune.recipe import Recipe
from hf_finetune.types import BackboneFacts, Index, Machine, Plan

if TYPE_CHECKING:
    from torch import nn

    from hf_finetune.adapters.start import Start


@dataclass(frozen=True)
class Prepared:
    """What is known before anything is decoded or loaded.

    `written` is the recipe as it was written, which marks the run folder; in `recipe` what `adapter.from` decides is
    filled in, and `start` is that adapter.
    """

    recipe: Recipe
    index: Index
    machine: Machine
    facts: BackboneFacts
    plan: Plan
    written: Recipe
    start: Start | None

    @property
    def start_digest(self) -> str | None:
        """sha256 (hex) of the adapter that the run starts from."""
        return None if self.start is None else self.start.digest


def make_ready(recipe: Recipe, data: Any = None) -> Prepared:
    """Everything up to the plan. Raises the errors of a recipe that this machine or these data cannot serve.

    `data` (of a notebook) replaces the recipe's, and is named in it.
    """
    from hf_finetune.data.scan import index_of, scan

    seed = recipe.train.seed
    index = scan(recipe.data, seed=seed) if data is None else index_of(data, recipe.data, seed=seed)
    if data is not None:
        recipe = recipe.model_copy(update={"data": recipe.data.model_copy(update={"name": index.source})})
    from hf_finetune.backbones.facts import read_facts
    from hf_finetune.machine import detect
    from hf_finetune.plan import make_plan

    machine = detect(recipe.budget.memory, recipe.output.folder)
    classes = len(index.labels.names)
    facts = read_facts(recipe.model, classes)
    recipe.quantization.check(facts, machine)
    written, (recipe, start) = recipe, follow_start(recipe, facts, index.labels.names)
    trainable = recipe.adapter.trainable_parameters(facts, classes)
    plan = make_plan(recipe, machine, facts, index, trainable)
    return Prepared(recipe, index, machine, facts, plan, written, start)


def follow_start(recipe: Recipe, facts: BackboneFacts, labels: tuple[str, ...]) -> tuple[Recipe, Start | None]:
    """The recipe with what the adapter of `adapter.from` decides, and that adapter. Raises AdapterError."""
    lora = recipe.adapter
    if lora.kind != "lora" or lora.start is None:
        return recipe, None
    from hf_finetune.adapters.fetch import fetch_adapter
    from hf_finetune.adapters.start import follow, read_start
    from hf_finetune.backbones.renamed_modules import module_names

    fetched = fetch_adapter(lora.start)
    ours = (fetched.folder / FILE).is_file()
    base = read_manifest(fetched.folder).fingerprint if ours else None
    start = read_start(fetched, facts, module_names(recipe.model), labels, base)
    return recipe.model_copy(update={"adapter": follow(lora, start, facts)}), start


def describe(ready: Prepared) -> Manifest:
    """What the result will say of itself."""
    from hf_finetune.backbones.fingerprint import fingerprint

    recipe = ready.recipe
    name = recipe.model.name
    folder = Path(name).expanduser()
    return Manifest(
        base=str(folder.resolve()) if folder.is_dir() else name,
        revision=ready.facts.commit,
        fingerprint=fingerprint(recipe.model),
        adapter=recipe.adapter.model_dump(mode="json"),
        quantization=recipe.quantization.kind,
        dtype=frozen_dtype(ready),
        head=ready.facts.head,
        labels=ready.index.labels.names,
        preprocess=ready.facts.preprocess,
    )


def frozen_dtype(ready: Prepared) -> str:
    """The type of the backbone's weights in memory: what trains stays float32."""
    return "fp32" if ready.recipe.adapter.kind == "full" else ready.plan.precision.value


def build_model(ready: Prepared) -> nn.Module:
    """The backbone with its adapter, on the device that trains."""
    import torch

    from hf_finetune.backbones.load import enable_checkpointing, load_backbone
    from hf_finetune.loading import short_sequence, torch_dtype
    from hf_finetune.machine import limit_memory

    recipe, facts, plan = ready.recipe, ready.facts, ready.plan
    if recipe.budget.memory is not None:
        limit_memory(ready.machine, recipe.budget.memory)
    torch.manual_seed(recipe.train.seed)
    quantization = recipe.quantization.config(facts.head)
    place = ready.machine.place
    model = load_backbone(
        recipe.model,
        ready.index.labels,
        dtype=torch_dtype(frozen_dtype(ready)),
        seed=recipe.train.seed,
        quantization_config=quantization,
        device_map={"": place} if quantization is not None else None,
        plain_attention=place == "cpu" and short_sequence(facts.preprocess),
    )
    adapted = recipe.adapter.apply(model, facts)
    if ready.start is not None:
        put_start_on(ready.start, adapted, recipe)
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

    from hf_finetune.adapters.start import install
    from hf_finetune.backbones.fingerprint import fingerprint

    if start.fingerprint is not None:
        start.check_base(fingerprint(recipe.model), recipe.model.name)
    if not isinstance(model, PeftModel):
        raise TypeError(f"LoRA wraps a model in a PeftModel, not {type(model).__name__}")
    install(start, model)
