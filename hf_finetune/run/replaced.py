"""A run that another one replaces in the same folder (`--overwrite`): kept aside until the other has a model.

A start that fails (a bad image, a full disk, Ctrl-C in the first seconds) must not cost a person the result that was
there. Owns `replaced/`, and the way into it and back; when the other has a model is the pipeline's to say.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from hf_finetune.errors import NothingBegunError, RunFolderError
from hf_finetune.files.at_work import REPLACED
from hf_finetune.recipe.recipe import Existing, Recipe
from hf_finetune.run.folder import RunFolder
from hf_finetune.tracking.run import FOLDER as TRACKING

logger = logging.getLogger(__name__)
BEFORE = "before"  # in an extended run: the run that it goes on from
_RECORDS = ("splits.json", "data-corrections.csv")  # of result/split_record.py
_RESULTS = tuple(f"{name}{end}" for name in ("adapter", "model") for end in ("", ".staged", ".replaced"))


def set_aside(folder: RunFolder) -> None:
    """Move what a run has written out of the way, whole; where nothing was trained, it is removed. The recipe stays as
    a copy: it marks the folder.

    Raises RunFolderError where the folder cannot be written.
    """
    aside = folder.path / REPLACED
    has_model = any(folder.result(whole=whole).exists() for whole in (False, True))
    try:
        # What an earlier one has set aside is the last result until another has a model, whatever it has trained.
        if not folder.holds_work() or (not has_model and (aside / folder.recipe.name).is_file()):
            _remove(folder)
            return
        shutil.rmtree(aside, ignore_errors=True)
        aside.mkdir()
        shutil.copyfile(folder.recipe, aside / folder.recipe.name)
        for path in _written(folder):
            if path.exists() or path.is_symlink():
                path.rename(aside / path.name)
    except OSError as error:
        raise RunFolderError(
            f"output.dir: {folder.path} cannot be written: {error.strerror or error}.", "Choose another output.dir."
        ) from None


def is_set_aside(folder: RunFolder) -> bool:
    """Whether a run waits there, and the one that is to replace it has nothing yet."""
    return (folder.path / REPLACED / folder.recipe.name).is_file() and not folder.holds_work()


def put_back(folder: RunFolder) -> bool:
    """The run that was set aside in its place again, if the other has nothing yet; whether it is."""
    if not is_set_aside(folder):
        return False
    _remove(folder)
    aside = folder.path / REPLACED
    for path in sorted(aside.iterdir(), key=lambda each: each.name == folder.recipe.name):  # the mark of a whole one
        path.replace(folder.path / path.name)
    with suppress(OSError):
        aside.rmdir()
    return True


def forget_replaced(folder: RunFolder) -> None:
    """Now that the other run has a model."""
    shutil.rmtree(folder.path / REPLACED, ignore_errors=True)


@contextmanager
def nothing_replaced(recipe: Recipe, existing: Existing) -> Iterator[None]:
    """An interruption before the folder is taken says so, where another run is to be replaced there: the same command
    without `--overwrite` would be refused."""
    try:
        yield
    except KeyboardInterrupt as error:
        if existing != "overwrite" or isinstance(error, NothingBegunError):
            raise
        folder = recipe.output.folder
        raise NothingBegunError(f"{str(error) or 'interrupted'}; the run in {folder} is as it was") from None


@contextmanager
def put_back_on_failure(folder: RunFolder) -> Iterator[None]:
    """Whatever ends a run inside before it has anything of its own: the run that it was to replace is there again, and
    that is said. An interruption becomes NothingBegunError then."""
    try:
        yield
    except BaseException as error:
        if put_back(folder):
            if isinstance(error, KeyboardInterrupt):
                done = f"{str(error) or 'interrupted'}; the run that was in {folder.path} is there again, as it was"
                raise NothingBegunError(done) from None
            logger.warning("The run that was in %s is there again, as it was.", folder.path)
        raise


def _written(folder: RunFolder) -> list[Path]:
    """What a run writes, but for its recipe and its lock."""
    names = (*_RECORDS, *_RESULTS, BEFORE, TRACKING)
    files = [file for file in folder.files if file != folder.recipe]
    return [*files, *(folder.path / name for name in names), folder.checkpoints]


def _remove(folder: RunFolder) -> None:
    for path in _written(folder):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
