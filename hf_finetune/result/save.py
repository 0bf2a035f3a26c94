"""Writes a result that describes itself: weights, labels, preprocessing, base, recipe, card.

Staged in a temporary folder, then renamed into place: a folder that is there is whole and loads. Does not own the
comparison between the two (`compare.py`).
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from peft import PeftModel
from transformers import PreTrainedModel

from hf_finetune.backbones.checkpoint import builtin_path
from hf_finetune.files.whole_file import sync_folder, sync_tree
from hf_finetune.machine.disk import follow_umask
from hf_finetune.preprocess.stock import stock_processor
from hf_finetune.result.files import is_published
from hf_finetune.result.manifest import Manifest, write_manifest
from hf_finetune.training.whole_weights import unshared_state


def stage(model: PeftModel | PreTrainedModel, staged: Path, manifest: Manifest, recipe_yaml: str) -> None:
    """Write everything but the card into the folder `staged`, replacing what an interrupted run left there."""
    shutil.rmtree(staged, ignore_errors=True)
    staged.mkdir(parents=True)
    if isinstance(model, PeftModel):
        # Images have no embedding layer to look for; "auto" would ask the Hub about the base model.
        model.save_pretrained(str(staged), save_embedding_layers=False)
        _settle_config(staged / "adapter_config.json", manifest)
        # Labels travel in config.json: stock code builds the base with it (see the card's snippet).
        base = model.get_base_model()
        config: dict[str, Any] = base.config.to_dict()  # pyright: ignore[reportCallIssue, reportAttributeAccessIssue]
        for key in ("quantization_config", "_name_or_path"):  # the second is a folder of this machine
            config.pop(key, None)
        (staged / "config.json").write_text(json.dumps(config, indent=1, sort_keys=True, default=str), encoding="utf-8")
        if manifest.brings_base:
            shutil.copytree(builtin_path(manifest.base), staged / "base")
    else:
        model.save_pretrained(staged, state_dict=unshared_state(model))
    say_task(staged, manifest)
    _save_processor(manifest, staged)
    write_manifest(staged, manifest)
    (staged / "recipe.yaml").write_text(recipe_yaml, encoding="utf-8")
    follow_umask(staged)


def say_task(folder: Path, manifest: Manifest) -> None:
    """Into config.json what pipelines choose their function by (`problem_type`), and what else an answer takes (`task`:
    thresholds, scales), for the lines of the card."""
    path = folder / "config.json"
    config: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    config["problem_type"] = manifest.target.problem_type
    if manifest.task != {"kind": "classification"}:
        config["task"] = dict(manifest.task)
    path.write_text(json.dumps(config, indent=2, sort_keys=True), encoding="utf-8")


def _settle_config(path: Path, manifest: Manifest) -> None:
    """PEFT writes no revision, the folder that the base was loaded from, and its targets in the order of a set, which
    is another one in every process: the same run would not give the same file twice."""
    config: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    config["base_model_name_or_path"] = "base" if manifest.brings_base else manifest.base
    config["revision"] = manifest.revision
    if isinstance(config.get("target_modules"), list):
        config["target_modules"].sort()
    path.write_text(json.dumps(config, indent=2, sort_keys=True), encoding="utf-8")


def _save_processor(manifest: Manifest, staged: Path) -> None:
    location = str(builtin_path(manifest.base)) if manifest.brings_base else manifest.base
    processor = stock_processor(location, manifest.revision)
    # timm's processor is its config.json, which is there already; its save_pretrained does nothing but warn.
    if type(processor).__name__ != "TimmWrapperImageProcessor":
        processor.save_pretrained(staged)


def publish_locally(staged: Path, target: Path) -> Path:
    """Rename the staged folder into place, where an earlier rung's, or that of a run that died since, may lie. What a
    person has put in there stays."""
    sync_tree(staged)
    replaced = target.with_name(f"{target.name}.replaced")  # lies there until the other does
    _hand_over(replaced, target)
    if target.exists():
        target.rename(replaced)
    staged.rename(target)
    _hand_over(replaced, target)
    sync_folder(target.parent)
    return target


def _hand_over(replaced: Path, target: Path) -> None:
    """Move what no run writes from a folder that goes into the one that takes its place, and remove the first."""
    if target.is_dir():
        for path in sorted(replaced.rglob("*")):
            name = path.relative_to(replaced)
            if path.is_file() and not is_published(name.as_posix()) and not (target / name).exists():
                (target / name).parent.mkdir(parents=True, exist_ok=True)
                path.rename(target / name)
        shutil.rmtree(replaced, ignore_errors=True)
