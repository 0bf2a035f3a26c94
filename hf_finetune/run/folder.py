"""The run folder: what is in it, whose it is, and whether it is finished.

`recipe.yaml`, `plan.json`, `splits.json`, `metrics.jsonl`, `run.json`, `predictions.csv`, `report.html`, `held.npz`,
`features.safetensors`, `data-corrections.csv`, `adapter/` (or `model/`), `checkpoints/`.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import yaml

from hf_finetune.errors import FinetuneError, MachineError, RunFolderError
from hf_finetune.files.at_work import LOCK
from hf_finetune.files.bounded import read_yaml
from hf_finetune.files.whole_file import write_whole
from hf_finetune.machine.disk import failed_writes_are_said
from hf_finetune.recipe.recipe import Recipe, dump_recipe, load_recipe
from hf_finetune.types import Decision, Plan

RESULT = "hf_finetune.json"  # in adapter/ or model/
LEAST_FREE_BYTES = 200_000_000  # checkpoints of a LoRA on a ViT-B are about 15 MB each; below this nothing can end well


@dataclass(frozen=True)
class RunFolder:
    """Paths of one run."""

    path: Path

    @property
    def recipe(self) -> Path:
        return self.path / "recipe.yaml"

    @property
    def plan(self) -> Path:
        return self.path / "plan.json"

    @property
    def metrics(self) -> Path:
        return self.path / "metrics.jsonl"

    @property
    def report(self) -> Path:
        return self.path / "run.json"

    @property
    def predictions(self) -> Path:
        return self.path / "predictions.csv"

    @property
    def page(self) -> Path:
        """For people: charts, and small images of the data. It stays on this machine."""
        return self.path / "report.html"

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    @property
    def held(self) -> Path:
        return self.path / "held.npz"

    @property
    def engine(self) -> Path:
        """Which engine the pass over the frozen backbone began with."""
        return self.path / "engine.json"

    @property
    def features(self) -> Path:
        """What the winning head is given of each training and validation row."""
        return self.path / "features.safetensors"

    @property
    def files(self) -> tuple[Path, ...]:
        """The run's own files beside the result, the recipe last: it marks the folder."""
        written = (self.report, self.plan, self.metrics, self.predictions, self.page, self.held, self.engine)
        return (*written, self.features, self.recipe)

    def result(self, *, whole: bool) -> Path:
        """Where the result goes: `adapter/`, or `model/` for a whole model."""
        return self.path / ("model" if whole else "adapter")

    def is_finished(self) -> bool:
        """run.json is written last."""
        return self.report.is_file()

    def holds_work(self) -> bool:
        """Whether anything was trained here: a result, a checkpoint, or what a rung had reached."""
        results = (self.report, self.result(whole=False), self.result(whole=True))
        return any(each.exists() for each in results) or any(self.checkpoints.glob("*-*"))


def claim(recipe: Recipe, *, write: bool = True) -> RunFolder:
    """The recipe's run folder, made and marked with the resolved recipe before anything can fail.

    Raises RunFolderError where the folder holds another run or other files, or cannot be written, and MachineError
    where the disk is full. With `write=False` (ranks other than 0) nothing is touched.
    """
    folder = RunFolder(recipe.output.folder)
    path = folder.path
    refuse_result(path)
    if path.exists() and not path.is_dir():
        raise RunFolderError(f"output.dir: {path} is a file; a folder is expected.", "Choose another output.dir.")
    if folder.recipe.is_file():
        if different := different_from(recipe, folder):
            if not write or folder.holds_work():
                raise _another_run(recipe, folder, different)
            with locked(folder):  # a start that was refused, or killed before it trained, keeps nobody out
                mark(folder, recipe)
        if write and not folder.is_finished():
            _refuse_full_disk(path)
        return folder
    # A process that was killed at once may leave the lock, and a recipe that was not whole.
    if path.is_dir() and any(each.name != LOCK and each.suffix != ".partial" for each in path.iterdir()):
        raise RunFolderError(
            f"output.dir: {path} holds files, but no run of hf-finetune.", "Choose another output.dir, or empty it."
        )
    if write:
        mark(folder, recipe)
        _refuse_full_disk(path)
    return folder


def refuse_result(path: Path) -> None:
    """Raise RunFolderError where a result lies, which has a recipe of its own: nothing is to be written into it."""
    if (path / RESULT).is_file():
        raise RunFolderError(
            f"output.dir: {path} is the result of a run (it holds {RESULT}), and no run folder.",
            "Choose another output.dir; the folder above it is the run's.",
        )


def mark(folder: RunFolder, recipe: Recipe) -> None:
    """Write the resolved recipe, by which the folder is known. Raises RunFolderError where that is not possible."""
    try:
        folder.path.mkdir(parents=True, exist_ok=True)
        write_whole(folder.recipe, dump_recipe(recipe))
    except OSError as error:
        raise RunFolderError(
            f"output.dir: {folder.path} cannot be written: {error.strerror or error}.", "Choose another output.dir."
        ) from None


