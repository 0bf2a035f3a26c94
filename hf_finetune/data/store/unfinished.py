"""An entry while it is built: what is decoded is written down as it comes, so that a build that was killed goes on.

    <cache>/store/<key>.part/rows.jsonl    what became of some rows in each line, with a digest of the line
                             pixels.u8     as in the finished entry, at its full length from the start

Nothing is forced to the disk on the way: what a power cut took is found out by the digests and by every row's CRC when
the next run takes the folder up. Owns these two files. The finished entry is `cache.py`'s, decoding `build.py`'s.
"""

from __future__ import annotations

import logging
import shutil
import time
import zlib
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import IO, Any, final

import numpy as np

from hf_finetune.data.store.cache import PIXELS, Entry, allocate, put_into_place, write_tables
from hf_finetune.data.store.decode import Decoded, Failed
from hf_finetune.data.store.expiry import JOURNAL, UNFINISHED, sweep
from hf_finetune.data.store.outcomes import Outcomes
from hf_finetune.data.store.views import RowShape, row_bytes
from hf_finetune.files.journal import line_of, whole_lines

logger = logging.getLogger(__name__)

# A line is written after so many rows or seconds, whichever comes first: what a kill may cost, on top of the rows that
# the workers have in hand.
LINE_ROWS = 256
LINE_S = 2.0


def unfinished_folder(root: Path, key: str) -> Path:
    """Where the entry `key` is while it is built."""
    return root / f"{key}{UNFINISHED}"


@final
class Unfinished:
    """The entry `key` of `rows` rows while it is built, taken up where an earlier process left it.

    The lock of the key must be held from before until the end of the `with`. Leaving it by an error keeps what is
    decoded, but for an OSError, which says that the disk cannot take it. Raises OSError where there is no room or the
    folder cannot be written. `pixels` is the file for the workers, `outcomes` what became of the rows so far.
    """

    def __init__(self, root: Path, key: str, rows: int, geometry: RowShape) -> None:
        self._root, self._key, self._rows, self._geometry = root, key, rows, geometry
        self._folder = unfinished_folder(root, key)
        self.pixels = self._folder / PIXELS
        self.outcomes = Outcomes(rows)
        self._journal: IO[str] | None = None
        self._unwritten: list[Decoded | Failed] = []
        self._began, self._written_at = time.time(), time.monotonic()

    def __enter__(self) -> Unfinished:
        sweep(self._root, self._key)
        try:
            self._take_up()
            self._journal = (self._folder / JOURNAL).open("a", encoding="utf-8")
            self._journal.write("\n")  # ends a line that was torn
        except OSError:
            self._discard()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if self._journal is None:  # it was published
            return
        with suppress(OSError):
            self._write()
        with suppress(OSError):
            self._journal.close()
        if isinstance(error, OSError) or not self.outcomes.done.any():
            self._discard()

    def add(self, result: Decoded | Failed) -> None:
        """Notes what became of a row, whose pixels are written. Raises OSError."""
        self.outcomes.add(result)
        self._unwritten.append(result)
        if len(self._unwritten) >= LINE_ROWS or time.monotonic() - self._written_at > LINE_S:
            self._write()

    def keep(self) -> None:
        """Writes down all that is known by now. Raises OSError."""
        self._write()

    def publish(self) -> Entry:
        """Puts the entry into place whole, once something became of every slot. Raises OSError."""
        found = replace(self.outcomes.entry(), written_s=self._began)
        write_tables(self._folder, self._key, self._geometry, found)
        if self._journal is not None:
            self._journal.close()  # Windows renames no folder with an open file in it
            self._journal = None
        placed = put_into_place(self._folder, self._root, self._key, found)
        (self._root / self._key / JOURNAL).unlink(missing_ok=True)
        return placed

    def _take_up(self) -> None:
        length = self._rows * row_bytes(self._geometry)
        if self.pixels.is_file() and self.pixels.stat().st_size == length:
            for result in _read(self._folder / JOURNAL, self._rows):
                self.outcomes.add(result)
            _forget_damaged(self.outcomes, self.pixels, row_bytes(self._geometry))
        if done := int(self.outcomes.done.sum()):
            logger.info("%d of %d images lie decoded from a run that did not finish", done, self._rows)
            return
        self._discard()
        self._folder.mkdir()
        allocate(self.pixels, length)

    def _write(self) -> None:
        if self._unwritten and self._journal is not None:
            self._journal.write(_line(self._unwritten))
            self._journal.flush()
        self._unwritten, self._written_at = [], time.monotonic()

    def _discard(self) -> None:
        shutil.rmtree(self._folder, ignore_errors=True)


def _line(results: list[Decoded | Failed]) -> str:
    told: dict[str, Any] = {
        "decoded": [list(result) for result in results if isinstance(result, Decoded)],
        "failed": [list(result) for result in results if isinstance(result, Failed)],
    }
    return line_of(told)


def _read(journal: Path, rows: int) -> Iterator[Decoded | Failed]:
    """What whole lines say, in the order in which it was written."""
    for told in whole_lines(journal):
        try:
            results = [*(Decoded(*each) for each in told["decoded"]), *(Failed(*each) for each in told["failed"])]
        except (LookupError, TypeError):  # of another version
            continue
        yield from (result for result in results if 0 <= result.slot < rows)


def _forget_damaged(outcomes: Outcomes, pixels: Path, size: int) -> None:
    """Takes out the rows whose pixels are not those that were written."""
    if not size:
        return
    with pixels.open("rb") as file:
        for slot in np.flatnonzero(outcomes.done).tolist():
            if (crc := outcomes.crc_of(slot)) is not None:
                file.seek(slot * size)
                if zlib.crc32(file.read(size)) != crc:
                    outcomes.forget(slot)
