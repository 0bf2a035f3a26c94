"""Where a fixed run goes: a new folder, whole or not there, and never over a run that nobody gave up."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hf_finetune.errors import RunFolderError
from hf_finetune.machine.disk import failed_writes_are_said
from hf_finetune.run.folder import RunFolder


def claim_place(run: Path, out: str | None, *, overwrite: bool) -> Path:
    """The folder to be, which is not made yet. Raises RunFolderError where it is in the way of something."""
    run = run.absolute()
    place = run.with_name(f"{run.name}-fixed") if out is None else Path(out).expanduser().absolute()
    one, other = place.resolve(), run.resolve()
    if one == other or other in one.parents or one in other.parents:
        raise RunFolderError(
            f"--out: a folder of its own is expected, {place} is the run itself, in it, or around it.",
            "Name one beside it; the run stays as it is.",
        )
    if place.exists() and not (overwrite and RunFolder(place).recipe.is_file()):
        is_run = RunFolder(place).recipe.is_file()
        raise RunFolderError(
            f"--out: a new folder is expected, {place} is there already"
            f"{'' if is_run or not overwrite else ', and holds no run'}.",
            "Name another one" + (", or begin anew there with --overwrite." if is_run else "."),
        )
    return place


@contextmanager
def new_folder(place: Path) -> Iterator[RunFolder]:
    """A folder beside `place` to write into, which takes its name in the end; on an error or Ctrl-C it is gone, and
    what was at `place` is as it was.

    Raises RunFolderError where it cannot be made, MachineError where the disk is full.
    """
    partial = place.with_name(f"{place.name}.{os.getpid()}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        partial.mkdir(parents=True)
    except OSError as error:
        raise RunFolderError(
            f"--out: {place} cannot be made: {error.strerror or error}.", "Name another place."
        ) from error
    try:
        with failed_writes_are_said(place, "Free some space, or name another place.", key="--out"):
            yield RunFolder(partial)
            if place.exists():
                gone = place.with_name(f"{place.name}.replaced")
                shutil.rmtree(gone, ignore_errors=True)
                place.rename(gone)
                partial.rename(place)
                shutil.rmtree(gone, ignore_errors=True)
            else:
                partial.rename(place)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
