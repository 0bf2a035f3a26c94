"""The gate before a push: a staged folder must answer as the trained model did, and as stock libraries let it.

Two comparisons on the rows that the run kept (`held.npz`): the folder as this package loads it against the logits that
the run recorded, and against a fresh process that runs the card's own lines with only transformers and peft. Owns that
process, which answers for a merged model too; not the comparison of logits (`compare.py`).
"""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from hf_finetune.errors import AdapterError
from hf_finetune.machine.rounding import OTHER_KERNELS, SAME_KERNELS
from hf_finetune.report.snippet import PLACE
from hf_finetune.result.compare import compare
from hf_finetune.result.held_rows import Held
from hf_finetune.result.manifest import Manifest

logger = logging.getLogger(__name__)
_NOTHING_PUSHED = "Nothing was pushed; the run folder is as it was. If its base model is the right one, this is a bug."
_CHILD = """
import json, sys
import numpy as np
import torch

lines, given, answer, batch = sys.argv[1:]
scope = {}
exec(compile(open(lines, encoding="utf-8").read(), lines, "exec"), scope)
model = scope["model"]
place = next(model.parameters()).device
with torch.inference_mode():
    pieces = torch.from_numpy(np.load(given)).to(place).split(int(batch))
    logits = torch.cat([model(pixel_values=piece).logits.float().cpu() for piece in pieces]).numpy()
assert not any(name.partition(".")[0] == "hf_finetune" for name in sys.modules), "stock libraries only"
names = [model.config.id2label[number] for number in range(logits.shape[1])]
np.savez(answer, logits=logits, names=np.array(json.dumps(names)))
"""


def pass_gate(staged: Path, manifest: Manifest, held: Held, snippet: str) -> None:
    """Raise AdapterError where the folder does not load, or answers otherwise; `snippet`: the card's, for a folder."""
    import torch

    from hf_finetune.machine.detect import training_device
    from hf_finetune.result.answers import logits_of
    from hf_finetune.result.load import load_result, torch_dtype

    def answer(dtype: torch.dtype, device: str) -> np.ndarray:
        model = load_result(staged, manifest, dtype, device)
        return logits_of(model, held.pixels, manifest.preprocess, batch=held.batch)

    best = training_device()
    recorded_on = held.device if held.device == best else "cpu"
    ours = answer(torch_dtype(manifest.dtype), recorded_on)
    compare(
        held.logits,
        ours,
        what="The staged result answers differently from the trained model",
        hint=_NOTHING_PUSHED,
        tolerance=SAME_KERNELS if recorded_on == held.device else OTHER_KERNELS,
    )
    # Quantized layers go where bitsandbytes puts them: the accelerator, where there is one.
    place = best if manifest.quantization != "none" else "cpu"
    if manifest.dtype != "fp32" or recorded_on != place:
        ours = answer(torch.float32, place)
    difference = compare(
        ours,
        stock_answer(staged, manifest, held, snippet),
        what="The staged result answers differently in stock transformers and peft",
        hint=_NOTHING_PUSHED,
        tolerance=OTHER_KERNELS if manifest.quantization == "nf4" else SAME_KERNELS,
    )
    logger.info("Reloaded by stock libraries in a fresh process: logits differ by at most %.2g.", difference)


def stock_answer(folder: Path, manifest: Manifest, held: Held, snippet: str) -> np.ndarray:
    """Logits [N, C] of the held rows from a new process: the card's lines, stock libraries only.

    Raises AdapterError where those lines fail there, or read other label names.
    """
    import torch

    from hf_finetune.preprocess.normalise import Normaliser

    given = Normaliser(manifest.preprocess)({"pixel_values": torch.from_numpy(held.pixels)}).numpy()
    logits, names = _run_snippet(folder, given, snippet, held.batch)
    if names != list(manifest.labels):
        raise AdapterError(
            f"Stock libraries read other label names than were trained: {_different(names, manifest)}.",
            "This is a bug: please report it.",
        )
    return logits


def _run_snippet(folder: Path, given: np.ndarray, snippet: str, batch: int) -> tuple[np.ndarray, list[str]]:
    """Logits [N, C] of normalised pixels, and the label names."""
    lines = snippet.replace(f'"{PLACE}"', json.dumps(str(folder.absolute())))
    lines = lines.replace(f'"{PLACE.replace("ADAPTER", "MODEL")}"', json.dumps(str(folder.absolute())))
    with tempfile.TemporaryDirectory(prefix="hf_finetune_") as scratch:
        place = Path(scratch)
        (place / "card.py").write_text(lines, encoding="utf-8")
        np.save(place / "given.npy", given)
        process = subprocess.run(
            [
                sys.executable,
                "-c",
                _CHILD,
                *(place / name for name in ("card.py", "given.npy", "answer.npz")),
                str(batch),
            ],
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
                f"The card's own lines fail in a process with stock transformers and peft: {why}",
                "Check that this machine can fetch the base model; otherwise this is a bug: please report it.",
            )
        with np.load(place / "answer.npz") as content:
            return content["logits"], json.loads(str(content["names"]))


def _different(names: list[str], manifest: Manifest) -> str:
    pairs = [(ours, theirs) for ours, theirs in zip(manifest.labels, names, strict=False) if ours != theirs]
    return f"{pairs[0][1]!r} for {pairs[0][0]!r}" if pairs else f"{len(names)} for {len(manifest.labels)}"
