"""Images that a finished run has not seen: found, labelled in its terms, and decoded as it decoded its own."""

from __future__ import annotations

import logging
import os
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b
from pathlib import Path

import numpy as np

from hf_finetune.data.index.duplicates import equal_rows
from hf_finetune.data.index.written_labels import WrittenLabels
from hf_finetune.data.sources.readers import FileReader
from hf_finetune.data.sources.source import SourceRow, count, plain
from hf_finetune.errors import DataError
from hf_finetune.files.visible import one_line
from hf_finetune.labels import Label, Labels
from hf_finetune.pipeline.fix.opened import OpenedRun
from hf_finetune.pipeline.images import cache_folder
from hf_finetune.report.progress import Progress
from hf_finetune.result.evaluate import KEPT_OPTIONS
from hf_finetune.types import Index, PixelRows, Reader, Row

logger = logging.getLogger(__name__)
KEY = "--add"


@dataclass(frozen=True)
class Found:
    """Images by their own index, whose only split is train. `equal`: places of byte-equal ones, two or more each;
    `tested`: names of those that are byte-equal to a test image of the run, as far as its images are there."""

    index: Index
    equal: tuple[tuple[int, ...], ...] = ()
    tested: frozenset[str] = frozenset()

    def __len__(self) -> int:
        return len(self.index.splits["train"])


def found_in(place: str, opened: OpenedRun, labels: WrittenLabels) -> Found:
    """The images of a folder with class folders, or of a table, with the run's labels. Rows that are the run's own are
    left out. Raises DataError, also for a class that it does not know, where new ones are not taken."""
    from hf_finetune.data.index.scan import scan_split

    kept = {name: getattr(opened.recipe.data, name) for name in KEPT_OPTIONS}
    data = type(opened.recipe.data).model_validate({**kept, "name": place})
    index = scan_split(data, "train", opened.manifest.labels, opened.manifest.target.reading)
    rows: list[Row] = []
    root = Path(place)
    for row in index.splits["train"]:
        label = row.label
        if index.of_classes and isinstance(label, int):
            label = labels.class_of(index.labels.names[label], f"{KEY}: {place}")
        rows.append(replace(row, name=plain(str(root / row.name)) if root.is_dir() else row.name, label=label))
    return _without_own(replace(index, splits={"train": tuple(rows)}), opened)


def found_files(files: Mapping[str, Label], opened: OpenedRun) -> Found:
    """Files with their labels, as a table of corrections names them."""
    return _without_own(index_of_files(files, opened), opened)


def index_of_files(files: Mapping[str, Label], opened: OpenedRun) -> Index:
    """Files that are read as they are."""
    rows = tuple(Row(plain(path), label, str(Path(path).expanduser().absolute())) for path, label in files.items())
    digest = blake2b(digest_size=16)
    for row in rows:
        stat = Path(str(row.locator)).stat()
        digest.update(f"{row.locator}\0{stat.st_size}\0{stat.st_mtime_ns}\n".encode("utf-8", "surrogateescape"))
    return Index(
        source="files",
        revision=digest.hexdigest(),
        commit=None,
        licence=None,
        labels=Labels(opened.manifest.labels),
        splits={"train": rows},
        cut=(),
        rejected=(),
        notes=(),
        reader=FileReader(),
        columns=(),
    )


def _without_own(index: Index, opened: OpenedRun) -> Found:
    """Without files of the run's own data, which a table corrects, and with what is byte-equal."""
    there, own = opened.record.there, own_files(opened)
    rows, known = [], 0
    for row in index.splits["train"]:
        is_own = isinstance(row.locator, str) and os.path.realpath(row.locator) in own
        known += is_own or row.name in there
        if not is_own and row.name not in there:
            rows.append(row)
    if known:
        logger.warning("%s not added: the run has them already, and a table corrects those.", count(known, "image"))
    new = [SourceRow(row.name, None, row.locator, _size(row.locator)) for row in rows]
    equal = equal_rows([*new, *_tested(opened)], _Either(index.reader))
    joined = [tuple(place for place in group if place < len(new)) for group in equal]
    tested = {
        new[place].name for group, own in zip(equal, joined, strict=True) if len(own) < len(group) for place in own
    }
    together = tuple(group for group in joined if len(group) > 1)
    return Found(replace(index, splits={"train": tuple(rows)}), together, frozenset(tested))


