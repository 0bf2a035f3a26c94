"""A program with a loss, a metric, a callback and a transform of its own, as a person writes one.

`python -m tests.pipeline.own_things RECIPE` runs it; under a launcher for several processes it is the same program.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional
from transformers import TrainerCallback

import hf_finetune

SEEN: list[tuple[int, ...]] = []


def focal(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Lin et al. 2017, arXiv 1708.02002, with γ = 2."""
    each = functional.cross_entropy(logits, labels, reduction="none")
    return (1 - torch.exp(-each)) ** 2 * each


def distance(answers: object, labels: np.ndarray) -> float:
    return float(np.abs(answers.predicted - labels).mean())  # pyright: ignore[reportAttributeAccessIssue]


def darker(image: torch.Tensor) -> torch.Tensor:
    SEEN.append(tuple(image.shape))
    return (image * (0.5 + 0.5 * torch.rand(1))).to(torch.uint8)


class Steps(TrainerCallback):
    """Writes down how many updates there were."""

    def __init__(self) -> None:
        self.steps = 0

    def on_step_end(self, args, state, control, **kwargs) -> None:  # noqa: ARG002 - the Trainer's signature
        self.steps += 1


def main(recipe: str) -> None:
    steps = Steps()
    run = hf_finetune.train(recipe, loss=focal, metrics={"distance": distance}, callbacks=[steps], transform=darker)
    found = {"steps": steps.steps, "images": len(SEEN), "shapes": sorted(set(SEEN))}
    # One write call: the processes share this pipe.
    sys.stdout.write(json.dumps({**found, "report": run.report["extensions"], "test": run.report["test"]}) + "\n")


if __name__ == "__main__":
    main(str(Path(sys.argv[1])))
