"""Says where a run is scored on images that the adapter which it starts from was trained on."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import TYPE_CHECKING

from hf_finetune.recipe.recipe import Recipe
from hf_finetune.result.split_record import SplitRecord, local_place, read_record
from hf_finetune.types import Index, Note, Split

if TYPE_CHECKING:
    from hf_finetune.adapters.starting.start import Start

logger = logging.getLogger(__name__)


def tell_trained_rows(index: Index, recipe: Recipe, start: Start | None) -> Index:
    """The index with a note on such rows of validation and test, and a warning; as it is where there are none, or where
    nothing is known of the adapter's run (it is known where it lies in its run folder)."""
    record = None if start is None else _record_of(start)
    if record is None or not _is_of(record, index, recipe):
        return index
    # An adapter's head may be fitted on its validation rows in the end; that they choose again is no matter.
    fitted = {*record.names.get("train", ()), *record.names.get("validation", ())}
    trained: dict[Split, set[str]] = {"validation": set(record.names.get("train", ())), "test": fitted}
    told = [
        f"{seen:,} of {len(index.splits[split]):,} {split} images"
        for split, names in trained.items()
        if (seen := sum(row.name in names for row in index.splits.get(split, ())))
    ]
    if not told:
        return index
    text = (
        f"{' and '.join(told)} are among those that the adapter of adapter.from was trained on, so that its "
        "figures say little of new images"
    )
    logger.warning("%s. Its run's data.split_seed (or train.seed) keeps its cut.", text)
    return replace(index, notes=(*index.notes, Note(text)))


def _record_of(start: Start) -> SplitRecord | None:
    folder = start.fetched.folder
    return None if start.fetched.commit else read_record(folder) or read_record(folder.parent)


def _is_of(record: SplitRecord, index: Index, recipe: Recipe) -> bool:
    return record.revision == index.revision or (
        record.place is not None and record.place == local_place(recipe.data.name)
    )
