"""Rows of files that are fetched when they are wanted and removed again. Light, since workers take it with them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hf_finetune.data.sources.readers import SHARD_BITS, ParquetReader, ShardReader

if TYPE_CHECKING:
    from hf_finetune.data.sources.streamed.fetcher import Fetcher


@dataclass(frozen=True)
class StreamedReader:
    """Reads rows of Parquet files (by the `column` of their images) or of tar shards (None); the locator is `place`'s.

    `high_bit`: pixels of high-bit grey images by locator, some of each file, and `deep_colour`: whether any image is
    colour of 16 bits, so that nothing has to be fetched to know. In another process only those files can be read that
    lie there.
    """

    paths: tuple[str, ...]
    column: str | None
    high_bit: Mapping[int, int] = field(default_factory=dict)
    deep_colour: bool = False
    fetcher: Fetcher | None = field(default=None, repr=False, compare=False)
    _opened: dict[int, Any] = field(default_factory=dict, repr=False, compare=False)

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "high_bit": {}, "fetcher": None, "_opened": {}}

    def read(self, locator: str | int) -> bytes:
        """The row's bytes, its file fetched where it is not there. Raises OSError; DataError where it cannot be had."""
        number, own = placed(int(locator))
        if self.fetcher is None:
            return self._of(number).read(own)
        with self.fetcher.at_hand(number):
            return self._of(number).read(own)

    def in_turn(self, locators: Sequence[str | int]) -> Iterator[list[int]]:
        """Positions of `locators`, those of one file at a time, which is there until the next are asked for.

        Raises DataError where a file cannot be had.
        """
        if self.fetcher is None:
            yield list(range(len(locators)))
            return
        ordered = sorted(range(len(locators)), key=lambda position: locators[position])
        by_file = {
            number: list(positions)
            for number, positions in groupby(ordered, key=lambda position: placed(int(locators[position]))[0])
        }
        for number in self.fetcher.in_turn(list(by_file)):
            yield by_file[number]
            self._opened.clear()  # a mapped file would keep its room on the disk

    def _of(self, number: int) -> Any:
        if number not in self._opened:
            self._opened.clear()
            path = self.paths[number]
            if not Path(path).is_file():
                raise FileNotFoundError(2, "its file was removed once it was decoded", path)
            self._opened[number] = ShardReader((path,)) if self.column is None else ParquetReader((path,), self.column)
        return self._opened[number]


def place(number: int, own: int) -> int:
    """The locator of the row that the reader of file `number` alone knows as `own`."""
    return number << SHARD_BITS | own


def placed(locator: int) -> tuple[int, int]:
    """The file's number, and the row's own locator in it."""
    return locator >> SHARD_BITS, locator & ((1 << SHARD_BITS) - 1)
