"""A recipe from data alone: `hf-finetune train photos/`. Owns which backbone and which run folder it gets."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from hf_finetune.errors import ModelError, RecipeError
from hf_finetune.files.bounded import read_yaml
from hf_finetune.plan.backbone import BACKBONES, Backbone, default_backbone
from hf_finetune.recipe.recipe import Recipe, load_recipe
from hf_finetune.types import is_builtin
from hf_finetune.units import format_bytes

logger = logging.getLogger(__name__)


def recipe_for(data: str | None, overrides: Sequence[str] = ()) -> Recipe:
    """The recipe for `data` (None: the overrides name it), with a backbone for this machine where they name none.

    An unfinished or finished run on the same data keeps its backbone. Raises RecipeError, DataError and ModelError.
    """
    recipe = load_recipe({} if data is None else {"data": {"name": data}}, overrides)
    if "name" not in recipe.data.model_fields_set:
        raise RecipeError(
            "A recipe or data is expected.",
            "Such as `hf-finetune train photos/`, or `hf-finetune train data.name=user/dataset` for one of the Hub.",
        )
    content = {"data": {"name": recipe.data.name}, "output": {"dir": f"runs/{_run_name(recipe.data.name)}"}}
    recipe = load_recipe(content, overrides)
    if "name" in recipe.model.model_fields_set:
        return recipe
    model = _model_there(recipe) or _chosen(recipe)
    return load_recipe({**content, "model": model}, overrides)


def recipe_of_data(data: Any) -> Recipe:
    """The same for a Python program. Raises RecipeError where `data` has no name that a recipe could hold."""
    if not isinstance(data, str | Path):
        raise RecipeError(
            f"Without a recipe, data= is a folder or a table file; found {type(data).__name__}.",
            'Name a backbone: hf_finetune.train({"model": {"name": …}}, data=…).',
        )
    return recipe_for(str(data))


def _run_name(data: str) -> str:
    """`photos` for photos/, `labels` for data/labels.csv, `beans` for AI-Lab-Makerere/beans, `a` for a-{00..12}.tar."""
    from hf_finetune.data.sources.naming import BRACES, is_pattern

    path = Path(data.replace(":", "/")).expanduser()
    if is_pattern(data):
        return BRACES.sub("", path.name).rpartition(".")[0].strip("-_. ") or path.absolute().parent.name
    name = path.name if path.name not in ("", "..") else path.resolve().name
    stem, dot, suffix = name.rpartition(".")
    return (stem if dot and stem and re.fullmatch(r"[a-z]{2,7}", suffix) else name) or "photos"


def _model_there(recipe: Recipe) -> dict[str, Any] | None:
    """The model of the run on these data that output.dir holds; None where it holds none."""
    try:
        there = read_yaml((recipe.output.folder / "recipe.yaml").read_text(encoding="utf-8"))
        model, data = there["model"], there["data"]["name"]
    except (OSError, ValueError, KeyError, TypeError, yaml.YAMLError):
        return None
    return model if data == recipe.data.name and isinstance(model, dict) else None


def _chosen(recipe: Recipe) -> dict[str, Any]:
    if is_builtin(recipe.data.name):
        return {}
    if int(os.environ.get("WORLD_SIZE", 1)) > 1:  # each process would choose by what it sees itself
        raise RecipeError(
            "Several processes need a backbone that is named.", "`hf-finetune plan DATA` chooses one: model.name=…"
        )
    from hf_finetune.data.index.scan import scan
    from hf_finetune.machine.detect import detect

    images = len(scan(recipe.data, seed=recipe.train.seed, reading=recipe.task.reading).splits["train"])
    machine = detect(recipe.budget.memory)
    decision = default_backbone(machine, images, recipe.budget.time)
    wanted = decision.value
    if (found := _at_hand(wanted)) is not wanted:
        logger.warning("%s is out of reach; %s is in this machine's Hub cache and is taken.", wanted.name, found.name)
    else:
        logger.info("Backbone: %s (%s), %s.", wanted.name, _weights(wanted), decision.reason)
    return {"name": found.name}


def _weights(backbone: Backbone) -> str:
    return f"{backbone.parameters / 1e6:.3g} million weights, {format_bytes(4 * backbone.parameters)}"


def _at_hand(wanted: Backbone) -> Backbone:
    """`wanted`, where its config.json can be had; else the nearest by size that is in the Hub's cache as a whole.

    Raises ModelError, with what can be done, where there is none.
    """
    from hf_finetune.backbones.checkpoint import find
    from hf_finetune.backbones.config import Model

    try:
        find(Model(name=wanted.name))
    except ModelError as error:
        place = BACKBONES.index(wanted)
        others = sorted(BACKBONES, key=lambda each: abs(BACKBONES.index(each) - place))
        if found := next((each for each in others if _is_cached(each)), None):
            return found
        raise ModelError(
            f"No backbone is named, and the one for this machine and these images cannot be had.\n  {error.message}",
            f"{error.hint}.\n  Or name another: model.name=FOLDER of a model that you have. model.name=builtin:starter "
            "needs no network, and is weak on photos.",
        ) from error
    return wanted


def _is_cached(backbone: Backbone) -> bool:
    from huggingface_hub import try_to_load_from_cache

    files = ("config.json", "model.safetensors")
    return all(isinstance(try_to_load_from_cache(backbone.name, file), str) for file in files)
