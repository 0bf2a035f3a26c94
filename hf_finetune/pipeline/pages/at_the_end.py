"""report.html at the end of a run: made of what the run still holds, in little time, and never what a run fails by."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hf_finetune.errors import reason_of
from hf_finetune.files.whole_file import write_whole
from hf_finetune.labels import Answers
from hf_finetune.pipeline.finish import assemble_report, scored_validation
from hf_finetune.pipeline.publish import Ended
from hf_finetune.report.fields import RunReport
from hf_finetune.run.clock import Clock
from hf_finetune.run.folder import RunFolder
from hf_finetune.types import PixelRows, Split

if TYPE_CHECKING:
    from hf_finetune.ladder.climb import Climbed
    from hf_finetune.machine.peak import PeakMemory
    from hf_finetune.pipeline.images import Images
    from hf_finetune.plan.context import RunContext
    from hf_finetune.report.page.content.evidence import Evidence
    from hf_finetune.report.page.content.looks import Look
    from hf_finetune.report.page.content.maker import Maker
    from hf_finetune.report.page.content.pages import Augmented
    from hf_finetune.result.manifest import Manifest
    from hf_finetune.tasks import Target

logger = logging.getLogger(__name__)
# Of the seconds that a run took, for the charts and images of its page; of a short run as many.
SHARE, LEAST_S = 0.05, 2.0
_AUGMENTED, _TIMES = 6, 4  # training images that are shown, and how often each
_LOOKED_AT_ONCE = 2  # images whose gradients are held: of a ViT-B about 0.2 GB


def write_page(context: RunContext, ended: Ended, folder: RunFolder, clock: Clock) -> None:
    """Write it, unless the recipe wants none; says in one line why it could not be made."""
    with _nothing_fails_by(folder.page):
        if not context.recipe.output.report:
            folder.page.unlink(missing_ok=True)  # of an earlier, interrupted beginning
            return
        _write(context, ended, folder, clock)


def write_interrupted_page(
    context: RunContext,
    climbed: Climbed,
    manifest: Manifest,
    images: Images,
    folder: RunFolder,
    clock: Clock,
    peak: PeakMemory,
) -> None:
    """As `write_page`, of a run that ends before its test: of validation, as the best rung answered it."""
    if not context.recipe.output.report:
        return
    with _nothing_fails_by(folder.page):
        results = scored_validation(context, climbed, manifest, images.rows)
        report = assemble_report(context, images.store, climbed, results, manifest, clock, peak)
        ended = Ended(report, results, images.rows, manifest.target)
        _write(context, ended, folder, clock, interrupted=True)


@contextmanager
def _nothing_fails_by(page: Path) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # noqa: BLE001  the run is safe: whatever is wrong with its picture must not fail it
        logger.warning("%s was not made: %s", page, reason_of(error))


def _write(context: RunContext, ended: Ended, folder: RunFolder, clock: Clock, *, interrupted: bool = False) -> None:
    from hf_finetune.report.page.content.maker import Maker
    from hf_finetune.report.page.content.pages import run_page
    from hf_finetune.report.run_json import as_run_report, content_of

    maker = Maker(_seconds_left(context, clock))
    report = as_run_report(content_of(ended.report))  # as it will be read from run.json: rounded, without a home
    split, score = ended.shown, report.test or report.validation
    rows, answers = ended.rows[split], ended.results[split].answers
    evidence = evidence_of(split, ended.target, answers, score, rows)
    seen = _augmented(context, report, ended.rows["train"], maker)
    look = None if interrupted else _look(context, report, folder, len(rows), maker)
    log = read_log(folder)
    page = run_page(report, evidence, log, maker, augmented=seen, look=look, interrupted=interrupted)
    write_whole(folder.page, page)


def _seconds_left(context: RunContext, clock: Clock) -> float:
    spent, limit = clock.total(), context.recipe.budget.time
    own = max(LEAST_S, SHARE * spent)
    return own if limit is None else min(own, limit - spent)


def evidence_of(split: Split, target: Target, answers: Answers, score: Mapping[str, Any], rows: PixelRows) -> Evidence:
    """`answers` to `rows`, and their full `score`; with the images."""
    from hf_finetune.report.page.content.evidence import Evidence, Images

    labels = np.asarray(rows.labels)
    columns, lines = target.table(answers, labels)
    images = Images(rows.gather, np.ones(len(rows), bool))
    names = target.outputs.names
    return Evidence(
        split, target.settings, names, rows.names, columns, list(lines), score, labels, answers.loss, images
    )


def look_of(result: Path, cost_s: float = 0.0) -> Look:
    """By the saved result, which is loaded where time is left for it."""
    from hf_finetune.report.page.content.looks import Look

    def maps(pixels: np.ndarray) -> np.ndarray:
        from hf_finetune.result.classifier import load
        from hf_finetune.result.saliency import saliency

        return saliency(load(result), pixels, batch=_LOOKED_AT_ONCE)

    return Look(maps, cost_s)


def _look(context: RunContext, report: RunReport, folder: RunFolder, rows: int, maker: Maker) -> Look | None:
    """None where the result is not loaded once more: for a budget of memory, which no plan has counted that in, and
    where its weights are streamed."""
    from hf_finetune.report.page.content.looks import RIGHT, WORST

    streamed = context.plan.stream.value != "off"
    if streamed or context.recipe.budget.memory is not None:
        why = "weights are streamed" if streamed else "budget.memory has no room for it"
        maker.left_out.append(f"what the model looked at ({why})")
        return None
    # Loading takes as long as saving with its reload did; a pass, and about twice as much backwards, as in the test.
    seconds = report.seconds
    pass_s = seconds.get("test", seconds["training"]) / max(1, rows)
    return look_of(folder.result(whole=report.whole), seconds.get("saving", 0.0) + 3 * (WORST + RIGHT) * pass_s)


def read_log(folder: RunFolder) -> list[dict[str, Any]]:
    """The lines of metrics.jsonl; a run without training has none, and a line that was cut off is left out."""
    found: list[dict[str, Any]] = []
    if folder.metrics.is_file():
        for line in folder.metrics.read_text(encoding="utf-8", errors="replace").splitlines():
            try:
                found.append(json.loads(line))
            except ValueError:
                continue
    return [line for line in found if isinstance(line.get("seconds"), int | float)]


def _augmented(context: RunContext, report: RunReport, train: PixelRows, maker: Maker) -> Augmented | None:
    """Some training images as the run's own augmenter drew them; None where no rung trained on augmented ones."""
    if not any(rung.rung == "full" and rung.images for rung in report.rungs):
        return None
    chosen = np.unique(np.linspace(0, len(train) - 1, min(_AUGMENTED, len(train))).astype(np.int64))
    return maker.if_time("augmented images", 0.3, lambda: draw_augmented(context, train, chosen))


def draw_augmented(context: RunContext, train: PixelRows, chosen: np.ndarray) -> Augmented:
    """`chosen` training rows, each as several epochs show it to the model."""
    import torch

    from hf_finetune.data.augment.augmenter import Augmenter
    from hf_finetune.data.augment.dataset import TrainRows, prepare
    from hf_finetune.preprocess.normalise import Normaliser
    from hf_finetune.report.page.content.pages import Augmented

    recipe, preprocess = context.recipe, context.facts.preprocess
    augmenter = Augmenter(recipe.augment, preprocess, context.plan.train_side.value, context.extensions.transform)
    drawn, epochs = TrainRows(train, augmenter, seed=recipe.train.seed), []
    for epoch in range(_TIMES):
        drawn.set_epoch(epoch)
        epochs.append(prepare(drawn.__getitems__(chosen.tolist()), augmenter)[0])
    pixels = Normaliser(preprocess).undone(torch.stack(epochs, 1).flatten(0, 1))
    return Augmented(
        [train.names[row] for row in chosen.tolist()], pixels.numpy().reshape(len(chosen), _TIMES, *pixels.shape[1:])
    )
