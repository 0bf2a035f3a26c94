"""Saves a result: each rung's that is the best so far at once, and the best one's verified at the end.

At the end it is loaded again and compared with the model that trained; a run that ends earlier, however it does, leaves
the last that was saved.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import numpy as np

from hf_finetune.errors import AdapterError, MachineError
from hf_finetune.recipe.recipe import Recipe, dump_recipe
from hf_finetune.result.held_rows import Held, write_held
from hf_finetune.result.manifest import Manifest
from hf_finetune.result.typical import Typical, write_typical
from hf_finetune.run.folder import RunFolder, full_disk_is_said
from hf_finetune.run.replaced import forget_replaced
from hf_finetune.types import LabelledRows, PixelRows, Split

if TYPE_CHECKING:
    from torch import nn

    from hf_finetune.ladder.climb import Climbed
    from hf_finetune.pipeline.images import Images
    from hf_finetune.plan.context import RunContext
    from hf_finetune.types import Candidate

logger = logging.getLogger(__name__)
HELD_ROWS, HELD_BATCH = 16, 4  # rows whose logits are compared after the reload, and how many at a time


@dataclass(frozen=True)
class Saved:
    """A result that was written to `staged` and will be named `target`; `model`: the reloaded one that may score the
    test, None where it has to be loaded."""

    staged: Path
    target: Path
    model: nn.Module | None


def calibrated(manifest: Manifest, climbed: Climbed, context: RunContext, rows: LabelledRows) -> Manifest:
    """With what the task calibrates (a temperature, thresholds, intervals) on rows that the best rung's head was not
    fitted on: the rows that it is fitted on in the end, each left out, where they were answered so; else validation."""
    left_out = climbed.left_out
    if left_out is None:
        target = context.target.calibrated(climbed.answers, rows.labels, f"{len(rows.labels):,} validation images")
    else:
        what = f"{len(left_out.labels):,} {left_out.of} images, each left out"
        target = context.target.calibrated(left_out.answers, left_out.labels, what)
    fitted_on: tuple[Split, ...] = ("train", "validation") if climbed.refitted else ("train",)
    return replace(manifest, task=target.settings, fitted_on=fitted_on)


def save_meanwhile(
    climbed: Climbed, context: RunContext, folder: RunFolder, model: nn.Module, manifest: Manifest, images: Images
) -> bool:
    """Write the best so far, which `model` holds, into the run folder, and say so the first time; whether it is there.

    It is not loaded again to be compared; the end of the run does that. A whole model, which may be gigabytes, is
    left to the end. So is what the disk does not take now: it may have room by then, and other processes would wait
    for this one for ever.
    """
    from accelerate.utils import extract_model_from_parallel

    from hf_finetune.result.save import publish_locally, stage

    if context.recipe.adapter.whole:
        return False
    if context.machine.is_first:
        target = folder.result(whole=False)
        staged, first = target.with_name(f"{target.name}.staged"), not target.exists()
        bare = extract_model_from_parallel(model, keep_fp32_wrapper=False)
        manifest = calibrated(manifest, climbed, context, images.rows["validation"])
        try:
            with full_disk_is_said(folder):
                stage(bare, staged, manifest, dump_recipe(context.recipe))
                publish_locally(staged, target)
            forget_replaced(folder)
        except MachineError as error:
            logger.warning("%s The result is saved at the end of the run.", error.message)
            return False
        if first:
            logger.info("Usable from now on: hf-finetune predict %s IMAGE", folder.path)
    return True


def save_best(
    context: RunContext,
    folder: RunFolder,
    climbed: Climbed,
    model: nn.Module,
    manifest: Manifest,
    rows: Mapping[Split, PixelRows],
    typical: Typical | None,
) -> Saved:
    """The best rung's weights, which `model` holds, written, reloaded and compared by rank 0.

    Raises InterruptedRun, the result in place, where the climb was interrupted.
    """
    from hf_finetune.machine import processes
    from hf_finetune.machine.disk import follow_umask

    target = folder.result(whole=context.recipe.adapter.whole)
    saved = Saved(target.with_name(f"{target.name}.staged"), target, None)
    if context.machine.is_first:
        held = rows["validation"].gather(np.arange(min(HELD_ROWS, len(rows["validation"]))))
        try:
            again = save_verified(model, saved.staged, manifest, context.recipe, held, folder)
        except AdapterError:  # nor is what was saved of it before to be trusted
            shutil.rmtree(saved.target, ignore_errors=True)
            raise
        if typical is not None:
            write_typical(saved.staged, typical)
            follow_umask(saved.staged)
        if context.recipe.budget.time is not None:  # else the test is scored with float32 weights
            saved = replace(saved, model=again)
    if climbed.interrupted:
        keep_interrupted(saved, climbed.best, first=context.machine.is_first)
    processes.wait()
    return saved


def save_verified(
    model: nn.Module, staged: Path, manifest: Manifest, recipe: Recipe, held: np.ndarray, folder: RunFolder
) -> nn.Module:
    """Stage the result of a trained model, reload it, and compare logits on `held` rows, uint8 [n, 3, H, W]; returns
    the reloaded model.

    The rows and their logits are kept in the run folder for a later push.
    """
    from accelerate.utils import extract_model_from_parallel

    from hf_finetune.result.answers import logits_of
    from hf_finetune.result.compare import compare
    from hf_finetune.result.load import load_result, torch_dtype
    from hf_finetune.result.save import stage

    # Training wraps forward in autocast; the comparison is of the bare model with the bare reload.
    bare = extract_model_from_parallel(model, keep_fp32_wrapper=False)
    device = str(next(bare.parameters()).device)
    expected = logits_of(bare, held, manifest.preprocess, batch=HELD_BATCH)
    stage(bare, staged, manifest, dump_recipe(recipe))

    again = load_result(
        staged,
        manifest,
        torch_dtype(manifest.dtype),
        device,
        compute=recipe.compute,
        cache_dir=recipe.data.cache_dir,
    )
    found = logits_of(again, held, manifest.preprocess, batch=HELD_BATCH)
    difference = compare(
        expected,
        found,
        what="The saved result answers differently from the trained model",
        hint=f"It is left at {staged}; the checkpoints are kept. This is a bug: please report it.",
    )
    logger.info("Reloaded and compared: logits differ by at most %.2g.", difference)
    if manifest.quantization == "int8":
        from hf_finetune.backbones.quantized import stock_arithmetic

        with stock_arithmetic(again):  # a push compares them with what stock code answers
            found = logits_of(again, held, manifest.preprocess, batch=HELD_BATCH)
    write_held(folder.held, Held(held, found, device.partition(":")[0], HELD_BATCH))
    return again


class InterruptedRun(KeyboardInterrupt):
    """The run was interrupted, and the best rung so far is saved. The text says where."""


def keep_interrupted(saved: Saved, best: Candidate, *, first: bool) -> NoReturn:
    """Put the best rung's verified result in place and end; the same command goes on with the run."""
    from hf_finetune.result.save import publish_locally

    if first:
        publish_locally(saved.staged, saved.target)
        forget_replaced(RunFolder(saved.target.parent))
    raise InterruptedRun(f"interrupted; the best rung so far ({best.rung}) is saved in {saved.target}")
