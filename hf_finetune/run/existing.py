"""A run folder that holds a run already: numbered past, overwritten, or extended, as `output.existing` says.

Owns what of an earlier run is kept and what goes. Which folder is whose otherwise is folder.py's.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from hf_finetune.errors import RunFolderError
from hf_finetune.files.at_work import is_at_work, way_on
from hf_finetune.recipe.recipe import Existing, Recipe
from hf_finetune.run.began import refuse_changed_data
from hf_finetune.run.folder import RunFolder, different_from, locked, mark, refuse_result
from hf_finetune.run.replaced import BEFORE, is_set_aside, put_back, set_aside
from hf_finetune.tracking.run import FOLDER as TRACKING
from hf_finetune.types import Index

# Sections that may differ in an extended run. What trains, on which rows and from which base stays.
_MAY_DIFFER = ("budget", "ladder", "train", "augment", "adapter.from")


def settle_existing(recipe: Recipe, processes: int) -> tuple[Recipe, Existing]:
    """The recipe with its folder and, where it extends a run, its start; and what is to be done with what lies there.

    Only the copy of an adapter is made. The recipe that comes back says `resume`, which is what is kept in the folder.
    Raises RunFolderError where a run cannot be extended.
    """
    existing = recipe.output.existing
    recipe = _resuming(recipe, recipe.output.dir)
    if existing == "number":
        return _numbered(recipe), "resume"
    folder = RunFolder(recipe.output.folder)
    refuse_result(folder.path)
    if is_set_aside(folder) and not is_at_work(folder.path) and _is_given_up(recipe, existing, folder):
        with locked(folder):  # a start that was killed before it had a model
            put_back(folder)
    if existing == "resume" or not folder.recipe.is_file():
        return recipe, "resume"
    if existing == "overwrite":
        return recipe, "overwrite"
    return _extended(recipe, folder, processes)


def _is_given_up(recipe: Recipe, existing: Existing, folder: RunFolder) -> bool:
    """Whether nobody goes on with the run that began to replace another there."""
    return existing == "extend" or (existing == "resume" and bool(different_from(recipe, folder)))


def make_way(recipe: Recipe, existing: Existing, index: Index) -> None:
    """Make room for the run that begins now; nothing but a run's own files is moved. Raises RunFolderError."""
    folder = RunFolder(recipe.output.folder)
    if existing == "resume" or not folder.recipe.is_file():
        return
    with locked(folder):
        if existing == "extend":
            refuse_changed_data(folder, index)
            shutil.copyfile(folder.recipe, folder.path / BEFORE / folder.recipe.name)
            for file in _others(folder):
                if file.is_file():
                    file.replace(folder.path / BEFORE / file.name)
            if (folder.path / TRACKING).is_dir():
                (folder.path / TRACKING).replace(folder.path / BEFORE / TRACKING)
        else:
            set_aside(folder)
        shutil.rmtree(folder.checkpoints, ignore_errors=True)
        mark(folder, recipe)


def _others(folder: RunFolder) -> list[Path]:
    """The run's files but its recipe, which marks the folder as ours: it is there at any time."""
    return [file for file in folder.files if file != folder.recipe]


def _resuming(recipe: Recipe, place: str) -> Recipe:
    output = recipe.output.model_copy(update={"dir": place, "existing": "resume"})
    return recipe.model_copy(update={"output": output})


def _numbered(recipe: Recipe) -> Recipe:
    """In the first of dir, dir-2, dir-3, … that is free, or that holds an unfinished run of this very recipe."""
    place, number = recipe.output.dir.rstrip("/\\"), 1
    while True:
        numbered = _resuming(recipe, place if number == 1 else f"{place}-{number}")
        folder = RunFolder(numbered.output.folder)
        taken = folder.path.exists() and (not folder.path.is_dir() or any(folder.path.iterdir()))
        if not taken or (folder.recipe.is_file() and not folder.is_finished() and not different_from(numbered, folder)):
            return numbered
        number += 1


def _extended(recipe: Recipe, folder: RunFolder, processes: int) -> tuple[Recipe, Existing]:
    """The recipe as it goes on from the adapter of the run in `folder`, or where that extension was interrupted."""
    before = folder.path / BEFORE
    other = "Give another output.dir, or --number or --overwrite (output.existing)."
    if recipe.adapter.kind != "lora":
        raise RunFolderError(
            f"--extend goes on from the adapter of a run; adapter.kind is {recipe.adapter.kind}, which has none.", other
        )
    if processes > 1:
        raise RunFolderError(
            "--extend is for one process.", f"With several: adapter.from={folder.path} and another output.dir."
        )
    content = recipe.model_dump(mode="json")
    content["adapter"]["from"] = str(before)
    extended = Recipe.model_validate(content)
    if not folder.is_finished():
        if different_from(extended, folder):
            raise RunFolderError(
                f"output.dir: the run in {folder.path} is not finished, so there is nothing to extend.",
                f"{way_on(folder.path, folder.recipe)} Or begin again with --overwrite.",
            )
        return extended, "resume"
    different = different_from(extended, folder)
    # Another seed cuts other rows for the test, of which this adapter has seen some.
    cuts = "train.seed " if recipe.data.split_seed is None else ()
    fixed = [each for each in different if not each.startswith(_MAY_DIFFER) or each.startswith(cuts)]
    if fixed:
        raise RunFolderError(
            f"output.dir: the run in {folder.path} cannot be extended by another; different there: {', '.join(fixed)}.",
            f"{other} Another run may start from its adapter: adapter.from={folder.path}.",
        )
    _copy(folder.path / "adapter", before)
    return extended, "extend"


def _copy(adapter: Path, before: Path) -> None:
    """The adapter as it is now, in `before`; complete or not there."""
    partial = before.with_name(f"{before.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    shutil.copytree(adapter, partial / "adapter")
    shutil.rmtree(before, ignore_errors=True)
    partial.rename(before)