@dataclass(frozen=True)
class _Either:
    """Reads added rows, and files by their path."""

    added: Reader

    def read(self, locator: str | int) -> bytes:
        return self.added.read(locator) if isinstance(locator, int) else FileReader().read(locator)


def _tested(opened: OpenedRun) -> list[SourceRow]:
    """The run's test images, where those are files."""
    root = own_root(opened)
    if root is None:
        return []
    paths = [str(root / name) for name in opened.record.names.get("test", ())]
    return [SourceRow(path, None, path, _size(path)) for path in paths]


def own_files(opened: OpenedRun) -> set[str]:
    """The files of the run's own rows, without links, where those are files."""
    root = own_root(opened)
    return set() if root is None else {os.path.realpath(root / name) for name in opened.record.there}


def own_root(opened: OpenedRun) -> Path | None:
    """The folder that the run's own rows are named from, where there is one."""
    place = None if opened.place is None else Path(opened.place)
    return None if place is None else place if place.is_dir() else place.parent


def _size(locator: str | int) -> int:
    try:
        return Path(locator).stat().st_size if isinstance(locator, str) else 0
    except OSError:
        return 0


def decoded(index: Index, opened: OpenedRun, what: str) -> PixelRows:
    """Its train rows as the run saw its own. What cannot be read is named and left out. Raises DataError where that is
    all."""
    from hf_finetune.data.store.open_views import Options, open_views
    from hf_finetune.data.store.store import evaluation_geometry
    from hf_finetune.machine.detect import usable_cores

    data = opened.recipe.data
    geometry = evaluation_geometry(opened.manifest.preprocess, (opened.manifest.base, opened.manifest.revision))
    options = Options(usable_cores(), cache_folder(opened.recipe), data.store_limit, data.max_pixels)
    with Progress("decoding", "image", 0) as bar:
        (view,) = open_views(index, [("train", geometry)], options, progress=bar.to)
    for note in (*view.notes, *(() if view.clipped is None else (view.clipped,))):
        logger.info("%s", note)
    rejected = [*index.rejected, *view.rejected]
    shown = "; ".join(one_line(f"{each.name}: {each.reason}") for each in rejected[:3])
    if not len(view.rows):
        raise DataError(f"{what}: a readable image is expected, found none: {shown}", "mend or replace them")
    if rejected:
        logger.warning("%s: %s left out, since it cannot be read: %s.", what, count(len(rejected), "image"), shown)
    return view.rows


def units_of(
    names: Sequence[str], found: Found, known: Sequence[str], units: np.ndarray, opened: OpenedRun
) -> tuple[np.ndarray, np.ndarray]:
    """The units of the added rows `names` and of those that are there (`known`, with `units`): byte-equal images, and
    by data.group_pattern those of a name, belong together."""
    numbers, before = np.full(len(names), -1, np.int64), units.copy()
    place = {name: at for at, name in enumerate(names)}
    rows = found.index.splits["train"]
    nearly = [[place[rows[at].name] for at in group if rows[at].name in place] for group in found.equal]
    free = int(max([-1, *units])) + 1
    for group in nearly:
        if len(group) > 1:
            numbers[group], free = free, free + 1
    pattern = opened.recipe.data.group_pattern
    if pattern is None:
        return numbers, before
    from hf_finetune.data.index.together import group_in

    own: defaultdict[str, list[int]] = defaultdict(list)
    groups = re.compile(pattern)
    for at, name in enumerate((*known, *names)):
        if (group := group_in(groups, name)) is not None:
            own[group].append(at)
    joined = np.concatenate([before, numbers])
    for members in own.values():
        if members[-1] < len(known):
            continue
        linked = {int(each) for each in joined[members] if each >= 0}
        number = min(linked, default=free)
        free += number == free
        joined[np.isin(joined, list(linked))] = number
        joined[members] = number
    return joined[len(known) :], joined[: len(known)]
