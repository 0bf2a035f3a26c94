"""What the examination looks at: every readable row of every split, by one number each."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from PIL import Image

from hf_finetune.data.sources.streamed.reader import StreamedReader
from hf_finetune.data.store.decode import READ_ERRORS
from hf_finetune.data.store.views import Squash
from hf_finetune.doctor.copies import FINE_SIDE
from hf_finetune.errors import DataError, reason_of
from hf_finetune.labels import Answers, label_text
from hf_finetune.tasks import Target
from hf_finetune.types import SPLITS, Index, PixelRows, Preprocess, Row, Split


@dataclass(frozen=True)
class Everything:
    """`rows`: as decoded, by split; `features` float32 [n, d] of each; `answers`: of each split, by a head that was
    fitted on train without the row itself; `preprocess` and `max_pixels`: how images were decoded. Rows are numbered
    over train, validation and test."""

    index: Index
    target: Target
    rows: Mapping[Split, PixelRows]
    features: Mapping[Split, np.ndarray]
    answers: Mapping[Split, Answers]
    preprocess: Preprocess
    max_pixels: int

    @cached_property
    def splits(self) -> tuple[Split, ...]:
        """Those that have rows, in order."""
        return tuple(split for split in SPLITS if len(self.rows.get(split, ())))

    @cached_property
    def split_of(self) -> list[Split]:
        """[N]."""
        return [split for split in self.splits for _ in range(len(self.rows[split]))]

    @cached_property
    def names(self) -> list[str]:
        """[N]: what each row is found by."""
        return [name for split in self.splits for name in self.rows[split].names]

    @cached_property
    def labels(self) -> np.ndarray:
        """[N, …]."""
        return np.concatenate([np.asarray(self.rows[split].labels) for split in self.splits])

    @cached_property
    def sizes(self) -> np.ndarray:
        """int32 [N, 2]: width and height."""
        return np.concatenate([self.rows[split].sizes for split in self.splits])

    @cached_property
    def given(self) -> list[str]:
        """[N]: each label as text."""
        return [label_text(self.index.columns, label) for label in self.labels]

    @cached_property
    def source_rows(self) -> list[Row]:
        """[N]: the rows of the index."""
        by_name = {(split, row.name): row for split in self.splits for row in self.index.splits[split]}
        return [by_name[split, name] for split, name in zip(self.split_of, self.names, strict=True)]

    @property
    def classes(self) -> np.ndarray | None:
        """int64 [N] of the one class or grade of each row; None for other labels."""
        kinds = [column.kind for column in self.index.columns]
        return self.labels.astype(np.int64) if kinds in (["classes"], ["grades"]) and self.labels.ndim == 1 else None

    def start_of(self, split: Split) -> int:
        """The number of its first row."""
        before = self.splits[: self.splits.index(split)]
        return sum(len(self.rows[each]) for each in before)

    def gather(self, rows: np.ndarray) -> np.ndarray:
        """uint8 [n, 3, H, W] of rows by number, in the order asked for."""
        found: np.ndarray | None = None
        for split in self.splits:
            start = self.start_of(split)
            here = np.flatnonzero((rows >= start) & (rows < start + len(self.rows[split])))
            if len(here):
                pixels = self.rows[split].gather(rows[here] - start)
                found = np.empty((len(rows), *pixels.shape[1:]), np.uint8) if found is None else found
                found[here] = pixels
        if found is None:
            raise ValueError("at least one row is expected")
        return found

    def sharp(self, rows: np.ndarray) -> np.ndarray:
        """The same of pictures that are large enough to compare; where the model sees smaller ones, decoded anew.

        Raises DataError for what cannot be read any more.
        """
        pixels = self.gather(rows)
        if min(pixels.shape[2:]) >= FINE_SIDE:
            return pixels
        geometry = Squash(FINE_SIDE, Image.Resampling.BICUBIC, self.preprocess.value_range)
        return np.stack([geometry.draw(self.file(row), self.max_pixels).pixels for row in rows.tolist()])

    @cached_property
    def streamed(self) -> bool:
        """Whether the files were removed once they were decoded, and would have to be fetched again."""
        return isinstance(self.index.reader, StreamedReader)

    @property
    def has_sharp(self) -> bool:
        """Whether pictures that are large enough to compare can be had without fetching files."""
        return not self.streamed or min(self.preprocess.height, self.preprocess.width) >= FINE_SIDE

    def content(self, row: int) -> Hashable:
        """Equal for rows of equal files: their bytes, or what the index knows. Raises DataError as `file` does."""
        if not self.streamed:
            return self.file(row)
        unit = self.source_rows[row].unit
        return (unit, 0) if unit >= 0 else (-1, row)

    def file(self, row: int) -> bytes:
        """A row's encoded image. Raises DataError where it cannot be read any more."""
        try:
            return self.index.reader.read(self.source_rows[row].locator)
        except READ_ERRORS as error:
            raise DataError(
                f"{self.names[row]} was there when images were decoded, and cannot be read now: {reason_of(error)}.",
                "Run it again, once the data stay as they are; what is decoded is kept.",
            ) from error
