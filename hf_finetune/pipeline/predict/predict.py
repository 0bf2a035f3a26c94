"""Predicting any number of images: what is asked is checked, then batches are answered, written, copied and explained.

Does not own reading and answering (`result/predict/stream.py`) nor the forms of answers (`report/predicted/`).
"""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

import numpy as np

from hf_finetune.data.sources.given import AllGiven, config_of
from hf_finetune.errors import DataError, FinetuneError
from hf_finetune.files.visible import one_line, visible
from hf_finetune.pipeline.predict.explain import Explainer
from hf_finetune.pipeline.predict.said import Said
from hf_finetune.pipeline.predict.sort import Sorter
from hf_finetune.preprocess.pixels import quiet_pillow
from hf_finetune.report.predicted.columns import columns_of
from hf_finetune.report.predicted.output import Output, format_of, kinds_of
from hf_finetune.report.progress import Progress, aside
from hf_finetune.result.classifier import Classifier, load
from hf_finetune.result.load import find_result
from hf_finetune.result.manifest import Manifest, read_manifest
from hf_finetune.result.predict.stream import BATCH, Answered, Counts, Stream
from hf_finetune.tasks.predictions import ClassPrediction, Prediction
from hf_finetune.units import format_seconds

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Asked:
    """`images`: what `AllGiven` takes; `overrides`: of `data`, how tables are read. `format`: one of
    `output.FORMATS`, None: by `out`'s suffix. `sort_into`, `explain`: folders, which are made. `shown_on`: what stands
    for the standard output."""

    result: str
    images: Sequence[str]
    overrides: Sequence[str] = ()
    revision: str | None = None
    base: str | None = None
    max_pixels: int | None = None
    top: int = 1
    format: str | None = None
    out: Path | None = None
    overwrite: bool = False
    batch: int = BATCH
    mirrored: bool = False
    sort_into: Path | None = None
    sort_unlike: bool = False
    explain: Path | None = None
    shown_on: TextIO | None = None


def predict(asked: Asked) -> Counts:
    """Answer every image; how many were, and how many could not be read.

    Raises FinetuneError where nothing can be answered or an answer cannot be written, KeyboardInterrupt with where the
    answers so far are.
    """
    if asked.batch < 1:
        raise DataError(f"--batch: a number from 1 up is expected, found {asked.batch}.", f"The default is {BATCH}.")
    format_name = format_of(asked.format, asked.out)
    images = AllGiven(asked.images, config_of(asked.overrides))
    folder = find_result(asked.result, asked.revision)
    manifest = read_manifest(folder)
    example = _example(manifest)
    sorter = _sorter(asked, example)
    for place in filter(None, (asked.sort_into, asked.explain)):
        _check_apart(place, images.folders)
    columns = columns_of(tuple(example.as_row(asked.top)), explained=asked.explain is not None)
    kinds = kinds_of(columns, example.as_row(asked.top))
    opened = Output(format_name, kinds, asked.out, overwrite=asked.overwrite, shown_on=asked.shown_on)
    with opened as output, _saying_what_is_kept(output):
        classifier = load(folder, base=asked.base, max_pixels=asked.max_pixels)
        _merge(classifier)
        fetches = sorter is not None
        stream = Stream(classifier, asked.batch, asked.mirrored, asked.explain is not None, fetches)
        explainer = None if asked.explain is None else Explainer(asked.explain, classifier)
        _answer(asked, images, stream, output, sorter, explainer)
    return stream.counts


