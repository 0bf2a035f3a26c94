"""Cross-validation: of a closed-form head on frozen features, what can be said of a hundred images; or of whole runs.

The backbone passes over every labelled row once; each fold's head, its standardisation, the statistics of its targets
and its penalty come from the other folds' rows alone. Rungs that train take a run for each fold (`data.fold`).
"""

from __future__ import annotations

import logging
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hf_finetune.data.index.folds import cut_folds
from hf_finetune.data.index.targets import strata
from hf_finetune.data.sources.source import count, listing
from hf_finetune.errors import DataError, RecipeError
from hf_finetune.labels import Answers
from hf_finetune.plan.context import RunContext
from hf_finetune.recipe.recipe import Recipe, load_recipe
from hf_finetune.report.run_json import as_run_report
from hf_finetune.result.manifest import read_manifest
from hf_finetune.types import Index, Note, Row, label_array

if TYPE_CHECKING:
    from hf_finetune.ladder.probe.feature_cache import SplitFeatures

logger = logging.getLogger(__name__)
_FEW = 10  # rows of a fold, below which its own score is mostly chance


def cross_validate(
    recipe: Recipe | str | Path | Mapping[str, Any],
    overrides: Sequence[str] = (),
    folds: int = 5,
    *,
    trained: bool = False,
) -> dict[str, Any]:
    """The task's metrics over `folds` folds of all labelled rows but those of a given test split.

    Rows that belong together (data.group_column, data.group_pattern, byte-equal ones) are in one fold; data.split_seed,
    else train.seed, draws the folds. The head is the probe's ridge regression, its penalty by leaving out rows, with
    what belongs to them, within each fold's training rows. Gives `metrics`: name → `mean`, `std` (n − 1) and `each` of
    the folds, and `pooled`, of all rows' out-of-fold answers together; `pooled`: the full score of those; `folds`,
    `rows`, `sizes` (rows of each fold), `left_out` (rows that could not be used, {name, reason}) and `notes`, and
    `task`, `model` and `seconds`. With `trained` each fold is a run of the recipe's whole ladder: see `run_folds`.
    Raises DataError where folds are more than groups of rows, RecipeError, and what preparing a run raises.
    """
    from hf_finetune.pipeline.frozen import pass_over_train
    from hf_finetune.pipeline.images import open_readable_rows
    from hf_finetune.pipeline.prepare import prepare_run, settle_plan

    started = time.monotonic()
    recipe = _from_the_base(recipe if isinstance(recipe, Recipe) else load_recipe(recipe), overrides)
    if folds < 2:
        raise DataError(f"--folds: at least 2 are expected, found {folds}", "5 and 10 are usual")
    if trained:
        return run_folds(recipe, folds)
    recipe = _probe_alone(recipe)
    context = prepare_run(recipe)
    index, notes = pooled(context.index)
    seed = recipe.train.seed if recipe.data.split_seed is None else recipe.data.split_seed
    _fold_of(index, folds, seed)  # too many folds are told before the pass, which takes minutes
    context = replace(context, index=index)
    rows, unreadable = open_readable_rows(context)
    context = settle_plan(context, unreadable)
    frozen = pass_over_train(context, rows)
    index = context.index
    fold_of = _fold_of(index, folds, seed)
    kept = frozen.passed.own["train"]
    scores, answers = _answer_folds(context, kept, fold_of)
    everybody = Answers.joined(answers, [np.flatnonzero(fold_of == fold) for fold in range(folds)])
    whole = context.score(everybody, label_array(index.splits["train"]), full=True)
    sizes = np.bincount(fold_of, minlength=folds).tolist()
    notes += _thin(index, folds, min(sizes))
    names = _order(context.target.chosen_by, whole)
    metrics = {name: _over_folds([score[name] for score in scores]) | {"pooled": whole[name]} for name in names}
    return {
        "folds": folds,
        "rows": len(fold_of),
        "sizes": sizes,
        "task": context.recipe.task.kind,
        "model": recipe.model.name,
        "metrics": metrics,
        "pooled": whole,
        "seconds": time.monotonic() - started,
        "left_out": [{"name": row.name, "reason": row.reason} for row in (*index.rejected, *unreadable)],
        "notes": list(map(str, notes)),
    }


def run_folds(recipe: Recipe, folds: int) -> dict[str, Any]:
    """The test metrics of a run for each fold, in `output.dir`/fold-K-of-N, where one that is finished is not trained
    again; a given validation split chooses in all of them and is in none.

    Gives what `cross_validate` does without `pooled`, which heads of different runs have not, and `runs`: of each its
    folder and the rung that it kept; `notes` are those of all runs. Nothing is pushed. Raises DataError and
    what a run raises.
    """
    from hf_finetune.pipeline.train import train

    started, runs = time.monotonic(), []
    for number in range(1, folds + 1):
        content = recipe.model_dump(mode="json")
        content["data"]["fold"] = f"{number}/{folds}"
        content["output"]["dir"] = str(Path(recipe.output.dir) / f"fold-{number}-of-{folds}")
        logger.info("Fold %d of %d", number, folds)
        runs.append(train(Recipe.model_validate(content), push=False))
    tests = [run.report["test"] for run in runs]
    shared = {name: value for name, value in tests[0].items() if all(name in test for test in tests)}
    names = _order(read_manifest(runs[0].result).target.chosen_by, shared)
    notes = [list(map(str, as_run_report(run.report).data["notes"])) for run in runs]
    lost = {row["name"]: row for run in runs for row in run.report["data"]["rejected"]}
    return {
        "folds": folds,
        "rows": sum(test["rows"] for test in tests),
        "sizes": [test["rows"] for test in tests],
        "task": runs[0].report["task"]["kind"],
        "model": recipe.model.name,
        "metrics": {name: _over_folds([test[name] for test in tests]) for name in names},
        "seconds": time.monotonic() - started,
        "left_out": [{"name": row["name"], "reason": row["reason"]} for row in lost.values()],
        "notes": [note for note in dict.fromkeys(notes[0]) if all(note in others for others in notes)],
        "runs": [{"folder": str(run.folder.path), "kept": _kept(run.report)} for run in runs],
    }


