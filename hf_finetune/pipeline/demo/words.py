"""What the page says of a picture, as HTML. Names of classes and files are escaped by the templates."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

import numpy as np

from hf_finetune.pipeline.demo.nearest import Neighbour
from hf_finetune.report.page.texts import printable
from hf_finetune.report.predicted.overlay import overlay
from hf_finetune.result.manifest import Manifest
from hf_finetune.tasks.predictions import (
    ClassPrediction,
    LabelsPrediction,
    Prediction,
    TargetsPrediction,
)

if TYPE_CHECKING:
    from jinja2 import Environment

MOST_BARS = 5
_MOST_NAMED = 12  # classes in the line below the title


@dataclass(frozen=True)
class Bar:
    """A label and its probability; `said`: it belongs to the answer."""

    name: str
    share: float
    said: bool


@dataclass(frozen=True)
class Part:
    """The answer, or one target's: a sentence as `predict` has it, and a bar for each of the likeliest labels."""

    title: str
    sentence: str
    bars: tuple[Bar, ...] = ()
    among: str = ""


def answer(prediction: Prediction) -> str:
    """What a model says of an image."""
    distance = "" if prediction.distance is None else f"{prediction.distance:.2f}"
    return _render("answer.html", parts=parts_of(prediction), prediction=prediction, distance=distance)


def problem(text: str) -> str:
    """Why there is no answer; the remedy is a line of its own."""
    return _render("problem.html", lines=[line.strip() for line in text.splitlines()])


def looked_at(pixels: np.ndarray, heat: np.ndarray) -> str:
    """A picture of a map float [H, W] beside the image uint8 [3, H, W] that it is of."""
    file = io.BytesIO()
    overlay(pixels, heat).save(file, "PNG")
    data = f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode('ascii')}"
    return _render("looked_at.html", picture=data)


def nearest(line: str, found: Sequence[Neighbour]) -> str:
    """Training images, below a line that says which they are, or why there are none."""
    return _render("nearest.html", line=line, found=found)


def heading(name: str, manifest: Manifest) -> str:
    """The title of the page, and what the model tells apart."""
    labels = manifest.labels
    more = f" … ({len(labels):,} in all)" if len(labels) > _MOST_NAMED else ""
    return _render("heading.html", name=name, labels=", ".join(labels[:_MOST_NAMED]) + more)


def parts_of(prediction: Prediction, title: str = "") -> tuple[Part, ...]:
    """One, or one for each target."""
    if isinstance(prediction, TargetsPrediction):
        return tuple(part for name, each in prediction.targets.items() for part in parts_of(each, name))
    if isinstance(prediction, ClassPrediction | LabelsPrediction):
        said = (prediction.label,) if isinstance(prediction, ClassPrediction) else prediction.labels
        ranked = prediction.as_json(max(MOST_BARS, len(said)))["predictions"]
        bars = tuple(Bar(each["label"], each["probability"], each["label"] in said) for each in ranked)
        return (Part(title, ", ".join(said) or "(no label)", bars, _among(prediction)),)
    return (Part(title, prediction.text()),)


def _among(prediction: ClassPrediction | LabelsPrediction) -> str:
    """A sentence on the set that holds the right class of nine images in ten."""
    if not isinstance(prediction, ClassPrediction) or not prediction.among or len(prediction.among) < 2:
        return ""
    named = list(prediction.among[:_MOST_NAMED])
    more = f" or another of {len(prediction.among):,}" if len(prediction.among) > len(named) else ""
    return f"It is not sure: {', '.join(named[:-1])} or {named[-1]}{more}."


def _render(template: str, **values: object) -> str:
    return _environment().get_template(template).render(**values)


@cache
def _environment() -> Environment:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    return Environment(
        loader=PackageLoader("hf_finetune.pipeline.demo"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=lambda value: printable(value) if type(value) is str else value,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def style() -> str:
    """The page's own rules, in the colours of Gradio's theme."""
    return _environment().get_template("style.css").render()
