"""A training step and a forward pass at the sizes of real models, with random weights: ours beside PEFT's LoRA and full
fine-tuning; images a second, memory, and the share of the machine's measured matmul rate.

    python benchmarks/steps.py OUT [--architectures vit_base_patch16_224 …] [--batches 1 4 …] [--quantizations int8 …]

Each way of each model is a process of its own (step_work.py), which takes the batches in rising order until memory is
short. On a GPU the bytes are the most that torch held while a step ran, weights included; elsewhere the process's
anonymous bytes. Prints a table a model; raw figures in OUT/steps.json.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ARCHITECTURES = ("vit_base_patch16_224", "vit_large_patch16_224", "vit_giant_patch14_224")
BATCHES = (1, 4, 16, 64, 256)
QUANTIZATIONS = ("none", "int8", "nf4")
WAYS = ("full", "peft", "ours")
SECONDS = 3.0  # of timing a step


def rows_of(architecture: str, options: argparse.Namespace) -> list[dict[str, Any]]:
    """Every way of one model, each in a process of its own; one that fails is a row with its last words."""
    from micro.models import write_checkpoint
    from micro.photos import write_photos

    out = options.out / architecture
    shutil.rmtree(out, ignore_errors=True)
    checkpoint = write_checkpoint(out / "checkpoint", architecture=architecture)
    write_photos(out / "photos", per_class=6)
    ways = [(way, kind) for kind in options.quantizations for way in options.ways if kind == "none" or way != "full"]
    rows: list[dict[str, Any]] = []
    for start in range(0, len(ways), options.together):
        begun = [
            (way, kind, begin(way, kind, out, checkpoint, options))
            for way, kind in ways[start : start + options.together]
        ]
        for _, _, process in begun:
            process.stdout.readline()  # built, or ended
        for way, kind, process in begun:
            output, _ = process.communicate("go\n")
            found = [json.loads(line) for line in output.splitlines() if line.startswith("{")]
            add_shares(found, rows)
            if process.returncode:
                errors = log_of(out, way, kind).read_text("utf-8", "replace").strip().splitlines()
                reason = (errors or [f"exit {process.returncode}"])[-1]
                found.append({"way": way, "quantization": kind, "batch": 0, "reason": reason[:200]})
            rows += [{"architecture": architecture, **row} for row in found]
    shutil.rmtree(out)
    return rows


def begin(way: str, quantization: str, out: Path, checkpoint: Path, options: argparse.Namespace) -> Any:
    """The process of one way, building its model; it measures once it is told to."""
    command = [sys.executable, str(HERE / "step_work.py"), str(out), "--way", way, "--checkpoint", str(checkpoint)]
    command += ["--quantization", quantization, "--batches", *map(str, options.batches)]
    command += ["--seconds", str(options.seconds)]
    pipe = subprocess.PIPE
    with log_of(out, way, quantization).open("w", encoding="utf-8") as log:
        return subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=log, text=True)


def log_of(out: Path, way: str, quantization: str) -> Path:
    return out / f"{way}-{quantization}.log"


def add_shares(found: Sequence[dict[str, Any]], before: Sequence[dict[str, Any]]) -> None:
    """Each row's share of the matmul rate. A quantized one does the products of the same way unquantized, and what it
    takes to unpack its weights counts nothing."""
    for row in found:
        if "reason" in row:
            continue
        if row["flops"] is None:
            same = (other for other in before if (other["way"], other["batch"]) == (row["way"], row["batch"]))
            row["flops"] = next((other["flops"] for other in same if other.get("flops")), None)
        if row["flops"] is not None:
            row["share"] = row["flops"] / row["step"]["seconds"] / row["matmul_rate"]


def table(architecture: str, rows: Sequence[dict[str, Any]], batches: Sequence[int]) -> str:
    """A line a way: of each batch the images a second of a step and of a forward pass, the share, and the memory."""
    lines = [f"| {architecture} | {' | '.join(f'batch {batch}' for batch in batches)} |"]
    lines.append("|---" * (1 + len(batches)) + "|")
    for way, quantization in dict.fromkeys((row["way"], row["quantization"]) for row in rows):
        own = {row["batch"]: row for row in rows if (row["way"], row["quantization"]) == (way, quantization)}
        failed = next((row["reason"] for row in own.values() if "reason" in row), "")
        cells = [cell(own[batch]) if batch in own else failed for batch in batches]
        lines.append(f"| {way}{'' if quantization == 'none' else ', ' + quantization} | {' | '.join(cells)} |")
    return "\n".join(lines)


def cell(row: dict[str, Any]) -> str:
    if "reason" in row:
        return row["reason"]
    step, forward = (row["batch"] / row[part]["seconds"] for part in ("step", "forward"))
    share = f", {row['share']:.0%}" if "share" in row else ""
    return f"{step:,.0f} images/s{share}, {row['step']['bytes'] / 1e9:.2f} GB; forward {forward:,.0f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--architectures", nargs="+", default=list(ARCHITECTURES))
    parser.add_argument("--batches", nargs="+", type=int, default=list(BATCHES))
    parser.add_argument("--quantizations", nargs="+", choices=QUANTIZATIONS, default=list(QUANTIZATIONS))
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS))
    parser.add_argument("--seconds", type=float, default=SECONDS, help="of timing a step; three calls at least")
    parser.add_argument(
        "--together", type=int, default=1, help="ways to build at the same time; each is measured alone"
    )
    options = parser.parse_args()
    options.out, options.batches = options.out.resolve(), sorted(options.batches)
    from results import about_machine

    options.out.mkdir(parents=True, exist_ok=True)
    rows: list[dict[str, Any]] = []
    for architecture in options.architectures:
        rows += rows_of(architecture, options)
        content = {"about": about_machine(), "rows": rows}
        (options.out / "steps.json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
        print(table(architecture, [row for row in rows if row["architecture"] == architecture], options.batches))
        print(flush=True)


if __name__ == "__main__":
    main()