def _kept(report: Mapping[str, Any]) -> str | None:
    """The rung whose weights a run has; None where they are those it began with."""
    return next((rung["rung"] for rung in reversed(report["rungs"]) if rung["kept"]), None)


def _from_the_base(recipe: Recipe, overrides: Sequence[str]) -> Recipe:
    """The recipe with the overrides. Raises RecipeError where it begins with an adapter."""
    recipe = load_recipe(recipe.model_dump(mode="json"), overrides) if overrides else recipe
    if recipe.adapter.kind == "lora" and recipe.adapter.start is not None:
        raise RecipeError(
            "adapter.from: folds begin at the base itself, since an adapter may have seen their rows, found "
            f"{recipe.adapter.start}.",
            "Leave it out.",
        )
    if recipe.data.fold is not None:
        raise RecipeError(f"data.fold: with --folds each has its turn, found {recipe.data.fold}.", "Leave it out.")
    return recipe


def _probe_alone(recipe: Recipe) -> Recipe:
    """The recipe with nothing cut and nothing trained."""
    content = recipe.model_dump(mode="json")
    content["data"] |= {"validation_share": 0, "test_share": 0}
    return Recipe.model_validate(content | {"adapter": {"kind": "head_only"}, "ladder": ["probe"]})


def pooled(index: Index) -> tuple[Index, list[Note]]:
    """The index with all labelled rows in train, but for those of a given test split; its notes, and one on that."""
    rows = (*index.splits["train"], *index.splits.get("validation", ()))
    notes = list(index.notes)
    if test := index.splits.get("test"):
        notes.append(Note(f"the given test split ({count(len(test), 'row')}) is in no fold"))
    rejected = tuple(each for each in index.rejected if each.split != "test")
    return replace(index, splits={"train": rows}, rejected=rejected), notes


def _fold_of(index: Index, folds: int, seed: int) -> np.ndarray:
    rows = index.splits["train"]
    return cut_folds(rows, strata(index.columns[0], [row.label for row in rows])[0], folds, seed)


def _answer_folds(
    context: RunContext, kept: SplitFeatures, fold_of: np.ndarray
) -> tuple[list[dict[str, Any]], list[Answers]]:
    """Each fold's score and answers, by a head that saw nothing of it."""
    from hf_finetune.ladder.probe.heads import fit_heads

    rows = context.index.splits["train"]
    labels, units = label_array(rows), np.array([row.unit for row in rows], np.int64)
    scores, answers = [], []
    for fold in range(fold_of.max() + 1):
        held = fold_of == fold
        seen: tuple[Row, ...] = tuple(row for row, out in zip(rows, held, strict=True) if not out)
        # A context of its own, whose target is settled on these rows.
        own = replace(context, index=replace(context.index, splits={"train": seen}))
        head = fit_heads(kept, labels, own.target, (~held).astype(np.float64), units).closed_form()
        found = head.answers(kept.features[held], labels[held], own.target)
        if found is None:
            raise ValueError("a fold has rows")
        answers.append(found)
        scores.append(own.score(found, labels[held], full=False))
    return scores, answers


def _over_folds(each: Sequence[float]) -> dict[str, Any]:
    values = np.array(each, np.float64)
    return {"mean": float(values.mean()), "std": float(values.std(ddof=1)), "each": values.tolist()}


def _order(chosen_by: Sequence[str], score: Mapping[str, Any]) -> list[str]:
    """The names of the metrics, those that may choose a run's weights first."""
    edges = ("_low", "_high")
    numbers = [name for name, value in score.items() if isinstance(value, float) and not name.endswith(edges)]
    first = [name for name in chosen_by if name in numbers]
    return first + [name for name in numbers if name not in first]


def _thin(index: Index, folds: int, smallest: int) -> list[Note]:
    """Notes on classes that some fold lacks, and on folds whose own scores say little."""
    notes, column, rows = [], index.columns[0], index.splits["train"]
    if column.kind in ("classes", "grades"):
        places, names = strata(column, [row.label for row in rows])
        units: defaultdict[int, set[int]] = defaultdict(set)
        for position, (place, row) in enumerate(zip(places, rows, strict=True)):
            units[place].add(row.unit if row.unit >= 0 else -1 - position)
        if few := [names[place] for place in sorted(units) if len(units[place]) < folds]:
            what = f"{count(len(few), 'class', 'classes')} with fewer rows or groups than folds"
            notes.append(Note(f"{what}, which some folds lack: {listing(few)}"))
    if smallest < _FEW:
        notes.append(Note(f"a fold has only {count(smallest, 'row')}: read the pooled scores, not those of a fold"))
    return notes
