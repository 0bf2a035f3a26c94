"""`hf-finetune doctor`: what is wrong with a dataset, from one decode and one pass over the frozen backbone.

Owns the order of things; what is looked for is doctor/'s. The decoded images and the features are those that a run of
the same recipe uses, and finds again.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hf_finetune.data.index.duplicates import is_on_copies
from hf_finetune.doctor import words
from hf_finetune.doctor.everything import Everything
from hf_finetune.doctor.examine import Examination, Wishes, examine
from hf_finetune.doctor.summary import render_findings
from hf_finetune.errors import DataError, MachineError
from hf_finetune.labels import Answers
from hf_finetune.plan.context import RunContext
from hf_finetune.recipe.recipe import Recipe
from hf_finetune.report.summary import without_copies
from hf_finetune.types import Index, Note, PixelRows, Split

if TYPE_CHECKING:
    from hf_finetune.ladder.probe.feature_pass import PassResult


@dataclass(frozen=True)
class Diagnosis:
    """What was found, of what: `index` as it was read, `everything` that could be decoded, and what a closed-form head
    scores: `left_out` on train, each row left out, `test` as given and `test_without_leaks` where copies leak into it.
    `seconds` by stage; `measure`: the metric to show."""

    index: Index
    everything: Everything
    examination: Examination
    measure: str
    left_out: float
    test: float | None
    test_without_leaks: float | None
    seconds: Mapping[str, float]

    @property
    def notes(self) -> list[Note]:
        """On the whole: what was noticed when it was read, but for copies, which are findings, and since."""
        return [*(note for note in self.index.notes if not is_on_copies(note)), *self.examination.notes]

    @property
    def scores(self) -> list[str]:
        """What a closed-form head reaches on these data, in words; the test's twice where copies leak into it."""
        name = self.measure.replace("_", " ")
        said = [f"{name} {self.left_out:.3f} on train, each row left out (a closed-form head on frozen features)"]
        if self.test is not None:
            clean = ""
            if self.test_without_leaks is not None:
                clean = f"; {self.test_without_leaks:.3f} {without_copies(len(self.examination.leaked))}"
            said.append(f"{name} {self.test:.3f} on test{clean}")
        return said

    def text(self, files: Sequence[tuple[str, Path]]) -> str:
        """For a terminal."""
        found = words.lines(self.examination.findings)
        rows = len(self.everything.names)
        return render_findings(self.index.source, rows, found, self.notes, self.scores, files)

    def as_json(self, files: Sequence[tuple[str, Path]]) -> dict[str, Any]:
        """`findings`: as the table has them; `score`: of the metric `measure`."""
        return {
            "data": self.index.source,
            "rows": len(self.everything.names),
            "findings": [asdict(each) for each in self.examination.findings],
            "notes": list(map(str, self.notes)),
            "score": {
                "measure": self.measure,
                "left_out": self.left_out,
                "test": self.test,
                "test_without_leaks": self.test_without_leaks,
            },
            "files": {what: str(path) for what, path in files},
            "seconds": dict(self.seconds),
        }


def diagnose(recipe: Recipe, wishes: Wishes | None = None) -> Diagnosis:
    """Raises DataError for data that no run could use at all, and what preparing a run raises."""
    from hf_finetune.pipeline.images import open_every_row
    from hf_finetune.pipeline.prepare import settle_plan

    started = time.monotonic()
    context = _prepared(_for_looking(recipe))
    if context.machine.world_size > 1:
        raise MachineError(
            f"doctor: one process is expected, found {context.machine.world_size}.", "Start it without a launcher."
        )
    rejected = context.index.rejected
    rows, unreadable = open_every_row(context)
    context = settle_plan(context, unreadable)
    decoded = time.monotonic()
    passed, context = _passed(context, rows)
    seen = time.monotonic()
    answers = _answers(context, rows, passed)
    features: dict[Split, np.ndarray] = {split: passed.own[split].features for split in rows}
    how = context.facts.preprocess, context.recipe.data.max_pixels
    everything = Everything(context.index, context.target, rows, features, answers, *how)
    examination = examine(everything, (*rejected, *unreadable), wishes or Wishes())
    measure = context.target.chosen_by[0]
    scores = _scores(context, rows, answers, examination.leaked, measure)
    done = time.monotonic()
    seconds = {"images": decoded - started, "pass": seen - decoded, "looking": done - seen}
    return Diagnosis(context.index, everything, examination, measure, *scores, seconds)


def _prepared(recipe: Recipe) -> RunContext:
    """Without a cut where none can be made: that all images are equal is for a doctor to say."""
    from hf_finetune.pipeline.prepare import prepare_run

    try:
        return prepare_run(recipe)
    except DataError as error:
        if not error.message.startswith(("data.test_share", "data.validation_share")):
            raise
    content: dict[str, Any] = recipe.model_dump(mode="json")
    content["data"] |= {"validation_share": 0, "test_share": 0}
    return prepare_run(Recipe.model_validate(content))


def _for_looking(recipe: Recipe) -> Recipe:
    """The recipe with nothing trained, and with any number of rows that cannot be used."""
    content: dict[str, Any] = recipe.model_dump(mode="json")
    content["data"] |= {"max_bad_share": 0.999}
    return Recipe.model_validate(content | {"adapter": {"kind": "head_only"}, "ladder": ["probe"]})


def _passed(context: RunContext, rows: Mapping[Split, PixelRows]) -> tuple[PassResult, RunContext]:
    from hf_finetune.pipeline.frozen import pass_over

    frozen = pass_over(context, rows)
    return frozen.passed, frozen.context


def _answers(context: RunContext, rows: Mapping[Split, PixelRows], passed: PassResult) -> dict[Split, Answers]:
    """Of the closed-form head: to every training row without it and what belongs to it, and to the other splits."""
    from hf_finetune.ladder.probe.rung import fit_on

    fitted = fit_on(context, rows["train"], passed.own["train"]).of_every_row()
    answers: dict[Split, Answers] = {"train": fitted.left_out().answers}
    head = fitted.closed_form()
    for split, kept in passed.own.items():
        if split != "train":
            found = head.answers(kept.features, np.asarray(rows[split].labels)[kept.rows], context.target)
            if found is not None:
                answers[split] = found
    return answers


def _scores(
    context: RunContext,
    rows: Mapping[Split, PixelRows],
    answers: Mapping[Split, Answers],
    leaked: frozenset[str],
    measure: str,
) -> tuple[float, float | None, float | None]:
    """On train, on test, and on test without the rows that have a copy elsewhere; None where there are none."""

    def score(split: Split, kept: np.ndarray | None = None) -> float | None:
        if split not in answers:
            return None
        chosen = np.arange(len(answers[split])) if kept is None else np.flatnonzero(kept)
        if not len(chosen):
            return None
        labels = np.asarray(rows[split].labels)[chosen]
        return float(context.score(answers[split].take(chosen), labels, full=False)[measure])

    clean = None
    if leaked and "test" in rows:
        clean = score("test", np.array([name not in leaked for name in rows["test"].names]))
    return score("train") or 0.0, score("test"), clean
