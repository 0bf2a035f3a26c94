"""The gate before a push: a staged folder must answer as the trained model did, and as stock libraries let it.

Two comparisons on the rows that the run kept (`held.npz`): the folder as this package loads it against the logits that
the run recorded, and against a fresh process that runs the card's own lines with only transformers and peft.
"""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from hf_finetune.errors import AdapterError
from hf_finetune.held import Held
from hf_finetune.manifest import Manifest
from hf_finetune.report.snippet import PLACE

if TYPE_CHECKING:
    from torch import nn

logger = logging.getLogger(__name__)
# The share of the logits' range by which they may differ: with the same kernels, or with others (another kind of
# device; bitsandbytes' 4-bit weights, which stock code repacks for a bfloat16 kernel on CPUs with AVX512-BF16 and this
# package keeps as they were trained).
SAME_KERNELS, OTHER_KERNELS = 1e-3, 5e-2
_CHILD = """
import json, sys
import numpy as np
import torch

lines, given, answer = sys.argv[1:]
scope = {}
exec(compile(open(lines, encoding="utf-8").read(), lines, "exec"), scope)
model = scope["model"]
place = next(model.parameters()).device
with torch.inference_mode():
    logits = model(pixel_values=torch.from_numpy(np.load(given)).to(place)).logits.float().cpu().numpy()
assert not any(name.partition(".")[0] == "hf_finetune" for name in sys.modules), "stock libraries only"
names = [model.config.id2label[number] for number in range(logits.shape[1])]
np.savez(answer, logits=logits, names=np.array(json.dumps(names)))
"""


def pass_gate(staged: Path, manifest: Manifest, held: Held, snippet: str, *, merged: bool = False) -> None:
    """Raise AdapterError where the folder does not load, or answers otherwise; `snippet` is the card's, for a folder.

    `merged`: the folder is a whole model whose weights were merged since the run recorded its logits.
    """
    import torch

    from hf_finetune.inference import Normaliser
    from hf_finetune.loading import load_result, torch_dtype
    from hf_finetune.machine import training_device

    pixels = Normaliser(manifest.preprocess)({"pixel_values": torch.from_numpy(held.pixels)}).numpy()
    best = training_device()
    # Quantized layers go where bitsandbytes puts them: the accelerator, where there is one.
    place = best if manifest.quantization != "none" else "cpu"
    ours = None
    if not merged:
        recorded_on = held.device if held.device == best else "cpu"
        found = _answer(load_result(staged, manifest, torch_dtype(manifest.dtype), recorded_on), pixels)
        tolerance = SAME_KERNELS if recorded_on == held.device else OTHER_KERNELS
        _compare(found, held.logits, tolerance, "answers differently from the trained model")
        if manifest.dtype == "fp32" and recorded_on == place:
            ours = found
    if ours is None:
        ours = _answer(load_result(staged, manifest, torch.float32, place), pixels)
    theirs, names = stock_answer(snippet, staged, pixels)
    if names != list(manifest.labels):
        raise AdapterError(
            f"{staged.name}: stock libraries read other label names than were trained: {_different(names, manifest)}.",
            "This is a bug: please report it.",
        )
    tolerance = OTHER_KERNELS if manifest.quantization == "nf4" else SAME_KERNELS
    difference = _compare(theirs, ours, tolerance, "answers differently in stock transformers and peft")
    logger.info("Reloaded by stock libraries in a fresh process: logits differ by at most %.2g.", difference)


def _answer(model: nn.Module, pixels: np.ndarray) -> np.ndarray:
    import torch

    place = next(model.parameters()).device
    with torch.inference_mode():
        return model.eval()(pixel_values=torch.from_numpy(pixels).to(place)).logits.float().cpu().numpy()


def stock_answer(snippet: str, staged: Path, pixels: np.ndarray) -> tuple[np.ndarray, list[str]]:
    """Logits [N, C] and label names from a new process that knows stock libraries only."""
    import json

    lines = snippet.replace(f'"{PLACE}"', json.dumps(str(staged.absolute())))
    lines = lines.replace(f'"{PLACE.replace("ADAPTER", "MODEL")}"', json.dumps(str(staged.absolute())))
    with tempfile.TemporaryDirectory(prefix="hf_finetune_") as scratch:
        place = Path(scratch)
        (place / "card.py").write_text(lines, encoding="utf-8")
        np.save(place / "given.npy", pixels)
        process = subprocess.run(
            [sys.executable, "-c", _CHILD, place / "card.py", place / "given.npy", place / "answer.npz"],
            cwd=place,
            env={**os.environ, "HF_HUB_DISABLE_PROGRESS_BARS": "1"},
            capture_output=True,
            text=True,
            encoding="utf-8",
            errors="replace",
        )
        if process.returncode != 0:
            why = (process.stderr.strip().splitlines() or ["it said nothing"])[-1]
            raise AdapterError(
                f"{staged.name}: the card's own lines fail in a process with stock transformers and peft: {why}",
                "Check that this machine can fetch the base model; otherwise this is a bug: please report it.",
            )
        with np.load(place / "answer.npz") as content:
            return content["logits"], json.loads(str(content["names"]))


def _compare(found: np.ndarray, expected: np.ndarray, tolerance: float, what: str) -> float:
    if found.shape != expected.shape:
        raise AdapterError(
            f"The staged result {what}: {found.shape[1]} logits, {expected.shape[1]} expected.",
            "Nothing was pushed; the run folder is as it was. This is a bug: please report it.",
        )
    difference = float(np.abs(found - expected).max())
    allowed = tolerance * max(1.0, float(np.abs(expected).max()))
    if not difference <= allowed:  # NaN is caught too
        raise AdapterError(
            f"The staged result {what}: logits differ by {difference:.3g}, {allowed:.3g} allowed.",
            "Nothing was pushed; the run folder is as it was. If its base model is the right one, this is a bug.",
        )
    return difference


def _different(names: list[str], manifest: Manifest) -> str:
    pairs = [(ours, theirs) for ours, theirs in zip(manifest.labels, names, strict=False) if ours != theirs]
    return f"{pairs[0][1]!r} for {pairs[0][0]!r}" if pairs else f"{len(names)} for {len(manifest.labels)}"