def _refuse_full_disk(path: Path) -> None:
    """Also where an earlier try has left its recipe."""
    free = shutil.disk_usage(path).free
    if free < LEAST_FREE_BYTES:
        raise MachineError(
            f"output.dir: only {free // 10**6} MB are free at {path}; at least {LEAST_FREE_BYTES // 10**6} MB are "
            "needed for checkpoints.",
            "Free some space, or choose an output.dir on another disk.",
        )


# What a person may do about a run that is in the way; each a key of the recipe and a switch of the command line.
WAYS_ON = "--number takes the next free name, --overwrite begins anew there"


def _another_run(recipe: Recipe, folder: RunFolder, different: Sequence[str]) -> RunFolderError:
    extends = ", --extend goes on from its adapter" * (recipe.adapter.kind == "lora" and folder.is_finished())
    return RunFolderError(
        f"output.dir: {folder.path} holds another run; different there: {', '.join(different)}.",
        f"Choose another output.dir. Or: {WAYS_ON}{extends} (in a recipe: output.existing).",
    )


def different_from(recipe: Recipe, folder: RunFolder) -> list[str]:
    """What the recipe says otherwise than the one there: `train.epochs (2.0, now 3.0)`. Raises RunFolderError."""
    try:
        there = read_yaml(folder.recipe.read_text(encoding="utf-8"))
        if not isinstance(there, Mapping):
            raise ValueError("it is empty, or no recipe")
    except (OSError, ValueError, yaml.YAMLError) as error:  # a ValueError: bytes that are no UTF-8, an impossible date
        raise RunFolderError(f"{folder.recipe} cannot be read: {error}.", "Choose another output.dir.") from None
    with suppress(FinetuneError, TypeError):  # of an earlier version, which had fewer keys
        there = read_yaml(dump_recipe(load_recipe(there)))
    return sorted(_different(read_yaml(dump_recipe(recipe)), there))


# Where a result goes, who looks on, how long is waited and what disk is used changes nothing of it, and where a disk is
# full these help.
_NO_DIFFERENCE = (
    "output",
    "hub",
    "tracking",
    "train.peer_timeout",
    "data.cache_dir",
    "data.download_limit",
    "data.store_limit",
)


def _different(ours: Any, there: Any, path: str = "") -> Iterator[str]:
    if path in _NO_DIFFERENCE:
        return
    if isinstance(ours, Mapping) and isinstance(there, Mapping):
        for key in sorted({*ours, *there}):
            yield from _different(ours.get(key), there.get(key), f"{path}.{key}".lstrip("."))
    elif ours != there:
        yield f"{path} ({there!r}, now {ours!r})"


@contextmanager
def locked(folder: RunFolder) -> Iterator[None]:
    """Hold the folder, so that two runs cannot write into it. Raises RunFolderError where another process holds it."""
    from filelock import FileLock, Timeout

    lock = FileLock(str(folder.path / LOCK))
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise RunFolderError(
            f"output.dir: another process is at work in {folder.path}.", "Wait for it, or choose another output.dir."
        ) from None
    except OSError as error:  # a disk that can only be read
        raise RunFolderError(
            f"output.dir: {folder.path} cannot be written: {error.strerror or error}.", "Choose another output.dir."
        ) from None
    try:
        yield
    finally:
        lock.release()


def full_disk_is_said(folder: RunFolder) -> AbstractContextManager[None]:
    """Say of a write that fails inside what a person can do about the run."""
    hint = "Free some space and run the same command again: it goes on from the last whole checkpoint."
    return failed_writes_are_said(folder.path, hint, key="output.dir")


def read_plan(folder: RunFolder) -> Plan:
    """The plan that plan.json says, without its forecasts. Raises RunFolderError where it is damaged."""
    try:
        content = json.loads(folder.plan.read_text(encoding="utf-8"))
        decisions: dict[str, Any] = {
            each.name: _decision(**content[each.name])
            for each in fields(Plan)
            if each.name in content and each.name not in _NO_DECISIONS
        }
        return Plan(**decisions)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RunFolderError(f"{folder.plan} cannot be read: {error}.", "Copy the run folder again.") from None


def _decision(value: Any, reason: str) -> Decision[Any]:
    return Decision(tuple(value) if isinstance(value, list) else value, reason)


_NO_DECISIONS = ("memory_bytes", "memory_note", "seconds", "seconds_note", "seconds_limit")


def plan_as_dict(plan: Plan) -> dict[str, Any]:
    """name → {value, reason}, and the forecasts of memory and seconds."""
    decisions = {
        name: {"value": decision.value, "reason": decision.reason}
        for name, decision in vars(plan).items()
        if name not in _NO_DECISIONS
    }
    return {
        **decisions,
        "memory": {"bytes": dict(plan.memory_bytes), "note": plan.memory_note},
        "seconds": {"by_rung": dict(plan.seconds), "note": plan.seconds_note},
    }
