"""What a result folder says of itself: base model, labels, preprocessing, quantization. Light; read before any weights.

`hf_finetune.json` lies beside the weights. Stock libraries do not need it; `hf_finetune.load` does.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from hf_finetune.adapters import KINDS
from hf_finetune.errors import AdapterError
from hf_finetune.labels import Labels
from hf_finetune.tasks import Target, restore
from hf_finetune.types import CenterCrop, PixelStep, Preprocess, Resize, ResizeShortest, Split, is_builtin

FILE = "hf_finetune.json"
FORMAT = 1
_STEPS = {"resize": Resize, "resize_shortest": ResizeShortest, "center_crop": CenterCrop}


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
        content = json.loads(path.read_text(encoding="utf-8"))
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
        preprocess = content.pop("preprocess")
        steps, value_range = preprocess.pop("steps"), preprocess.pop("value_range", None)
        restored = Preprocess(
            steps=None if steps is None else tuple(_step(step) for step in steps),
            mean=tuple(preprocess.pop("mean")),
            std=tuple(preprocess.pop("std")),
            value_range=None if value_range is None else (float(value_range[0]), float(value_range[1])),
            **preprocess,
        )
        content.setdefault("unquantized", [])  # before 2026-11-28
        content.setdefault("fitted_on", ["train"])  # before 2026-11-29
        tuples = {key: tuple(content[key]) for key in ("head", "labels", "unquantized", "fitted_on")}
        manifest = Manifest(**{**content, **tuples, "preprocess": restored})
    except (TypeError, KeyError, IndexError, ValueError) as error:
        raise AdapterError(f"{path} is incomplete: {error}.", "Copy the folder again.") from None
    try:
        _ = manifest.target
    except (KeyError, TypeError):
        kind = manifest.task.get("kind")
        raise AdapterError(f"{path} has a task that this version does not know, {kind}.", "Upgrade.") from None
    return manifest


def _steps_as_dicts(steps: tuple[PixelStep, ...] | None) -> list[dict[str, Any]] | None:
    names = {cls: name for name, cls in _STEPS.items()}
    return None if steps is None else [{"step": names[type(step)], **asdict(step)} for step in steps]


def _step(content: dict[str, Any]) -> PixelStep:
    fields = dict(content)
    return _STEPS[fields.pop("step")](**fields)
