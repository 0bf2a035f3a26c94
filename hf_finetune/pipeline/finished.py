"""A finished run as a program sees it."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hf_finetune.errors import FinetuneError, HubError
from hf_finetune.recipe.hub import Hub
from hf_finetune.recipe.recipe import load_recipe
from hf_finetune.report.run_json import as_run_report, read_report
from hf_finetune.report.wording import words_of
from hf_finetune.run.began import began_with
from hf_finetune.run.folder import RunFolder

logger = logging.getLogger(__name__)
if TYPE_CHECKING:
    from hf_finetune.hub.upload import Uploaded
    from hf_finetune.result.classifier import Classifier
    from hf_finetune.types import Index


@dataclass(frozen=True, repr=False)
class Run:
    """A finished run: its folder, its report (run.json), and the model on demand."""

    folder: RunFolder
    report: Mapping[str, Any]

    def __repr__(self) -> str:
        split = "test" if self.report.get("test") else "validation"
        words = words_of(as_run_report(self.report))
        value = self.report.get(split, {}).get(words.first.key)
        score = "" if value is None else f", {split} {words.first.name} {value:.3f}"
        return f"<Run in {self.folder.path}: {words.size}{score}>"

    @property
    def result(self) -> Path:
        """The adapter/ or model/ folder."""
        return self.folder.result(whole=as_run_report(self.report).whole)

    @property
    def model(self) -> Classifier:
        """The result, loaded: `.predict(images)`, `.model`, `.labels`."""
        from hf_finetune.result.classifier import load

        return load(self.result)

    def push(self, hub: Hub | None = None) -> list[Uploaded]:
        """Push the result to `hub.repo` (the recipe's, if None). Raises HubError; the run is safe in its folder."""
        from hf_finetune.hub.push import Push, push_run
        from hf_finetune.hub.stage import finished_run

        hub = hub or load_recipe(self.report["recipe"]).hub
        if hub.repo is None:
            raise HubError("hub.repo: a repo to push to is expected, and the recipe names none", "set it: user/name")
        try:
            return push_run(finished_run(self.folder.path), Push(hub.repo, hub.private, hub.merged))
        except FinetuneError as error:
            kept = f"The run is finished and safe in {self.folder.path}; `hf-finetune push {self.folder.path}` goes on."
            raise type(error)(error.message, f"{error.hint}\n  {kept}") from error

    @property
    def predictions(self) -> list[dict[str, str]]:
        """The test rows (validation's where there is no test split): name, label, predicted, probability."""
        from hf_finetune.report.predictions import read_predictions

        return read_predictions(self.folder.predictions)


def read_run(folder: RunFolder) -> Run:
    """The finished run in `folder`. Raises RunFolderError where its run.json is damaged."""
    return Run(folder, read_report(folder.report))


def say_edited(run: Run) -> None:
    """Say which table of a finished run is not as it wrote it: a person may have edited it, or a disk damaged it."""
    from hf_finetune.result.files import sha256_of

    for name, digest in run.report.get("tables", {}).items():
        path = run.folder.path / Path(name).name
        if not path.is_file() or sha256_of(path) != digest:
            logger.warning("%s is not as the run wrote it; --overwrite trains again and writes it.", path)


def say_touched(folder: RunFolder, index: Index) -> None:
    """Say how many files of its data were touched since the finished run began, though size and time are the same.

    Whether their pixels are others an unfinished run finds out by decoding them again and comparing, which takes the
    store and the backbone's preprocessing: seconds, and minutes where a copy has touched all files. Here it is said.
    """
    from hf_finetune.data.store.touched import touched_since

    before = began_with(folder)
    touched = touched_since(index, before.at_s) if before is not None and before.at_s else 0
    if touched == 0:
        return
    which = "files were" if touched is None else "1 file was" if touched == 1 else f"{touched:,} files were"
    logger.warning(
        "Since the run began, %s touched whose size and time are as before. If their images are others now, train on "
        "them with --overwrite.",
        which,
    )
