"""Answers to any number of images in batches: files are read and decoded in threads beside the forward pass.

A window of images is in the making, never all of them, and answers come in the order of the images. Does not own where
the images come from (`data/sources/given.py`), nor what becomes of the answers. Imports torch only to run.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np

from hf_finetune.data.sources.given import Given
from hf_finetune.data.sources.regular import read_regular
from hf_finetune.data.store.decode import READ_ERRORS, reason_of
from hf_finetune.data.store.store import evaluation_geometry
from hf_finetune.data.store.views import Drawn
from hf_finetune.errors import MachineError
from hf_finetune.machine.detect import usable_cores
from hf_finetune.network.images import FetchError, fetch_image, is_address
from hf_finetune.preprocess.pixels import UnreadableImage
from hf_finetune.result.classifier import Classifier, remedy
from hf_finetune.tasks.predictions import Prediction

BATCH = 32
# Images that are in the making at once, in batches: one passes forward, one waits, one is decoded.
AHEAD = 3
# Threads that wait for files and servers; as many decode at once as there are cores.
READERS = 8


@dataclass(frozen=True)
class Answered:
    """What became of one image: its prediction, or why there is none. `pixels` uint8 [3, H, W] as the model saw it and
    `fetched`, the bytes from its address, are kept where the stream was asked to. `problem` is a sentence."""

    given: Given
    prediction: Prediction | None = None
    error: str = ""
    problem: str = ""
    pixels: np.ndarray | None = field(default=None, repr=False)
    fetched: bytes | None = field(default=None, repr=False)


@dataclass
class Counts:
    """So far: images answered and not, and seconds of forward passes."""

    answered: int = 0
    failed: int = 0
    forward_s: float = 0.0


@dataclass(frozen=True)
class Stream:
    """`mirrored`: as `Classifier.answer` has it. `keep_pixels`, `keep_fetched`: see `Answered`."""

    classifier: Classifier
    batch: int = BATCH
    mirrored: bool = False
    keep_pixels: bool = False
    keep_fetched: bool = False
    counts: Counts = field(default_factory=Counts)

    def run(self, images: Iterable[Given], *, waits: bool = True) -> Iterator[list[Answered]]:
        """An answer for each image in order, a batch at a time. `waits`: batches are always full; else what has come so
        far is answered while the next image is waited for (names from standard input)."""
        read = self._reader()
        made: queue.Queue[Future[_Read] | BaseException | None] = queue.Queue(AHEAD * self.batch)
        stopped = threading.Event()
        with ThreadPoolExecutor(READERS, thread_name_prefix="image") as pool:
            feeder = threading.Thread(target=_feed, args=(pool, read, images, made, stopped), daemon=True)
            feeder.start()
            try:
                while batch := _take(made, self.batch, waits):
                    yield self._answer(batch)
            finally:
                stopped.set()
                pool.shutdown(wait=False, cancel_futures=True)

    def _reader(self) -> Callable[[Given], _Read]:
        manifest = self.classifier.manifest
        geometry = evaluation_geometry(manifest.preprocess, (str(self.classifier.path), None))
        decoding = threading.BoundedSemaphore(usable_cores() if geometry.in_workers else 1)

        def read(given: Given) -> _Read:
            if given.error:
                return _Read(given, error=given.error, problem=f"{given.name}: {given.error}.")
            try:
                fetched = fetch_image(given.locator) if is_address(given.locator) else None
                data = read_regular(given.locator) if fetched is None else fetched
                with decoding:
                    drawn = geometry.draw(data, manifest.max_pixels)
            except UnreadableImage as error:
                said = f"{given.name} cannot be read as an image: {error}."
                return _Read(given, error=str(error), problem="\n  ".join(filter(None, (said, remedy(error)))))
            except FetchError as error:
                return _Read(given, error=str(error), problem=f"{given.name} cannot be read: {error}.")
            except READ_ERRORS as error:
                return _Read(given, error=reason_of(error), problem=f"{given.name} cannot be read: {reason_of(error)}.")
            return _Read(given, drawn, fetched if self.keep_fetched else None)

        return read

    def _answer(self, batch: list[_Read]) -> list[Answered]:
        drawn = [each.drawn for each in batch if each.drawn is not None]
        said = iter(self._forward(np.stack([each.pixels for each in drawn])) if drawn else ())
        found: list[Answered] = []
        for each in batch:
            if each.drawn is None:
                found.append(Answered(each.given, error=each.error, problem=each.problem))
                continue
            prediction = replace(next(said), clipped=each.drawn.clipped)
            pixels = each.drawn.pixels if self.keep_pixels else None
            found.append(Answered(each.given, prediction, pixels=pixels, fetched=each.fetched))
        self.counts.answered += len(drawn)
        self.counts.failed += len(batch) - len(drawn)
        return found

    def _forward(self, pixels: np.ndarray) -> list[Prediction]:
        """A lack of memory halves the batch and goes on. Raises MachineError where one image does not fit."""
        from hf_finetune.training.pieces import fitting

        started = time.perf_counter()
        size = len(pixels)
        while True:
            pieces = [pixels[start : start + size] for start in range(0, len(pixels), size)]
            if (found := fitting(partial(self._by_model, pieces))) is not None:
                self.counts.forward_s += time.perf_counter() - started
                return found
            if size == 1:
                raise MachineError("Out of memory predicting one image at a time.", "Close other programs.")
            size //= 2

    def _by_model(self, pieces: list[np.ndarray]) -> list[Prediction]:
        return [each for piece in pieces for each in self.classifier.answer(piece, mirrored=self.mirrored)]


@dataclass(frozen=True)
class _Read:
    given: Given
    drawn: Drawn | None = None
    fetched: bytes | None = None
    error: str = ""
    problem: str = ""


_Made = queue.Queue[Future[_Read] | BaseException | None]


def _feed(
    pool: ThreadPoolExecutor,
    read: Callable[[Given], _Read],
    images: Iterable[Given],
    made: _Made,
    stopped: threading.Event,
) -> None:
    """Hand out the images, as far ahead as the queue is long; at the end None, or what ended them."""

    def put(entry: Future[_Read] | BaseException | None) -> bool:
        while not stopped.is_set():
            try:
                made.put(entry, timeout=0.2)
            except queue.Full:
                continue
            return True
        return False

    try:
        for image in images:
            if stopped.is_set() or not put(pool.submit(read, image)):
                return
    except Exception as error:  # noqa: BLE001 - it is raised where the answers are read
        put(error)
    else:
        put(None)


def _take(made: _Made, most: int, waits: bool) -> list[_Read]:
    """The next images in order, decoded; none at the end."""
    found: list[_Read] = []
    while len(found) < most:
        try:
            entry = made.get() if waits or not found else made.get_nowait()
        except queue.Empty:
            break
        if isinstance(entry, BaseException) and not found:
            raise entry
        if entry is None or isinstance(entry, BaseException):
            made.put(entry)  # for the next call; nothing else puts any more
            break
        found.append(entry.result())
    return found
