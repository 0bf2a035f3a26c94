"""The scale of a data set's high-bit grey images, from its training rows alone and before anything is decoded to train.

Owns which rows are looked at. The rule is `preprocess/value_range.py`'s. What is looked at depends on the names of the
training rows and on nothing else, so that a resumed run, another process and another machine find the same scale.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from hashlib import blake2b
from pathlib import Path

import numpy as np

from hf_finetune.data.config import Data
from hf_finetune.data.sources.source import count
from hf_finetune.data.sources.streamed.reader import StreamedReader, placed
from hf_finetune.data.store.open_views import Options, open_views
from hf_finetune.data.store.views import Values, seen_of
from hf_finetune.errors import DataError
from hf_finetune.preprocess.pixels import Header, quiet_pillow, read_header
from hf_finetune.preprocess.value_range import Seen, choose, is_high_bit
from hf_finetune.report.value_range import differs_from_stock, range_text
from hf_finetune.types import Index, Note, Row, ValueRange

# Headers that are read at most. A file's takes 0.2 ms (PNG) to 1.2 ms (TIFF), two cores busy with nine processes
# (Intel Xeon, 2026-11-28); bytes within a table are read whole.
_FILES, _EMBEDDED = 10_000, 1_000
# Images whose values are read at most: all of them in most data sets, and some seconds of decoding in any.
_SAMPLED, _LEAST, _SAMPLED_PIXELS = 256, 16, 400_000_000
# What these formats hold is 8-bit grey or colour.
_EIGHT_BIT = frozenset((".jpg", ".jpeg", ".jpe", ".jfif", ".gif", ".bmp", ".webp", ".avif", ".heic", ".heif"))
DEEP_COLOUR = Note(
    "16-bit colour images: of each value the high byte is taken, as stock code does, so that values which fill fewer "
    "than 16 bits come out dark; convert such images to 8 bits"
)


def settle_value_range(index: Index, config: Data, workers: int) -> tuple[ValueRange | None, tuple[Note, ...]]:
    """The scale for the index's training rows and notes on it; None and nothing where none of them is high-bit grey.

    `data.value_range` decides where it is set. Raises DataError where the rows hold both whole numbers and floats,
    which no one scale suits.
    """
    cache = Path(config.cache_dir).expanduser() if config.cache_dir else None
    options = Options(workers, cache, None, config.max_pixels)
    rows, deep_colour = high_bit_rows(index, config.max_pixels)
    colour = (DEEP_COLOUR,) if deep_colour else ()
    if config.value_range is not None:
        unused = Note("data.value_range is for 16-bit, 32-bit and float grey: none was found")
        notes = _notes(config.value_range, "as data.value_range says") if rows else (unused,)
        return config.value_range, (*notes, *colour)
    seen = _values(index, rows, options) if rows else []
    if not seen:  # or none of them can be read: the store says so of each
        return None, colour
    if len({each.is_float for each in seen}) > 1:
        raise DataError(
            f"data.value_range: grey images of one kind are expected, found whole numbers "
            f"({_span([each for each in seen if not each.is_float])}) beside floats "
            f"({_span([each for each in seen if each.is_float])})",
            "set data.value_range to [black, white] for all of them, or convert them to one type",
        )
    value_range, why = choose(seen)
    return value_range, (
        *_notes(value_range, f"from the values of {count(len(seen), 'training image')}: {why}"),
        *colour,
    )


def high_bit_rows(index: Index, max_pixels: int) -> tuple[list[Row], bool]:
    """Training rows that are high-bit grey by their headers, in an order drawn from their names: enough to look at.

    And whether a row that was looked at is colour of 16 bits.
    """
    rows: Sequence[Row] = index.splits["train"]
    if isinstance(index.reader, StreamedReader):
        return _listed(rows, index.reader, max_pixels), index.reader.deep_colour
    rows = sorted(rows, key=lambda row: blake2b(row.name.encode(), digest_size=8).digest())
    files = [row for row in rows if isinstance(row.locator, str) and Path(row.locator).suffix.lower() not in _EIGHT_BIT]
    embedded = [row for row in rows if not isinstance(row.locator, str)]
    found: list[Row] = []
    held, deep_colour = 0, False
    with quiet_pillow():
        for row in (*files[:_FILES], *embedded[:_EMBEDDED]):
            header = _header(index, row)
            deep_colour |= header.deep_colour
            if is_high_bit(header.mode) and header.pixels <= max_pixels:
                found.append(row)
                held += header.pixels
            if len(found) >= _SAMPLED or (len(found) >= _LEAST and held > _SAMPLED_PIXELS):
                break
    return found, deep_colour


def _listed(rows: Sequence[Row], reader: StreamedReader, max_pixels: int) -> list[Row]:
    """Of files that come and go: those that the listing found in the first file that has any, which is one to fetch."""
    found = [row for row in rows if 0 < reader.high_bit.get(int(row.locator), 0) <= max_pixels]
    return [row for row in found if placed(int(row.locator))[0] == placed(int(found[0].locator))[0]]


def _header(index: Index, row: Row) -> Header:
    """The header of one row; an empty one where it cannot be read, which the store will say of it."""
    try:
        if isinstance(row.locator, str) and Path(row.locator).is_file():
            return read_header(Path(row.locator))
        return read_header(index.reader.read(row.locator))
    except (OSError, ValueError, LookupError):
        return Header()


def _values(index: Index, rows: Sequence[Row], options: Options) -> list[Seen]:
    """Read by worker processes, as any image is, and kept in the image store."""
    sample = replace(index, splits={"train": tuple(rows)})
    (view,) = open_views(sample, [("train", Values())], options)
    return seen_of(view.rows.gather(np.arange(len(view.rows)))) if len(view.rows) else []


def _notes(value_range: ValueRange, why: str) -> tuple[Note, ...]:
    text = f"high-bit grey images: values {range_text(value_range)} become black to white in every image, {why}"
    notes = [Note(text)]
    if differs_from_stock(value_range):
        notes.append(
            Note(
                "stock code (a pipeline, Pillow's convert) takes 0 to 255 of such images for black to white, and so "
                "sees other pixels; the lines of the model card convert them"
            )
        )
    return tuple(notes)


def _span(seen: Sequence[Seen]) -> str:
    return f"{min(each.low for each in seen):g} to {max(each.high for each in seen):g}"
