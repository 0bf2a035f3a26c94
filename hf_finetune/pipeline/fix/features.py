"""What the head of a finished run is given: of its own rows, kept or computed once more, and of others."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from hf_finetune.errors import AdapterError, DataError, FinetuneError, RunFolderError
from hf_finetune.labels import LabelColumn
from hf_finetune.pipeline.fix.added import decoded
from hf_finetune.pipeline.fix.opened import MOVED, OpenedRun, context_of, facts_of
from hf_finetune.pipeline.fix.rows import Rows
from hf_finetune.pipeline.keep_features import about_features, write_rows
from hf_finetune.pipeline.saving import HELD_ROWS
from hf_finetune.pipeline.typical import features_of
from hf_finetune.plan.context import RunContext
from hf_finetune.report.progress import Progress
from hf_finetune.result.split_record import local_place
from hf_finetune.run.features_file import KeptFeatures, KeptRows, read_features
from hf_finetune.types import BackboneFacts, Index, PixelRows, Split

if TYPE_CHECKING:
    from torch import nn

logger = logging.getLogger(__name__)
SPLITS: tuple[Split, ...] = ("train", "validation")
# ‖difference‖ / ‖kept‖ of the features of a few rows, kept and computed again: bfloat16, int8 and another engine differ
# by up to 3 %, other weights by as much as the features are long.
_MOST_APART = 0.1
AGAIN = "Train again with the table as data.corrections: `hf-finetune train RECIPE data.corrections=TABLE`."


@dataclass(frozen=True)
class Loaded:
    """The result's model, and what decides how it sees images. `context`: any of the run's; `batch` images at once;
    `held` float32 [n, d]: features of the rows that the run keeps the pixels of."""

    opened: OpenedRun
    model: nn.Module
    context: RunContext
    batch: int
    held: np.ndarray

    @contextmanager
    def as_in_the_pass(self) -> Iterator[None]:
        """Inside, the model computes features as those of the run's own rows were computed, to the last digit where
        batches are the same."""
        from hf_finetune.adapters.low_memory import answering_lora
        from hf_finetune.ladder.probe.last_block import short_last_block
        from hf_finetune.ladder.starting_model import as_started

        if not self.opened.frozen:
            with answering_lora(self.model):
                yield
            return
        backbone = getattr(self.model, "get_base_model", lambda: self.model)()
        rows = HeldRows(self.opened.held.pixels)
        started = as_started(self.model, self.context) if self._bare else answering_lora(self.model)
        with short_last_block(self.model, backbone, self.context, rows, None), started:
            yield

    def as_answering(self) -> AbstractContextManager[object]:
        """The same with the head that was fitted."""
        from hf_finetune.adapters.low_memory import answering_lora
        from hf_finetune.ladder.starting_model import as_passed

        return as_passed(self.model, self.context) if self._bare else answering_lora(self.model)

    @property
    def _bare(self) -> bool:
        """Whether nothing was trained below the head: neither here nor by another run before."""
        adapter = self.opened.recipe.adapter
        return self.opened.frozen and not (adapter.kind == "lora" and adapter.start is not None)

    def features(self, rows: PixelRows, what: str) -> np.ndarray:
        """float32 [N, d] of decoded rows."""
        with self.as_in_the_pass(), Progress(what, "image", len(rows)) as bar:
            return features_of(self.context, self.model, rows, np.arange(len(rows)), self.batch, bar.update)


def load_model(opened: OpenedRun, kept: KeptFeatures | None) -> Loaded:
    """The result on this machine's device, in the precision of training, compared with the features that were kept.

    Raises AdapterError where its base holds other weights, or they give other features.
    """
    from hf_finetune.result.load import load_result, torch_dtype

    manifest, recipe = opened.manifest, opened.recipe
    facts = facts_of(opened, len(manifest.labels))
    columns = _columns(kept.about) if kept is not None else ()
    context = _bare_context(opened, columns, facts)
    model = load_result(
        opened.result,
        manifest,
        torch_dtype(manifest.dtype),
        context.machine.place,
        compute=recipe.compute,
        cache_dir=recipe.data.cache_dir,
    )
    loaded = Loaded(opened, model, context, context.plan.micro_batch.value, np.zeros((0, 0), np.float32))
    loaded = replace(loaded, held=loaded.features(HeldRows(opened.held.pixels), "held rows"))
    if kept is not None:
        _check_held(loaded, kept)
    return loaded


def _check_held(loaded: Loaded, kept: KeptFeatures) -> None:
    found = loaded.held[: len(kept.held)]
    if found.shape == kept.held.shape:
        apart = float(np.linalg.norm(found - kept.held) / max(float(np.linalg.norm(kept.held)), 1e-12))
        if apart <= _MOST_APART:
            return
        how = f"they differ by {100 * apart:.0f} %"
    else:
        how = f"they are {kept.held.shape[1]} numbers an image, and the model gives {found.shape[1]}"
    raise AdapterError(
        f"{loaded.opened.folder.features}: the features that the run kept are expected of its own model, but {how}.",
        "Copy the run folder again: its files are not of one run. Or remove that file, and the features are computed "
        "anew where the images still are.",
    )


class HeldRows:
    """PixelRows of pixels that are in memory."""

    def __init__(self, pixels: np.ndarray) -> None:
        self._pixels = pixels
        self.labels = np.zeros(len(pixels), np.int64)
        self.sizes = np.zeros((len(pixels), 2), np.int32)
        self.names = [str(number) for number in range(len(pixels))]

    def __len__(self) -> int:
        return len(self._pixels)

    def gather(self, indices: np.ndarray) -> np.ndarray:
        """uint8 [n, 3, H, W]."""
        return self._pixels[indices]


def _bare_context(opened: OpenedRun, columns: tuple[LabelColumn, ...], facts: BackboneFacts) -> RunContext:
    """Enough of a context to compute features in: of no rows, and of no task."""
    from hf_finetune.labels import Labels

    empty = context_of(opened, {}, columns or (LabelColumn("label", "classes", opened.manifest.labels),), facts,
                       settle=False)  # fmt: skip
    return replace(empty, index=replace(empty.index, labels=Labels(opened.manifest.labels)))


def _columns(about: Any) -> tuple[LabelColumn, ...]:
    return tuple(LabelColumn(each["name"], each["kind"], tuple(each["names"])) for each in about["columns"])


def find_features(opened: OpenedRun) -> tuple[KeptFeatures, Loaded | None]:
    """The features of the run's rows, and its model where they were computed now: of a result whose adapter was
    trained, or where none were kept, once, from the run's images, and kept in its folder.

    Raises RunFolderError for a damaged file, DataError where they are neither kept nor to be computed.
    """
    try:
        kept = read_features(opened.folder.features)
    except FileNotFoundError:
        kept = None
    if kept is not None:
        _check_names(opened, kept)
        return kept, None
    if opened.report.fix:
        raise DataError(
            f"fix: the features of the rows are expected in {opened.folder.path}, found none: this run was fixed, and "
            "its images alone do not tell how",
            "fix the run that it was made from, with both tables in one",
        )
    own, columns = _own_index(opened)
    loaded = load_model(opened, None)
    why = "the run kept none" if opened.frozen else f"its best rung was {opened.rung}"
    logger.info("Features of the run's own rows are computed once, since %s.", why)
    found: dict[Split, KeptRows] = {}
    for split in SPLITS:
        rows = decoded(replace(own, splits={"train": own.splits[split]}, rejected=()), opened, split)
        unit_of = {row.name: row.unit for row in own.splits[split]}
        units = np.array([unit_of[name] for name in rows.names], np.int64)
        features = loaded.features(rows, split)
        found[split] = KeptRows(tuple(rows.names), np.asarray(rows.labels), units, features)
    context = replace(loaded.context, index=replace(loaded.context.index, columns=columns))
    about = about_features(context, opened.manifest, rung=opened.rung, engine="")
    kept = KeptFeatures(found, loaded.held[:HELD_ROWS], about)
    if write_rows(opened.folder, kept):
        logger.info("They are kept in %s, so that the next fix needs no image.", opened.folder.features)
    return kept, loaded


def _check_names(opened: OpenedRun, kept: KeptFeatures) -> None:
    """Raises RunFolderError where they are of rows that the run does not have."""
    for split in SPLITS:
        if strange := sorted(set(kept.rows[split].names).difference(opened.record.names.get(split, ()))):
            raise RunFolderError(
                f"{opened.folder.features}: features of this run's own rows are expected, found those of another run: "
                f"splits.json knows no row {strange[0]!r} of {split}.",
                "Copy the run folder again. Or remove that file, and the features are computed anew where the images "
                "still are.",
            )


def _own_index(opened: OpenedRun) -> tuple[Index, tuple[LabelColumn, ...]]:
    """The run's train and validation rows with their labels and units. Raises DataError where the images are gone."""
    from hf_finetune.data.index.scan import scan
    from hf_finetune.data.sources.naming import was_in_memory

    recipe, record, data = opened.recipe, opened.record, opened.data
    lost = f"the features of its rows are not kept in {opened.folder.path}"
    if was_in_memory(data.name):
        raise DataError(f"fix: {lost}, and its images were {data.name}", AGAIN)
    if not opened.moved and record.place is not None and local_place(data.name) != record.place:
        data = data.model_copy(update={"name": record.place})  # another folder is meant from here
    try:
        index = scan(data, seed=recipe.train.seed, reading=recipe.task.reading)
    except FinetuneError as error:
        said = f"fix: {lost}, and its images cannot be read: {error.message}"
        raise DataError(said, f"{MOVED}. {AGAIN}") from error
    # Copies elsewhere have other times; how they were cut tells whether they are the run's rows.
    same = {split: [row.name for row in rows] for split, rows in index.splits.items()} == record.names
    if index.revision != record.revision and not (opened.moved and same):
        raise DataError(f"fix: {lost}, and {index.source} has changed since the run", AGAIN)
    return index, index.columns


def columns_of(kept: KeptFeatures) -> tuple[LabelColumn, ...]:
    """What the rows' labels are."""
    return _columns(kept.about)


def rows_of(kept: KeptFeatures) -> dict[Split, Rows]:
    """The rows that the head is fitted on, and those that it is judged by."""
    return {split: Rows.of(kept.rows[split]) for split in SPLITS}
