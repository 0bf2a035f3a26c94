"""Anonymous memory while a backbone loads, beside its final weights: the peak of each way in a process of its own.

    python benchmarks/load_peak.py OUT_FOLDER [--size large]

A ViT of transformers and one of timm with random weights, as safetensors in float32 and bfloat16 and as a pickle in
float32, loaded in float32, bfloat16, int8 and nf4 on the CPU. The process's RssAnon is read from outside every 4 ms,
above what it was once everything was imported and the built-in backbone loaded. Linux. Writes OUT_FOLDER/loading.json.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from benchmarks.random_weights import write_timm, write_vit

KINDS = ("fp32", "bf16", "int8", "nf4")
LOAD = """
import sys, time
from pathlib import Path
import bitsandbytes, peft, torch
from hf_finetune.backbones.config import Model
from hf_finetune.backbones.facts import read_facts
from hf_finetune.backbones.load import load_backbone
from hf_finetune.quantizers import Int8, Nf4
from hf_finetune.quantizers.checks import skip_patterns
from hf_finetune.labels import Labels

def anonymous():
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * int(next(line.split()[1] for line in lines if line.startswith("RssAnon")))

folder, kind = sys.argv[1:]
model, labels, more = Model(name=folder), Labels(("a", "b")), {}
if kind in ("int8", "nf4"):
    facts, quantizer = read_facts(model), {"int8": Int8, "nf4": Nf4}[kind]()
    skipped = skip_patterns(quantizer.left_out(facts), facts.linears)
    more = {"quantization_config": quantizer.config(facts.head, skipped), "device_map": {"": "cpu"}}
dtype = torch.float32 if kind == "fp32" else torch.bfloat16
load_backbone(Model(name="builtin:starter"), labels, dtype=dtype, seed=0)
before, started = anonymous(), time.time()
print("start", flush=True)
loaded = load_backbone(model, labels, dtype=dtype, seed=0, **more)
seconds = time.time() - started
scales = [getattr(each, "SCB", None) for each in loaded.parameters()]
scales += [getattr(getattr(each, "quant_state", None), "absmax", None) for each in loaded.parameters()]
held = [*loaded.parameters(), *loaded.buffers(), *(each for each in scales if each is not None)]
print(before, sum(each.nbytes for each in held), anonymous() - before, seconds, flush=True)
"""


def measure(folder: Path, kind: str) -> dict[str, Any]:
    child = subprocess.Popen(
        [sys.executable, "-c", LOAD, str(folder), kind], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    if child.stdout is None or child.stdout.readline() != "start\n":
        raise SystemExit(f"{folder.name}, {kind}: loading failed")
    os.set_blocking(child.stdout.fileno(), False)
    peak, said = 0, ""
    while not said and child.poll() is None:
        peak, said = max(peak, anonymous(child.pid)), child.stdout.readline() or ""
        time.sleep(0.004)
    before, weights, after, seconds = (float(each) for each in (said or child.stdout.read()).split())
    child.wait()
    row = {"checkpoint": folder.name, "loaded": kind, "weights": weights, "peak": peak - before, "after": after}
    return {**row, "ratio": round((peak - before) / weights, 3), "seconds": round(seconds, 1)}


def anonymous(process: int) -> int:
    try:
        lines = Path(f"/proc/{process}/status").read_text(encoding="ascii").splitlines()
    except OSError:
        return 0
    return 1024 * next((int(line.split()[1]) for line in lines if line.startswith("RssAnon")), 0)


def write_all(out: Path, size: str) -> list[Path]:
    folders = [write_vit(out / f"transformers-{name}", size, kind) for name, kind in _types().items()]
    folders += [write_timm(out / f"timm-{name}", f"vit_{size}_patch16_224", kind) for name, kind in _types().items()]
    pickled = out / "transformers-fp32-bin"
    shutil.copytree(folders[0], pickled)
    torch.save(load_file(pickled / "model.safetensors"), pickled / "pytorch_model.bin")
    (pickled / "model.safetensors").unlink()
    return [*folders, pickled]


def _types() -> dict[str, torch.dtype]:
    return {"fp32": torch.float32, "bf16": torch.bfloat16}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--size", choices=("base", "large"), default="large")
    options = parser.parse_args()
    weights = options.out / "weights"
    rows = []
    try:
        for folder in write_all(weights, options.size):
            for kind in KINDS:
                rows.append(measure(folder, kind))
                print(json.dumps(rows[-1]), flush=True)
    finally:
        shutil.rmtree(weights, ignore_errors=True)
    (options.out / "loading.json").write_text(json.dumps(rows, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
