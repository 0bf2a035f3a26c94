"""What a run needs before training: index, machine, facts, plan; then the decoded images and the adapted model.

Shared by training, `plan` and `lr-find`. Decoding and loading start only in the functions that say so.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hf_finetune.errors import DataError
from hf_finetune.manifest import Manifest
from hf_finetune.recipe import Recipe
from hf_finetune.types import BackboneFacts, Index, Machine, PixelRows, Plan

if TYPE_CHECKING:
    from torch import nn

    from hf_finetune.data.store import Store

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Prepared:
    """What is known before anything is decoded or loaded."""

    recipe: Recipe
    index: Index
    machine: Machine
    facts: BackboneFacts
    plan: Plan


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

    machine = detect(recipe.budget.memory, recipe.output.dir)
    classes = len(index.labels.names)
    facts = read_facts(recipe.model, classes)
    recipe.quantization.check(facts, machine)
    trainable = recipe.adapter.trainable_parameters(facts, classes)
    return Prepared(recipe, index, machine, facts, make_plan(recipe, machine, facts, index, trainable))


def open_images(ready: Prepared) -> Store:
    """The decoded images, built now or found from an earlier run; what is noteworthy about the data is logged."""
    from tqdm import tqdm

    from hf_finetune.data.store import open_store

    data, plan = ready.recipe.data, ready.plan
    bar = tqdm(desc="decoding", unit="image", dynamic_ncols=True, disable=ready.machine.rank != 0, delay=1)

    def show(done: int, total: int) -> None:
        bar.total = total
        bar.update(done - bar.n)

    store = open_store(
        ready.index,
        ready.facts.preprocess,
        train_side=plan.train_side.value,
        workers=plan.decode_workers.value,
        cache_dir=Path(data.cache_dir).expanduser() if data.cache_dir else None,
        limit_bytes=data.store_limit,
        max_bad_share=data.max_bad_share,
        max_pixels=data.max_pixels,
        progress=show,
        processor=(ready.recipe.model.name, ready.facts.commit),
    )
    bar.close()
    for note in (*ready.index.notes, *store.notes):
        logger.info("%s", note)
    if not len(store.rows["train"]):
        raise DataError(f"data.name: no training image of {ready.index.source} could be read.")
    return store


def open_probe_rows(ready: Prepared) -> PixelRows | None:
    """The training rows as the checkpoint itself sees them, for the probe; None where no rung needs them."""
    from hf_finetune.data.opening import Options, open_views
    from hf_finetune.data.store import evaluation_geometry

    if "probe" not in ready.plan.rungs.value:
        return None
    data = ready.recipe.data
    geometry = evaluation_geometry(ready.facts.preprocess, (ready.recipe.model.name, ready.facts.commit))
    cache = Path(data.cache_dir).expanduser() if data.cache_dir else None
    options = Options(ready.plan.decode_workers.value, cache, data.store_limit, data.max_pixels)
    (view,) = open_views(ready.index, [("train", geometry)], options)
    return view.rows


def cache_of(ready: Prepared) -> Path:
    """Where the store and the features are kept."""
    from hf_finetune.data.cache import cache_root

    folder = ready.recipe.data.cache_dir
    return cache_root(Path(folder).expanduser() if folder else None)


def without_rejected(ready: Prepared, store: Store) -> Prepared:
    """The same, planned again for the rows that could be decoded."""
    from hf_finetune.plan import make_plan

    if not store.rejected:
        return ready
    gone = {(row.split, row.name) for row in store.rejected}
    splits = {
        split: tuple(row for row in rows if (split, row.name) not in gone) for split, rows in ready.index.splits.items()
    }
    logger.warning("%d unreadable images are left out, such as %s.", len(gone), store.rejected[0].name)
    index = replace(ready.index, splits=splits)
    trainable = ready.plan.trainable_parameters.value
    return replace(ready, index=index, plan=make_plan(ready.recipe, ready.machine, ready.facts, index, trainable))


def describe(ready: Prepared) -> Manifest:
    """What the result will say of itself."""
    from hf_finetune.backbones.fingerprint import fingerprint

    recipe = ready.recipe
    name = recipe.model.name
    return Manifest(
        base=str(Path(name).resolve()) if Path(name).is_dir() else name,
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

    recipe, facts, plan = ready.recipe, ready.facts, ready.plan
    torch.manual_seed(recipe.train.seed)
    quantization = recipe.quantization.config(facts.head)
    device = plan.device.value
    place = {"": ready.machine.local_rank if device == "cuda" else device}
    model = load_backbone(
        recipe.model,
        ready.index.labels,
        dtype=torch_dtype(frozen_dtype(ready)),
        seed=recipe.train.seed,
        quantization_config=quantization,
        device_map=place if quantization is not None else None,
        plain_attention=device == "cpu" and short_sequence(facts.preprocess),
    )
    adapted = recipe.adapter.apply(model, facts)
    for config in getattr(adapted, "peft_config", {}).values():
        # PEFT asks the Hub about this name at every checkpoint (for a vocabulary); the result names it again.
        config.base_model_name_or_path = ""
    if plan.checkpointing.value:
        enable_checkpointing(adapted)
    return adapted
