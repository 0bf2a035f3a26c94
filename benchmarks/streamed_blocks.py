"""A LoRA step of a backbone of 1.1 billion parameters, its blocks streamed from files or not: seconds and memory.

    python benchmarks/streamed_blocks.py OUT_FOLDER [--name vit_giant_patch14_dinov2] [--steps 3] [--weights FOLDER]

The backbone of timm has random weights in float32 (`--weights`: such a folder that is there) and trains in bfloat16 at
224 px on the CPU: LoRA of rank 8 on all linear layers, blocks recomputed, one image a step. Each way runs in a process
of its own, in turns, twice; RssAnon and RssFile are read from outside every 20 ms. Figures are above what the process
had once everything was imported and the built-in backbone had taken a step. `first`: loading where the
converted file is still to be written. Linux. Writes OUT_FOLDER/streamed.json.
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

from benchmarks.random_weights import write_timm

WAYS = ("first", "off", "disk", "off", "disk")
RUN = """
import sys, time
import torch
from hf_finetune.adapters import Lora
from hf_finetune.adapters.low_memory import low_memory_lora
from hf_finetune.backbones.config import Model
from hf_finetune.backbones.facts import read_facts
from hf_finetune.backbones.load import load_backbone
from hf_finetune.backbones.recompute import recompute
from hf_finetune.machine.process import keep_freed_memory
from hf_finetune.result.frozen_files import files_for
from hf_finetune.labels import Labels

def build(name, stream):
    model = Model(name=name)
    files = files_for(stream, "cpu", model, torch.bfloat16)
    settings = {"dtype": torch.bfloat16, "seed": 0, "plain_attention": True, "frozen_files": files}
    loaded = load_backbone(model, Labels(("a", "b")), **settings)
    facts = read_facts(model)
    adapted = Lora(rank=8).apply(loaded, facts)
    recompute(adapted, facts.blocks, len(facts.blocks))
    return adapted.train()

def step(model, optimizer, side):
    started = time.perf_counter()
    with low_memory_lora(model):
        logits = model(pixel_values=torch.ones(1, 3, side, side)).logits
        torch.nn.functional.cross_entropy(logits, torch.tensor([0])).backward()
    optimizer.step()
    optimizer.zero_grad()
    return time.perf_counter() - started

def optimizer_of(model):
    return torch.optim.AdamW([weight for weight in model.parameters() if weight.requires_grad])

folder, stream, steps = sys.argv[1:]
keep_freed_memory()
small = build("builtin:starter", "off")
step(small, optimizer_of(small), read_facts(Model()).preprocess.height)
del small
print("start", flush=True)
sys.stdin.readline()
started = time.perf_counter()
model = build(folder, stream)
loaded = time.perf_counter() - started
print("loaded", flush=True)
optimizer = optimizer_of(model)
print([loaded, *(step(model, optimizer, 224) for _ in range(int(steps)))], flush=True)
"""


def measure(folder: Path, way: str, steps: int) -> dict[str, Any]:
    stream = "disk" if way == "first" else way
    child = subprocess.Popen(
        [sys.executable, "-c", RUN, str(folder), stream, str(steps if way != "first" else 0)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    if child.stdout is None or child.stdin is None or child.stdout.readline() != "start\n":
        raise SystemExit(f"{way}: it did not start")
    before = memory_of(child.pid)
    peaks = {"loading": dict(before), "steps": dict(before)}
    child.stdin.write("\n")
    child.stdin.flush()
    os.set_blocking(child.stdout.fileno(), False)
    part, said = "loading", ""
    while "]" not in said and child.poll() is None:
        said = child.stdout.readline() or ""
        part = "steps" if said == "loaded\n" else part
        for kind, size in memory_of(child.pid).items():
            peaks[part][kind] = max(peaks[part][kind], size)
        time.sleep(0.02)
    child.wait()
    loaded, *seconds = json.loads(said)
    row: dict[str, Any] = {"way": way, "loaded_s": round(loaded, 1), "step_s": [round(each, 2) for each in seconds]}
    for name, peak in peaks.items():
        row |= {f"{name}_{kind}_mb": round((peak[kind] - before[kind]) / 1e6) for kind in peak}
    return row


def memory_of(process: int) -> dict[str, int]:
    try:
        lines = Path(f"/proc/{process}/status").read_text(encoding="ascii").splitlines()
    except OSError:
        lines = []
    found = {line.split(":")[0]: 1024 * int(line.split()[1]) for line in lines if line.startswith("Rss")}
    return {"anonymous": found.get("RssAnon", 0), "file": found.get("RssFile", 0)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--name", default="vit_giant_patch14_dinov2")
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--weights", type=Path)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    made = options.out / "weights"
    os.environ["HF_FINETUNE_CACHE"] = str(made / "cache")
    rows = []
    try:
        weights = options.weights or write_timm(made / "base", options.name, torch.float32, img_size=224)
        for way in WAYS:
            rows.append(measure(weights, way, options.steps))
            print(json.dumps(rows[-1]), flush=True)
            (options.out / "streamed.json").write_text(json.dumps(rows, indent=1), encoding="utf-8")
    finally:
        shutil.rmtree(made, ignore_errors=True)


if __name__ == "__main__":
    main()
