"""Which unlabelled images are most worth a label: those that the run is unsure of, and that are unlike each other.

Margin sampling (Scheffer et al. 2001, Active hidden Markov models for information extraction) with greedy farthest
points (Gonzalez 1985; as k-center by Sener & Savarese 2018, arXiv 1708.00489): one after another the image is taken
whose uncertainty times the distance of its features from the nearest that was taken is largest, so that of twenty
nearly equal ones one is named.
"""

from __future__ import annotations

import csv
import io
import os
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from hf_finetune.data.index.corrections import COLUMNS
from hf_finetune.data.sources.folders.walk import walk
from hf_finetune.data.sources.source import plain
from hf_finetune.errors import DataError, RunFolderError
from hf_finetune.files.whole_file import write_whole
from hf_finetune.labels import Label
from hf_finetune.machine.disk import failed_writes_are_said
from hf_finetune.pipeline.fix.added import decoded, index_of_files, own_files
from hf_finetune.pipeline.fix.features import Loaded, load_model
from hf_finetune.pipeline.fix.opened import OpenedRun, open_run
from hf_finetune.report.predicted.columns import csv_cell
from hf_finetune.report.tables import plain_table, terminal_width
from hf_finetune.result.typical import read_typical
from hf_finetune.run.features_file import read_features

if TYPE_CHECKING:
    from hf_finetune.tasks import Target

METHODS = {
    "margin": "margin sampling times greedy farthest point in features",
    "distance": "distance from the training images times greedy farthest point in features",
}
FINDING = "worth a label"
_AT_ONCE = 4096


@dataclass(frozen=True)
class Image:
    """`uncertainty`: 1 less the margin between the two likeliest answers, of several labels that of the least sure one;
    of numbers how far the image is from those of training. `says`: what the run says now."""

    path: str
    uncertainty: float
    says: str


@dataclass(frozen=True)
class Suggested:
    """The images in the order in which they are worth a label, of `of` that were looked at, and the table of them."""

    images: tuple[Image, ...]
    of: int
    table: Path
    method: str


def suggest(run: Path, folder: str, number: int = 20, *, out: str | None = None, overwrite: bool = False) -> Suggested:
    """Raises DataError for a folder without images, RunFolderError where the table is there already."""
    if number < 1:
        raise DataError(f"--count: at least 1 is expected, found {number}.")
    opened, root = open_run(run), Path(folder).expanduser()
    if not root.is_dir():
        raise DataError(f"--suggest: a folder of images is expected, found none at {root}.")
    table = Path(f"{root.absolute().name}-suggested.csv" if out is None else out).expanduser()
    if table.is_dir() or (table.exists() and not overwrite):
        hint = "Name another one with --out, or write anew with --overwrite."
        raise RunFolderError(f"--out: a new table is expected, {table} is there already.", hint)
    names, own = opened.record.there, own_files(opened)
    every = [str(root / name) for name, _ in walk(root).images]
    files = [each for each in every if plain(each) not in names and os.path.realpath(each) not in own]
    if not files:
        raise DataError(f"--suggest: images are expected in {root}, found none that the run does not have.")
    loaded = _loaded(opened)
    none: Label = 0
    rows = decoded(index_of_files(dict.fromkeys(files, none), opened), opened, str(root))
    features = loaded.features(rows, "features")
    uncertainty, says, method = _answers(loaded, features)
    chosen = farthest(_places(opened, features), uncertainty, number)
    images = tuple(Image(str(Path(rows.names[at]).absolute()), float(uncertainty[at]), says[at]) for at in chosen)
    with failed_writes_are_said(table, "Name another place with --out.", key="--out"):
        write_whole(table, _table(images))
    return Suggested(images, len(rows), table, METHODS[method])


def _loaded(opened: OpenedRun) -> Loaded:
    try:
        return load_model(opened, read_features(opened.folder.features))
    except FileNotFoundError:
        return load_model(opened, None)