def _answer(
    asked: Asked,
    images: AllGiven,
    stream: Stream,
    output: Output,
    sorter: Sorter | None,
    explainer: Explainer | None,
) -> None:
    started = time.perf_counter()
    progress = Progress("Predicting", "image", images.total or 0, shown=sys.stderr.isatty(), says_end=False)
    with progress, quiet_pillow():
        for batch in stream.run(images, waits=images.total is not None):
            pictures = explainer.draw(batch) if explainer is not None else [None] * len(batch)
            for answered, picture in zip(batch, pictures, strict=True):
                _say_problems(answered)
                output.write(Said(answered, asked.top, picture))  # before a copy that a full disk may not take
                if sorter is not None and isinstance(answered.prediction, ClassPrediction):
                    sorter.copy(answered, answered.prediction.label, unlike=answered.prediction.unlike)
            progress.update(len(batch))
            seconds = time.perf_counter() - started
            progress.show(speed=f"{(stream.counts.answered + stream.counts.failed) / seconds:.0f}/s")
    logger.info("%s", ending(stream.counts, time.perf_counter() - started))


def ending(counts: Counts, seconds: float) -> str:
    """How many were answered and how fast; loading the model is not counted."""
    whole = counts.answered + counts.failed
    done = f"{counts.answered:,} of {whole:,} image{'s' * (whole != 1)} answered in {format_seconds(seconds)}"
    if counts.answered:
        done += f": {whole / max(seconds, 1e-9):.3g} images/s"
        done += f", the model {1000 * counts.forward_s / counts.answered:.3g} ms an image"
    return f"{done}; {counts.failed:,} not" if counts.failed else done


def _say_problems(answered: Answered) -> None:
    """On standard error: an image that was not answered, and values that were clipped."""
    name = one_line(answered.given.name)
    said = []
    if answered.prediction is None:
        said.append("\n".join(one_line(line) for line in answered.problem.split("\n  ")).replace("\n", "\n  "))
    elif answered.prediction.clipped:
        beyond = f"{answered.prediction.clipped:,} of its values lie beyond the range that the run was trained with"
        said.append(f"{name}: {beyond}, and were clipped")
    for each in said:
        with aside():
            sys.stderr.write(f"hf-finetune: {visible(str(each))}\n")


def _merge(classifier: Classifier) -> None:
    """Add the adapter into the weights that it adapts, in place: an image then passes through one product a layer and
    not three (a fifth off ViT-Tiny's forward pass). Quantized and streamed weights stay as they are."""
    from peft import PeftModel

    manifest = classifier.manifest
    if isinstance(classifier.model, PeftModel) and manifest.quantization == "none" and manifest.stream == "off":
        classifier.model.merge_adapter()


def _example(manifest: Manifest) -> Prediction:
    """An answer, from which the columns of all can be told."""
    (example,) = manifest.target.predictions(np.zeros((1, len(manifest.labels)), np.float32))
    return example


def _sorter(asked: Asked, example: Prediction) -> Sorter | None:
    if asked.sort_into is None:
        if asked.sort_unlike:
            raise DataError("--sort-unlike: a folder to sort into is expected.", "Give --sort-into FOLDER.")
        return None
    if not isinstance(example, ClassPrediction):
        raise DataError(
            f"--sort-into: a result that says one class of each image is expected, found {asked.result}, which says "
            f"{', '.join(list(example.as_row())[:5])}.",
            "Write a table with --out answers.csv, and sort by its columns.",
        )
    return Sorter(asked.sort_into, example.names, unlike_apart=asked.sort_unlike)


def _check_apart(place: Path, folders: Sequence[Path]) -> None:
    """Copies below a folder that is read would be answered too, when the command is given again."""
    for folder in folders:
        if place.resolve().is_relative_to(folder.resolve()):
            raise DataError(
                f"{place} lies in {folder}, which is read: the next time its files would be taken for more images.",
                "Give a folder beside it.",
            )


@contextmanager
def _saying_what_is_kept(output: Output) -> Iterator[None]:
    """An interruption or an error says where the answers so far are."""
    try:
        yield
    except KeyboardInterrupt as interruption:
        kept = f"interrupted; {output.kept}" if output.kept else str(interruption)
        raise KeyboardInterrupt(kept) from None
    except FinetuneError as error:
        if not output.kept or output.kept in error.hint:
            raise
        raise type(error)(error.message, "\n  ".join(filter(None, (error.hint, f"{output.kept}.")))) from error
