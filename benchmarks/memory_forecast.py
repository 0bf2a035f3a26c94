"""The memory forecast beside what runs take: six backbones, ways of training, recomputed blocks, batches.

    python benchmarks/memory_forecast.py OUT [--data DIR] [--backbones vit_tiny …] [--ways lora …] [--batches 2 8 16]
                                             [--minutes 15] [--results docs/results/memory-forecast.json]

Each cell is a run of its own process: `hf-finetune train` of the rung `full` on noise photos, one update, then saved,
reloaded and scored as ever; what run.json says of memory is the row. Backbones have random weights, but for ViT-Tiny
with `--data` (the folder with `weights/`). Cells that are there already (OUT/cells.json) are not run again, and
after `--minutes` the others are left for the next call. Prints a table that marks the cells off by more than a tenth.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
# Names in the table, and timm's architectures.
BACKBONES = {
    "vit_tiny": "vit_tiny_patch16_224",
    "deit_small": "deit_small_patch16_224",
    "swin_tiny": "swin_tiny_patch4_window7_224",
    "convnext_atto": "convnext_atto",
    "resnet18": "resnet18",
    "mobilenetv2": "mobilenetv2_100",
}
WITHOUT_LINEARS = ("resnet18", "mobilenetv2")  # nothing to quantize
REAL = {"vit_tiny": "vit_tiny_timm"}
WAYS = {
    "full": ("adapter.kind=full",),
    "lora": ("adapter.kind=lora",),
    "head": ("adapter.kind=head_only",),
    "int8": ("adapter.kind=lora", "quantization.kind=int8"),
    "nf4": ("adapter.kind=lora", "quantization.kind=nf4"),
}
BATCHES = (2, 8, 16)
WITHIN = 0.10
SECONDS = 600  # of a cell, at most


def cells(options: argparse.Namespace) -> Iterator[tuple[str, str, bool, int]]:
    """Backbone, way, whether blocks are recomputed, batch; those that differ most come first."""
    for batch in options.batches:
        for recomputed in (False, True):
            for way in options.ways:
                for name in options.backbones:
                    if not (way in ("int8", "nf4") and name in WITHOUT_LINEARS):
                        yield name, way, recomputed, batch


def checkpoint_of(name: str, options: argparse.Namespace) -> Path:
    """The backbone's folder; one with random weights is written."""
    from micro.models import write_checkpoint

    real = options.data / "weights" / REAL[name] if options.data is not None and name in REAL else None
    if real is not None and real.is_dir():
        return real
    folder = options.out / "checkpoints" / BACKBONES[name]
    return folder if folder.is_dir() else write_checkpoint(folder, architecture=BACKBONES[name])


def run_cell(checkpoint: Path, way: str, recomputed: bool, batch: int, out: Path) -> dict[str, Any]:
    """One run in a process of its own: forecast and measured bytes, or why there are none."""
    run = out / "run"
    shutil.rmtree(run, ignore_errors=True)
    overrides = [
        f"model.name={checkpoint}",
        f"output.dir={run}",
        "ladder=[full]",
        "train.patches_kept=1.0",
        f"train.effective_batch_size={batch}",
        f"train.micro_batch={batch}",
        f"train.checkpointing={'true' if recomputed else 'false'}",
        "train.epochs=0.05",
        "train.evaluations=1",
        "train.decode_workers=1",
        *WAYS[way],
    ]
    environment = {**os.environ, "HF_FINETUNE_CACHE": str(out / "cache"), "PYTHONPATH": str(HERE.parent)}
    started = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "hf_finetune", "-q", "train", str(out / "photos"), *overrides],
        capture_output=True,
        text=True,
        timeout=SECONDS,
        env=environment,
        check=False,
    )
    if done.returncode:
        said = (done.stderr.strip().splitlines() or [f"exit {done.returncode}"])[-1]
        return {"reason": said[:200]}
    memory = json.loads((run / "run.json").read_text("utf-8"))["memory"]
    return {**memory, "seconds": round(time.monotonic() - started, 1)}


def table(rows: Sequence[dict[str, Any]]) -> str:
    """A line a cell, the outliers named, and the share within a tenth."""
    lines = [
        "| backbone | way | recomputed | batch | forecast MB | measured MB | ratio |",
        "|---|---|---|---|---|---|---|",
    ]
    ratios: list[float] = []
    for row in rows:
        about = f"| {row['backbone']} | {row['way']} | {'all' if row['recomputed'] else 'none'} | {row['batch']} |"
        if "reason" in row:
            lines.append(f"{about} | | {row['reason']} |")
            continue
        forecast, measured = row["forecast"]["total"], row["measured"]["total"]
        ratios.append(forecast / measured)
        mark = "" if abs(ratios[-1] - 1) <= WITHIN else " **"
        lines.append(f"{about} {forecast / 1e6:.0f} | {measured / 1e6:.0f} | {ratios[-1]:.2f}{mark} |")
    good = sum(abs(ratio - 1) <= WITHIN for ratio in ratios)
    off = [row for row in rows if "reason" in row]
    lines.append("")
    lines.append(f"Within 10 %: {good} of {len(ratios)} cells; ** are the others. Not run to their end: {len(off)}.")
    return "\n".join(lines)


def main() -> None:
    sys.path.insert(0, str(HERE))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="a folder for checkpoints, runs and cells.json")
    parser.add_argument("--data", type=Path, help="with weights/ in it")
    parser.add_argument("--backbones", nargs="+", default=list(BACKBONES), choices=list(BACKBONES))
    parser.add_argument("--ways", nargs="+", default=list(WAYS), choices=list(WAYS))
    parser.add_argument("--batches", nargs="+", type=int, default=list(BATCHES))
    parser.add_argument("--minutes", type=float, default=15.0)
    parser.add_argument("--results", type=Path, help="a copy of the rows")
    options = parser.parse_args()
    options.out = options.out.resolve()
    options.out.mkdir(parents=True, exist_ok=True)
    from micro.photos import write_photos

    if not (options.out / "photos").is_dir():
        write_photos(options.out / "photos", per_class=14)
    kept = options.out / "cells.json"
    rows: list[dict[str, Any]] = json.loads(kept.read_text("utf-8")) if kept.is_file() else []
    known = {(row["backbone"], row["way"], row["recomputed"], row["batch"]) for row in rows}
    end = time.monotonic() + 60 * options.minutes
    left = 0
    for cell in cells(options):
        if cell in known:
            continue
        if time.monotonic() > end:
            left += 1
            continue
        name, way, recomputed, batch = cell
        found = run_cell(checkpoint_of(name, options), way, recomputed, batch, options.out)
        rows.append({"backbone": name, "way": way, "recomputed": recomputed, "batch": batch, **found})
        kept.write_text(json.dumps(rows, indent=1), encoding="utf-8")
        print(table(rows[-1:]).splitlines()[2], flush=True)
    rows.sort(key=lambda row: (list(BACKBONES).index(row["backbone"]), row["way"], row["recomputed"], row["batch"]))
    print(table(rows))
    if left:
        print(f"{left} cells are left for the next call.")
    if options.results is not None:
        options.results.write_text(json.dumps(rows, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
