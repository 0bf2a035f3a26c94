"""The training images nearest to a picture, by what the head reads of them.

Owns which of the run's own images are looked at, and passing them through the loaded model beside everything else.
Images are read where the run's data are on this machine; nothing is fetched, nothing is written.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hf_finetune.data.sources.naming import was_in_memory
from hf_finetune.data.store.decode import READ_ERRORS
from hf_finetune.data.store.store import evaluation_geometry
from hf_finetune.errors import DataError, FinetuneError, first_line
from hf_finetune.labels import label_text
from hf_finetune.recipe.recipe import load_recipe
from hf_finetune.report.page.thumbnails import thumbnail
from hf_finetune.result.classifier import Classifier
from hf_finetune.result.own_rows import own_rows
from hf_finetune.result.split_record import read_record
from hf_finetune.types import Index, Row, is_builtin

logger = logging.getLogger(__name__)
MOST = 2_000  # training images, evenly from all; their thumbnails take some megabytes
SHOWN = 6
_BATCH = 8  # a picture that is given meanwhile waits for no more than these


@dataclass(frozen=True)
class Neighbour:
    """A training image: its file's name, its label, and a small JPEG of what the model sees, as a data URI."""

    name: str
    label: str
    picture: str


class Nearest:
    """`model`: held while the model is at work, here and by whoever else uses it."""

    def __init__(self, classifier: Classifier, model: AbstractContextManager[object]) -> None:
        self._classifier, self._model = classifier, model
        self._ended = threading.Event()
        self._known: list[Neighbour] = []
        self._places = np.zeros((0, 0), np.float32)
        self._centre = np.zeros(0, np.float32)
        self.ready = False
        self.line = "Nearest training images: the run's images are being looked for."
        self._thread = threading.Thread(target=self._look, name="nearest", daemon=True)

    def start(self) -> None:
        """Begin, in a thread of its own."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread, after the images that are passing now."""
        self._ended.set()
        self._thread.join(timeout=10)

    @property
    def waiting(self) -> bool:
        """Whether the images may still come."""
        return not self.ready and self._thread.is_alive()

    def of(self, pixels: np.ndarray) -> list[Neighbour]:
        """The nearest to an image uint8 [3, H, W], the nearest first; none before they are ready."""
        if not self.ready:
            return []
        with self._model:
            features = self._classifier.features(pixels[None])[0]
        likeness = self._places @ _unit(features[None] - self._centre)[0]
        return [self._known[place] for place in np.argsort(-likeness, kind="stable")[:SHOWN]]

    def _look(self) -> None:
        try:
            self._pass(training_rows(self._classifier.path, self._classifier))
        except FinetuneError as error:
            self.line = f"Nearest training images are not shown: {_said(error)}"
        except Exception as error:
            self.line = f"Nearest training images are not shown: {type(error).__name__}: {error}"
            logger.exception("The training images could not be passed through the model.")

    def _pass(self, index: Index) -> None:
        rows = index.splits["train"]
        chosen = [rows[at] for at in np.unique(np.linspace(0, len(rows) - 1, min(MOST, len(rows))).astype(np.int64))]
        features: list[np.ndarray] = []
        known: list[Neighbour] = []
        self.line = f"Nearest training images: 0 of {len(chosen):,} have passed through the model."
        for number, (kept, pixels) in enumerate(self._drawn(index, chosen), 1):
            with self._model:
                features.append(self._classifier.features(pixels))
            known += [
                Neighbour(row.name, label_text(index.columns, row.label), thumbnail(each))
                for row, each in zip(kept, pixels, strict=True)
            ]
            done = min(number * _BATCH, len(chosen))
            self.line = f"Nearest training images: {done:,} of {len(chosen):,} have passed through the model."
            if self._ended.is_set():
                return
        if not known:
            raise DataError("none of the run's training images can be read any more.")
        every = np.concatenate(features)
        self._centre = every.mean(0)
        self._places, self._known = _unit(every - self._centre), known
        whole = "" if len(chosen) == len(rows) else f", of {len(chosen):,} drawn evenly from {len(rows):,}"
        gone = f"; {len(chosen) - len(known):,} could not be read" * (len(known) < len(chosen))
        self.line = f"Nearest training images, by what the model makes of them{whole}{gone}."
        self.ready = True

    def _drawn(self, index: Index, rows: list[Row]) -> Iterator[tuple[list[Row], np.ndarray]]:
        """Batches of rows that can be read, with their pixels uint8 [N, 3, H, W]."""
        manifest = self._classifier.manifest
        geometry = evaluation_geometry(manifest.preprocess, (str(self._classifier.path), None))
        for start in range(0, len(rows), _BATCH):
            kept, pixels = [], []
            for row in rows[start : start + _BATCH]:
                try:
                    pixels.append(geometry.draw(index.reader.read(row.locator), manifest.max_pixels).pixels)
                except READ_ERRORS:
                    continue
                kept.append(row)
            if kept:
                yield kept, np.stack(pixels)


def training_rows(folder: Path, classifier: Classifier) -> Index:
    """The rows that the result in `folder` was trained on, where they are on this machine. Raises FinetuneError."""
    recipe = load_recipe(folder / "recipe.yaml")
    record = read_record(folder.absolute().parent)
    was_here = classifier.manifest.data_is_local if record is None else record.place is not None
    if not (was_here or is_builtin(recipe.data.name) or was_in_memory(recipe.data.name)):
        raise DataError(f"they are {recipe.data.name} on the Hub, which this page does not ask.")
    # However few are left of them, those can be shown.
    data = recipe.data.model_copy(update={"max_bad_share": 1.0})
    found = own_rows(folder, data, classifier.manifest, "train", recipe.train.seed, moved=False)
    return found.index


def _said(error: FinetuneError) -> str:
    """In one line, without the key of a recipe that nobody wrote here."""
    return first_line(Exception(error.message)).removeprefix("data.name: ")


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), np.finfo(np.float32).tiny)
