"""A training step and a forward pass at the sizes of real models, with random weights: ours beside PEFT's LoRA and full
fine-tuning; images a second, memory, and the share of the machine's measured matmul rate.

    python benchmarks/steps.py OUT [--architectures vit_base_patch16_224 …] [--batches 1 4 …] [--quantizations int8 …]

Each way of each model is a process of its own, which takes the batches in rising order until memory is short. On a GPU
the bytes are the most that torch held while a step ran, weights included; elsewhere the process's anonymous bytes.
Prints a table a model; raw figures in OUT/steps.json.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ARCHITECTURES = ("vit_base_patch16_224", "vit_large_patch16_224", "vit_giant_patch14_224")
BATCHES = (1, 4, 16, 64, 256)
QUANTIZATIONS = ("none", "int8", "nf4")
WAYS = ("full", "peft", "ours")
SECONDS = 3.0  # of timing a step
CALLS = 3  # at least


def build(way: str, quantization: str, checkpoint: Path, out: Path, forms: ExitStack) -> tuple[Any, bool]:
    """The model on its device as this way trains it while `forms` is open, and whether its step needs autocast."""
    from micro.models import make_plan, prepare_ours, stock_model, stock_peft

    from hf_finetune.ladder.rung import training_forms

    photos, own = out / "photos", out / f"{way}-{quantization}"
    if way == "ours":
        ours = prepare_ours(checkpoint, photos, own, quantization)
        return ours.model, forms.enter_context(training_forms(ours.model, ours.ready.plan))
    ready = make_plan(checkpoint, photos, own, quantization)
    if way == "peft":
        return stock_peft(checkpoint, ready), True
    return stock_model(checkpoint).to(ready.plan.device.value), True


def measured(function: Callable[[], Any], device: str, seconds: float) -> dict[str, Any]:
    """Median seconds of a call, and the most bytes while it was called."""
    import torch
    from micro.interleaved import interleave

    from hf_finetune.peak import PeakMemory, device_peak_bytes

    if device == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    with PeakMemory() as peak:
        taken = statistics.median(interleave({"call": function}, seconds, least=CALLS)["call"])
    return {"seconds": taken, "bytes": device_peak_bytes(device) or peak.anonymous_bytes}


def forward_of(model: Any, batch: int, autocast: bool) -> Callable[[], None]:
    """A pass without gradients; done when it returns."""
    import torch

    device = next(model.parameters()).device
    pixels = torch.randn(batch, 3, 224, 224, device=device)

    @torch.no_grad()  # tensors of inference mode that bitsandbytes kept would refuse the next step
    def forward() -> None:
        with torch.autocast(device.type, torch.bfloat16, enabled=autocast):
            model(pixel_values=pixels)
        if device.type == "cuda":
            torch.cuda.synchronize()

    return forward


def work(options: argparse.Namespace, forms: ExitStack) -> None:
    """One way of one model: a line of JSON a batch."""
    import torch
    from matmul import count_flops, matmul_rate
    from micro.models import plain_step

    way, quantization = options.way, options.quantizations[0]
    model, autocast = build(way, quantization, options.checkpoint, options.out, forms)
    print("built", flush=True)
    sys.stdin.readline()
    device = next(model.parameters()).device.type
    rate = matmul_rate(torch.bfloat16, device)
    flops = count_flops(plain_step(model, autocast=autocast, batch=1)) if quantization == "none" else None
    about = {"way": way, "quantization": quantization, "device": device, "matmul_rate": rate}
    rows: list[dict[str, Any]] = []
    for batch in options.batches:
        rows.append({**about, "batch": batch, "flops": flops and flops * batch})
        try:
            rows[-1]["step"] = measured(plain_step(model, autocast=autocast, batch=batch), device, options.seconds)
        except torch.OutOfMemoryError:
            rows[-1]["reason"] = "out of memory"
            break
    model.eval()  # to stay: PEFT's nf4 on a CPU takes no step after a pass without gradients
    for row in rows:
        if "step" in row:
            row["forward"] = measured(forward_of(model, row["batch"], autocast), device, options.seconds)
        print(json.dumps(row), flush=True)


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
            (way, kind, begin(way, kind, out, checkpoint, options)) for way, kind in ways[start:][: options.together]
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
    command = [sys.executable, str(HERE / "steps.py"), str(out), "--way", way, "--checkpoint", str(checkpoint)]
    command += ["--quantizations", quantization, "--batches", *map(str, options.batches)]
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
    parser.add_argument("--way", choices=WAYS, help=argparse.SUPPRESS)
    parser.add_argument("--checkpoint", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    options.out, options.batches = options.out.resolve(), sorted(options.batches)
    if options.way:
        with ExitStack() as forms:
            work(options, forms)
        return
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
