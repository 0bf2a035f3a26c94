"""What a result folder says of itself: base model, labels, preprocessing, quantization. Light; read before any weights.

`hf_finetune.json` lies beside the weights. Stock libraries do not need it; `hf_finetune.load` does.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from hf_finetune.adapters import KINDS
from hf_finetune.errors import AdapterError, first_line
from hf_finetune.files.bounded import read_json
from hf_finetune.files.stated import as_stated, check_finite, check_within
from hf_finetune.labels import Labels
from hf_finetune.preprocess.stated import STEPS, check_preprocess, step_as_stated
from hf_finetune.tasks import Target, restore
from hf_finetune.types import PixelStep, Preprocess, Split, is_builtin

FILE = "hf_finetune.json"
FORMAT = 1
MOST_LABELS, LONGEST_LABEL = 1_000_000, 1_000
QUANTIZATIONS = ("none", "int8", "nf4")
COLDEST = 1 / 16  # temperature; calibration chooses among 1/4 to 4
MOST_STEPS = 8
MOST_PIXELS = 2**31  # of an image before it is drawn


@dataclass(frozen=True)
class Manifest:
    """`base` is a Hub id, a local folder, or `builtin:…`; a builtin base lies in `base/` beside this file.

    `dtype` is the frozen weights' type in training; `fingerprint` a hash of the base's weights; `head` the names of the
    modules that are trained in full; `unquantized` expressions for further layers that quantization left as they
    are. `data_revision` is the index's (None: a result from before 2026-11-28), and `data_is_local` says whether
    the images were a folder or file of that machine. `stream`: where frozen weights stayed in training (off, host,
    disk). Images of more than `max_pixels` are refused, as in training. `fitted_on`: the splits whose labels the
    weights know; with validation among them, its figures in training are of heads that did not.
    """

    base: str
    revision: str | None
    fingerprint: str
    adapter: Mapping[str, Any]
    quantization: str
    dtype: str
    head: tuple[str, ...]
    labels: tuple[str, ...]
    preprocess: Preprocess
    data_revision: str | None = None
    data_is_local: bool = False
    max_pixels: int = 50_000_000
    unquantized: tuple[str, ...] = ()
    stream: str = "off"
    task: Mapping[str, Any] = field(default_factory=lambda: {"kind": "classification"})  # as `Target.settings` has it
    fitted_on: tuple[Split, ...] = ("train",)

    @property
    def target(self) -> Target:
        """What the model answers."""
        return restore(self.task, Labels(self.labels))

    @property
    def whole(self) -> bool:
        """True where the folder holds a whole model and not an adapter."""
        known = KINDS.get(self.adapter["kind"])  # a later version may know more
        return known is not None and known.whole

    @property
    def brings_base(self) -> bool:
        """True where the base comes with this package, and so lies in the folder, too."""
        return is_builtin(self.base)


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write the file into a result folder."""
    content = {"format": FORMAT, **asdict(manifest), "head": list(manifest.head), "labels": list(manifest.labels)}
    content["preprocess"]["steps"] = _steps_as_dicts(manifest.preprocess.steps)
    (folder / FILE).write_text(json.dumps(content, indent=1, ensure_ascii=False), encoding="utf-8")


def read_manifest(folder: Path) -> Manifest:
    """Read it back. Raises AdapterError where the folder holds none or one of another format."""
    path = folder / FILE
    try:
        content = read_json(path)
        if not isinstance(content, dict):
            raise ValueError(f"an object is expected, found a {type(content).__name__}")
    except FileNotFoundError:
        raise AdapterError(
            f"{folder} holds no {FILE}: an adapter saved by hf-finetune is expected.",
            "Give the run folder, or its adapter/ (or model/) folder.",
        ) from None
    except (OSError, ValueError) as error:
        raise AdapterError(f"{path} cannot be read: {error}.", "Copy the folder again.") from None
    if content.pop("format", None) != FORMAT:
        raise AdapterError(f"{path} has a format this version does not know; {FORMAT} is expected.", "Upgrade.")
    try:
        manifest = _as_stated(content)
    except (TypeError, LookupError, ValueError, AttributeError) as error:
        raise AdapterError(f"{path} is incomplete or damaged: {error}.", "Copy the folder again.") from None
    try:
        target = manifest.target
    except (TypeError, LookupError, ValueError, AttributeError):
        kind = manifest.task.get("kind")
        raise AdapterError(f"{path} has a task that this version does not know, {kind}.", "Upgrade.") from None
    try:
        check_answers(target, len(manifest.labels))
    except (TypeError, LookupError, ValueError, AttributeError, ArithmeticError) as error:
        raise AdapterError(
            f"{path} has a task by which nothing can be answered: {first_line(error)}.", "Copy the folder again."
        ) from None
    return manifest


def check_answers(target: Target, outputs: int) -> None:
    """Answer made-up logits, and raise what that raises, or ValueError where the answer is no number, by what a file
    says of temperature, thresholds, scales."""
    logits = np.linspace(-2.0, 2.0, outputs, dtype=np.float32)[None]
    temperature = getattr(target, "temperature", 1.0)
    if not COLDEST <= temperature <= 1 / COLDEST:
        raise ValueError(f"temperature: {COLDEST:g} to {1 / COLDEST:g} is expected, found {temperature}")
    with np.errstate(all="raise", under="ignore"):
        (said,) = target.predictions(logits)
        check_finite(said.as_json(outputs), "an answer")


def _as_stated(content: dict[str, Any]) -> Manifest:
    """Raises ValueError, LookupError or TypeError for what no result can be."""
    check_finite(content, FILE)
    preprocess = dict(content["preprocess"])
    steps = preprocess["steps"]
    preprocess["steps"] = None if steps is None else tuple(step_as_stated(step) for step in steps)
    content = {
        "unquantized": [],  # before 2026-11-28
        "fitted_on": ["train"],  # before 2026-11-29
        **content,
        "preprocess": as_stated(Preprocess, preprocess),
    }
    manifest = as_stated(Manifest, content)
    check_preprocess(manifest.preprocess)
    check_within("the number of labels", (len(manifest.labels),), 1, MOST_LABELS)
    check_within("a label's length", tuple(map(len, manifest.labels)), 0, LONGEST_LABEL)
    check_within("the number of steps", (len(manifest.preprocess.steps or ()),), 0, MOST_STEPS)
    if not isinstance(manifest.adapter.get("kind"), str):
        raise ValueError("adapter: a kind is expected")
    if not (manifest.base and manifest.head and all(manifest.head)):
        raise ValueError("base and head: names are expected")
    if manifest.quantization not in QUANTIZATIONS:
        raise ValueError(f"quantization: one of {', '.join(QUANTIZATIONS)} is expected")
    if len(set(manifest.labels)) < len(manifest.labels):
        raise ValueError("labels: different names are expected")
    check_within("max_pixels", (manifest.max_pixels,), 1, MOST_PIXELS)
    return manifest


def _steps_as_dicts(steps: tuple[PixelStep, ...] | None) -> list[dict[str, Any]] | None:
    names = {cls: name for name, cls in STEPS.items()}
    return None if steps is None else [{"step": names[type(step)], **asdict(step)} for step in steps]
