"""What CUDA graphs would give a LoRA step of ours: the step as it is beside one whose passes were captured once.

    python benchmarks/cuda_graphs.py [--architectures vit_tiny_patch16_224 …] [--batches 8 32 128]

The product captures nothing; this measures what there is to gain (docs/RESULTS.md). Random weights; medians of 15
steps of each in turns, until the GPU is done. Needs an NVIDIA GPU.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from micro.interleaved import interleave
from micro.models import prepare_ours, write_checkpoint
from micro.photos import CLASSES, write_photos
from torch import nn

from hf_finetune.adapters.low_memory import low_memory_lora

ARCHITECTURES = ("vit_tiny_patch16_224", "vit_base_patch16_224")
BATCHES = (8, 32, 128)
CALLS = 15


class Logits(nn.Module):
    """The model as a function of one tensor to one tensor, which is what can be captured."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return self.model(pixel_values=pixels).logits


def compare(model: nn.Module, batch: int) -> str:
    """One line: the step as it is, the captured one, and the largest relative difference of their gradients."""
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    optimizer = torch.optim.AdamW(weights, lr=1e-5, fused=True)
    pixels = torch.randn(batch, 3, 224, 224, device="cuda")
    labels = torch.arange(batch, device="cuda") % len(CLASSES)

    def gradients(function: Callable[[torch.Tensor], torch.Tensor]) -> list[torch.Tensor]:
        nn.functional.cross_entropy(function(pixels).float(), labels).backward()
        return [weight.grad.clone() for weight in weights if weight.grad is not None]

    def step(function: Callable[[torch.Tensor], torch.Tensor]) -> None:
        nn.functional.cross_entropy(function(pixels).float(), labels).backward()
        nn.utils.clip_grad_norm_(weights, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        torch.cuda.synchronize()

    plain = Logits(model)
    step(plain)
    expected = gradients(plain)
    optimizer.zero_grad()
    started = time.perf_counter()
    captured: Any = torch.cuda.make_graphed_callables(Logits(model), (pixels.clone(),), allow_unused_input=True)
    capture = time.perf_counter() - started
    found = gradients(captured)
    optimizer.zero_grad()
    pairs = zip(found, expected, strict=True)
    apart = max(float((a - b).abs().max() / b.abs().max().clamp(min=1e-12)) for a, b in pairs)
    taken = interleave({"plain": lambda: step(plain), "captured": lambda: step(captured)}, 0, least=CALLS)
    one, other = (1e3 * statistics.median(taken[name]) for name in ("plain", "captured"))
    return f"batch {batch}: {one:.1f} ms, captured {other:.1f} ms (in {capture:.2f} s); gradients differ by {apart:.1g}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--architectures", nargs="+", default=list(ARCHITECTURES))
    parser.add_argument("--batches", nargs="+", type=int, default=list(BATCHES))
    options = parser.parse_args()
    if not torch.cuda.is_available():
        parser.exit(2, "An NVIDIA GPU is expected; torch finds none.\n")
    warnings.filterwarnings("ignore", message="The AccumulateGrad node's stream", category=UserWarning)
    for architecture in options.architectures:
        with tempfile.TemporaryDirectory() as folder:
            out = Path(folder)
            checkpoint = write_checkpoint(out / "checkpoint", architecture=architecture)
            write_photos(out / "photos", per_class=6)
            model = prepare_ours(checkpoint, out / "photos", out / "ours").model.train()
            with low_memory_lora(model):
                for batch in options.batches:
                    print(f"{architecture}, {compare(model, batch)}", flush=True)


if __name__ == "__main__":
    main()
