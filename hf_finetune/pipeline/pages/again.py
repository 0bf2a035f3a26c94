"""report.html once more, of what a run left in its folder; and the same page of an evaluation.

What run.json, metrics.jsonl and predictions.csv hold is told again; images are read where the run's own are still at
hand. What cannot be had is named on the page.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hf_finetune.errors import DataError, FinetuneError, RecipeError, RunFolderError, reason_of
from hf_finetune.files.at_work import way_on
from hf_finetune.files.whole_file import write_whole
from hf_finetune.machine.disk import failed_writes_are_said
from hf_finetune.pipeline.pages.at_the_end import evidence_of, look_of, read_log
from hf_finetune.report.fields import RunReport
from hf_finetune.run.folder import RunFolder
from hf_finetune.types import PixelRows, Split

logger = logging.getLogger(__name__)

if TYPE_CHECKING:
    from hf_finetune.report.page.content.evidence import Evidence
    from hf_finetune.result.evaluate import Evaluated


def check_page(path: Path) -> None:
    """Raise RecipeError where no page could be written there, before minutes of scoring."""
    if path.suffix.lower() not in (".html", ".htm"):
        raise RecipeError(f"--report: a file to write HTML to is expected, found {path}.", "Such as photos.html.")
    if path.exists():
        raise RecipeError(f"--report: a new file is expected, {path} is there already.", "Name another, or remove it.")
    if not path.absolute().parent.is_dir():
        raise RecipeError(
            f"--report: there is no folder {path.absolute().parent}.", "Make it, or name a file elsewhere."
        )


def write_evaluation_page(found: Evaluated, result: str, path: Path) -> None:
    """The page of what `evaluated` gave. Raises MachineError where it cannot be written."""
    from hf_finetune.report.page.content.looks import Look
    from hf_finetune.report.page.content.pages import evaluation_page
    from hf_finetune.report.references import last_component, without_paths
    from hf_finetune.result.saliency import saliency

    score = found.score
    evidence = evidence_of(found.split, found.target, found.answers, score, found.rows)
    title = f"{last_component(result)} on {last_component(found.source)}, {found.split}"
    notes = [without_paths(note) for note in score["notes"]]
    look = Look(lambda pixels: saliency(found.classifier, pixels))
    text = evaluation_page(title, evidence, notes, score["left_out"], look)
    with failed_writes_are_said(path, "Free some space, or name another file."):
        write_whole(path, text)


def remake(place: Path, overrides: Sequence[str] = ()) -> Path:
    """Make the page of the finished run in the folder `place` again; returns its path. Where images cannot be had and a
    page is there, which may have them, that one stays and the new one lies beside it.

    `overrides` are `data.key=value`, for images that have moved (`data.name`). Raises RunFolderError where there is no
    finished run, MachineError where the page cannot be written.
    """
    from hf_finetune.report.page.content.maker import Maker
    from hf_finetune.report.page.content.pages import run_page
    from hf_finetune.report.run_json import as_run_report, read_report

    folder = RunFolder(place)
    if not folder.is_finished():
        begun = folder.recipe.is_file()
        raise RunFolderError(
            f"{place}: the folder of a finished run (output.dir) is expected, "
            + ("found one that is not finished." if begun else "found no run.json in it."),
            way_on(folder.path, folder.recipe) if begun else "Give the run's output.dir.",
        )
    report, maker = as_run_report(read_report(folder.report)), Maker()
    if any(rung.rung == "full" and rung.images for rung in report.rungs):
        maker.left_out.append("augmented images (a run draws them as it ends)")
    evidence = _recorded(folder, report, overrides)
    text = run_page(report, evidence, read_log(folder), maker, look=look_of(folder.result(whole=report.whole)))
    page = folder.page
    if evidence.no_images:
        logger.warning("%s", evidence.no_images)
        page = page.with_name("report-without-images.html") if page.exists() else page
    with failed_writes_are_said(folder.path, "Free some space, or ask for access."):
        write_whole(page, text)
    return page


def _recorded(folder: RunFolder, report: RunReport, overrides: Sequence[str]) -> Evidence:
    """What predictions.csv says, and the images where they are."""
    from dataclasses import replace

    from hf_finetune.report.page.content.evidence import Evidence, Images
    from hf_finetune.report.predictions import read_predictions

    split: Split = "test" if report.test else "validation"
    lines = read_predictions(folder.predictions) if folder.predictions.is_file() else []
    columns = tuple(lines[0])[2:] if lines else ()
    names = [line["row"] for line in lines]
    outputs = tuple(report.data["labels"])
    cells = [tuple(line[column] for column in columns) for line in lines]
    score = report.test or report.validation
    told = Evidence(split, report.task, outputs, names, columns, cells, score)
    if not lines:
        return replace(told, no_images="predictions.csv is not in the run's folder: images are left out.")
    try:
        rows = _own_images(folder, report, split, overrides)
    except (FinetuneError, OSError) as error:
        if isinstance(error, RecipeError):
            raise
        return replace(told, no_images=f"Images are left out. {reason_of(error)}")
    place = {name: at for at, name in enumerate(rows.names)}
    at = np.array([place.get(name, -1) for name in names], np.int64)
    labels = np.asarray(rows.labels)[at] if (at >= 0).all() else None
    return replace(told, labels=labels, images=Images(lambda chosen: rows.gather(at[chosen]), at >= 0))


def _own_images(folder: RunFolder, report: RunReport, split: Split, overrides: Sequence[str]) -> PixelRows:
    """The rows of `split` as the run split them. Raises DataError where they are not at hand."""
    from hf_finetune.recipe.recipe import load_recipe
    from hf_finetune.result.evaluate import decoded, told_keys
    from hf_finetune.result.manifest import read_manifest
    from hf_finetune.result.own_rows import own_rows

    result = folder.result(whole=report.whole)
    moved = "name" in told_keys(overrides)
    recipe, manifest = load_recipe(result / "recipe.yaml", overrides), read_manifest(result)
    data: Any = recipe.data.model_copy(update={"max_bad_share": 0.99})  # whatever is left is worth showing
    chosen = own_rows(result, data, manifest, split, recipe.train.seed, moved=moved)
    rows, _, _ = decoded(chosen.index, result, manifest, data, split)
    if not len(rows):
        raise DataError(f"No image of {split} can be read any more.")
    return rows