def _answers(loaded: Loaded, features: np.ndarray) -> tuple[np.ndarray, list[str], str]:
    """How unsure the run is of each image, float64 [N], what it says, and by what that is told."""
    from hf_finetune.ladder.probe.rung import installed

    opened = loaded.opened
    head, target = installed(loaded.model, opened.manifest.head), opened.manifest.target
    typical = read_typical(opened.result)
    parts: list[np.ndarray] = []
    says: list[str] = []
    method = "margin"
    for start in range(0, len(features), _AT_ONCE):
        part = features[start : start + _AT_ONCE]
        logits = head.logits(part)
        says += [each.text() for each in target.predictions(logits)]
        unsure = _unsure(target, logits)
        if unsure is None:
            method = "distance"
            unsure = np.ones(len(part)) if typical is None else typical.ratios(part)
        parts.append(unsure)
    return np.concatenate(parts), says, method


def _unsure(target: Target, logits: np.ndarray) -> np.ndarray | None:
    """1 less the margin, float64 [N]; None for what has no margin."""
    from hf_finetune.tasks.classification import ClassTarget
    from hf_finetune.tasks.multilabel import LabelsTarget
    from hf_finetune.tasks.ordinal import GradeTarget

    if isinstance(target, ClassTarget):
        scaled = logits.astype(np.float64) / target.temperature
        shares = np.exp(scaled - scaled.max(1, keepdims=True))
        shares /= shares.sum(1, keepdims=True)
    elif isinstance(target, GradeTarget):
        shares = target.probabilities(1 / (1 + np.exp(-logits.astype(np.float64))))
    elif isinstance(target, LabelsTarget):
        shares = 1 / (1 + np.exp(-logits.astype(np.float64)))
        return 1 - np.abs(2 * shares - 1).min(1)
    else:
        return None
    two = np.sort(shares, 1)[:, -2:]
    return 1 - (two[:, -1] - two[:, 0])


def _places(opened: OpenedRun, features: np.ndarray) -> np.ndarray:
    """Features where distances are plain ones: as the training images lie, where that is known, else standardised."""
    typical = read_typical(opened.result)
    if typical is not None:
        return features.astype(np.float64) @ typical.factor
    spread = features.std(0)
    return (features - features.mean(0)) / np.where(spread > 0, spread, 1)


def farthest(places: np.ndarray, worth: np.ndarray, number: int) -> list[int]:
    """Which of places float [N, d] to take, at most `number`: the one of the most `worth` [N] first, then whichever
    has the largest worth times distance to the nearest taken; none that lies where another does."""
    gaps, chosen = np.full(len(places), np.inf), [int(worth.argmax())]
    while len(chosen) < min(number, len(places)):
        gaps = np.minimum(gaps, np.sqrt(np.square(places - places[chosen[-1]]).sum(1)))
        score = np.maximum(worth, 1e-6) * gaps
        best = int(score.argmax())
        if gaps[best] <= 1e-6 * max(1.0, float(gaps.max())) or best in chosen:
            break
        chosen.append(best)
    return chosen


def _table(images: Sequence[Image]) -> str:
    """What `fix` reads once a person has filled in the labels."""
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow((*COLUMNS, "says"))
    for each in images:
        path, says = csv_cell("path", each.path), csv_cell("says", each.says)
        writer.writerow((path, FINDING, f"{each.uncertainty:.4f}", "relabel", "", says))
    return text.getvalue()


def render_suggested(suggested: Suggested, run: str) -> str:
    """For a terminal."""
    rows = [("unsure", "image, and what the run says of it")]
    rows += [(f"{each.uncertainty:.2f}", f"{each.path}: {each.says}") for each in suggested.images]
    command = shlex.join(["hf-finetune", "fix", run, str(suggested.table)])
    return (
        f"{plain_table(rows, terminal_width())}\n\n{len(suggested.images):,} of {suggested.of:,} images, by "
        f"{suggested.method}.\nFill in the column label of {suggested.table}, then:\n  {command}"
    )
