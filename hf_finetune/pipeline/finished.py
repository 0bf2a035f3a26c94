"""A finished run as a program sees it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hf_finetune.errors import FinetuneError, HubError
from hf_finetune.recipe.hub import Hub
from hf_finetune.recipe.recipe import load_recipe
from hf_finetune.report.run_json import as_run_report, read_report
from hf_finetune.report.wording import words_of
from hf_finetune.run.folder import RunFolder

if TYPE_CHECKING:
    from hf_finetune.hub.upload import Uploaded
    from hf_finetune.result.classifier import Classifier


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
