"""`hf-finetune fix`: a finished run taught again, from the features of its rows and a table of what was wrong.

Owns the order of things; what is changed is taught.py's, the head refit.py's.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from pathlib import Path

from hf_finetune.data.index.written_labels import WrittenLabels
from hf_finetune.machine.peak import PeakMemory
from hf_finetune.pipeline.finished import Run, read_run
from hf_finetune.pipeline.fix.features import Loaded, columns_of, find_features, load_model, rows_of
from hf_finetune.pipeline.fix.opened import OpenedRun, context_of, open_run
from hf_finetune.pipeline.fix.place import claim_place, new_folder
from hf_finetune.pipeline.fix.rows import Rows
from hf_finetune.pipeline.fix.taught import Taught, Wishes, taught_again, wanted, with_features
from hf_finetune.plan.context import RunContext
from hf_finetune.run.clock import Clock
from hf_finetune.run.features_file import KeptFeatures
from hf_finetune.run.folder import RunFolder
from hf_finetune.types import Split


def fix(run: Path, wishes: Wishes, *, started: float | None = None) -> Run:
    """The fixed run, in a folder of its own. `started`: as `time.time()`, from when its seconds count (None: now).

    Raises FinetuneError; then nothing was written, and the run is as it was in any case.
    """
    clock = Clock(started)
    with clock.stage("imports and reading"):
        import_libraries()
        opened = open_run(run, wishes.overrides)
        place = claim_place(opened.folder.path, wishes.out, overwrite=wishes.overwrite)
    with PeakMemory() as peak:
        with clock.stage("features"):
            kept, loaded = find_features(opened)
            rows, columns = rows_of(kept), columns_of(kept)
            labels = WrittenLabels(
                columns,
                opened.manifest.target.reading,
                take_new=wishes.new_classes,
                join_alike=opened.recipe.data.join_alike,
            )
            changes, found = wanted(opened, rows, labels, wishes)
            loaded = loaded or load_model(opened, kept)
            taught = taught_again(opened, rows, labels, changes, with_features(loaded, found))
        with new_folder(place) as folder:
            was = context_of(opened, rows, columns, loaded.context.facts, settle=False), rows
            _write(opened, loaded, taught, was, kept, folder, place, clock, peak, wishes)
    return read_run(RunFolder(place))


def import_libraries() -> None:
    """The slow ones, so that their seconds count as what they are."""
    for name in ("torch", "transformers", "peft"):
        importlib.import_module(name)


def _write(
    opened: OpenedRun,
    loaded: Loaded,
    taught: Taught,
    was: tuple[RunContext, Mapping[Split, Rows]],
    kept: KeptFeatures,
    folder: RunFolder,
    place: Path,
    clock: Clock,
    peak: PeakMemory,
    wishes: Wishes,
) -> None:
    """Everything of the new run, run.json last."""
    from hf_finetune.pipeline.fix.refit import refit
    from hf_finetune.pipeline.fix.write import Writer

    context = context_of(opened, taught.rows, taught.columns, loaded.context.facts)
    with clock.stage("head"):
        refitted = refit(loaded, context, taught.rows, was)
    writer = Writer(opened, taught, context, folder, place, peak)
    with clock.stage("saving"):
        writer.keep(kept)
        saved, manifest, climbed = writer.save(loaded.model, refitted, clock)
    with clock.stage("test"):
        scores = writer.score(saved, manifest, climbed, score_test=wishes.score_test)
    writer.publish(saved, manifest, climbed, scores, refitted, clock)
