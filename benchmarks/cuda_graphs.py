"""What CUDA graphs give a LoRA step of ours: the step without beside the step by the product's own capture.

    python benchmarks/cuda_graphs.py [--architectures vit_tiny_patch16_224 …] [--batches 8 32 128] [--quantization int8]

A step: forward and backward pass, clipping, AdamW, until the GPU is done. Random weights; medians of 15 of each in
turns. Needs an NVIDIA GPU.
"""

from __future__ import annotations

import argparse
import functools
import logging
import statistics
import tempfile
import time
from pathlib import Path

import torch
from micro.interleaved import interleave
from micro.models import prepare_ours, write_checkpoint
from micro.photos import CLASSES, write_photos
from torch import Tensor, nn

from hf_finetune.adapters.low_memory import training_forms
from hf_finetune.training.cuda_graph.captured import WARM, CapturedPieces
from hf_finetune.training.objective import ModelBatch

ARCHITECTURES = ("vit_tiny_patch16_224", "vit_base_patch16_224")
BATCHES = (8, 32, 128)
CALLS = 15


def loss_of(model: nn.Module, autocast: bool, prepared: ModelBatch, normaliser: Tensor) -> Tensor:
    with torch.autocast("cuda", torch.bfloat16, enabled=autocast):
        logits = model(pixel_values=prepared.pixel_values).logits.float()
    return nn.functional.cross_entropy(logits, prepared.labels, reduction="sum") / normaliser


class Step:
    """Updates of `model` on the same `batch` random images, by a graph or without."""

    def __init__(self, model: nn.Module, autocast: bool, batch: int, graphs: bool) -> None:
        self._loss = functools.partial(loss_of, model, autocast)
        self._weights = [weight for weight in model.parameters() if weight.requires_grad]
        self._optimizer = torch.optim.AdamW(self._weights, lr=1e-5, fused=True)
        labels = torch.arange(batch, device="cuda") % len(CLASSES)
        self._prepared = ModelBatch(torch.randn(batch, 3, 224, 224, device="cuda"), labels)
        self._normaliser = torch.tensor(float(batch), device="cuda")
        self.captured = CapturedPieces(self._loss, model) if graphs else None

    def __call__(self) -> None:
        if self.captured is not None:
            self.captured.begin_update()
        if self.captured is None or self.captured.take(self._prepared, self._normaliser) is None:
            self._loss(self._prepared, self._normaliser).backward()
        nn.utils.clip_grad_norm_(self._weights, 1.0)
        self._optimizer.step()
        self._optimizer.zero_grad()
        torch.cuda.synchronize()


def compare(model: nn.Module, autocast: bool, batch: int) -> str:
    """One line: the step without a graph and with one, and what the capture took; or why there is none (logged)."""
    plain, graphed = (Step(model, autocast, batch, graphs) for graphs in (False, True))
    for _ in range(WARM):
        graphed()
    started = time.perf_counter()
    graphed()
    capture = time.perf_counter() - started
    if graphed.captured is None or not graphed.captured.captured:
        return f"batch {batch}: not captured"
    taken = interleave({"plain": plain, "graphed": graphed}, 0, least=CALLS)
    one, other = (1e3 * statistics.median(taken[name]) for name in ("plain", "graphed"))
    return f"batch {batch}: {one:.1f} ms, by a graph {other:.1f} ms (captured in {capture:.2f} s)"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--architectures", nargs="+", default=list(ARCHITECTURES))
    parser.add_argument("--batches", nargs="+", type=int, default=list(BATCHES))
    parser.add_argument("--quantization", choices=("none", "int8", "nf4"), default="none")
    options = parser.parse_args()
    if not torch.cuda.is_available():
        parser.exit(2, "An NVIDIA GPU is expected; torch finds none.\n")
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    logging.getLogger().setLevel(logging.WARNING)
    logging.getLogger("hf_finetune.training.cuda_graph.captured").setLevel(logging.INFO)
    for architecture in options.architectures:
        with tempfile.TemporaryDirectory() as folder:
            out = Path(folder)
            checkpoint = write_checkpoint(out / "checkpoint", architecture=architecture)
            write_photos(out / "photos", per_class=6)
            ours = prepare_ours(checkpoint, out / "photos", out / "ours", options.quantization)
            with training_forms(ours.model.train(), ours.context.plan) as autocast:
                for batch in options.batches:
                    print(f"{architecture}, {compare(ours.model, autocast, batch)}", flush=True)


if __name__ == "__main__":
    main()
