"""One way of one model, a process for steps.py: builds it, waits for a line, measures; a line of JSON a batch."""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

CALLS = 3  # at least


def build(way: str, quantization: str, checkpoint: Path, out: Path, forms: ExitStack) -> tuple[Any, bool]:
    """The model on its device as this way trains it while `forms` is open, and whether its step needs autocast."""
    from micro.models import make_plan, prepare_ours, stock_model, stock_peft

    from hf_finetune.adapters.low_memory import training_forms

    photos, own = out / "photos", out / f"{way}-{quantization}"
    if way == "ours":
        ours = prepare_ours(checkpoint, photos, own, quantization)
        return ours.model, forms.enter_context(training_forms(ours.model, ours.context.plan))
    context = make_plan(checkpoint, photos, own, quantization)
    if way == "peft":
        return stock_peft(checkpoint, context), True
    return stock_model(checkpoint).to(context.plan.device.value), True


def measured(function: Callable[[], Any], device: str, seconds: float) -> dict[str, Any]:
    """Median seconds of a call, and the most bytes while it was called."""
    import torch
    from micro.interleaved import interleave

    from hf_finetune.machine.peak import PeakMemory, device_peak_bytes

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

    way, quantization = options.way, options.quantization
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
        except RuntimeError as error:  # what the smaller batches gave stands
            short = isinstance(error, torch.OutOfMemoryError)
            said = str(error).strip().splitlines() or [type(error).__name__]
            rows[-1]["reason"] = "out of memory" if short else said[0][:200]
            break
    model.eval()  # to stay: PEFT's nf4 on a CPU takes no step after a pass without gradients
    for row in rows:
        if "step" in row:
            row["forward"] = measured(forward_of(model, row["batch"], autocast), device, options.seconds)
        print(json.dumps(row), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path, help="with photos/ in it")
    for name in ("--way", "--quantization"):
        parser.add_argument(name, required=True)
    parser.add_argument("--checkpoint", type=Path, required=True)
    parser.add_argument("--batches", nargs="+", type=int, required=True)
    parser.add_argument("--seconds", type=float, required=True)
    with ExitStack() as forms:
        work(parser.parse_args(), forms)


if __name__ == "__main__":
    main()
