"""What every reference script writes about itself, so that one reader can compare them; psutil and the library only.

A script gets `--model FOLDER --data FOLDER --out FOLDER --seed N`, where the data folder holds
`{train,validation,test}/CLASS/file`. It trains, saves to OUT/model, and only then looks at the test photos:

    OUT/progress.jsonl   {"imported": seconds, "anonymous_bytes": …} once, after its heavy imports;
                         {"validation": accuracy, "seconds": …} at each validation;
                         {"stage": name, "images": …, "stage_seconds": …} for what it timed;
                         {"saved": seconds} once, when OUT/model could be loaded by someone else
    OUT/predictions.csv  file (CLASS/name), predicted (a class name): one row a test photo, written after "saved"

Seconds count from the start of the process. Memory, processor time and bytes written are measured from outside.
"""

from __future__ import annotations

import argparse
import csv
import json
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import psutil

STARTED = psutil.Process().create_time()


def parser_of(description: str | None) -> argparse.ArgumentParser:
    """What every reference takes."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("model", "data", "out"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    return parser


def arguments(
    description: str | None, *, learning_rate: float, epochs: int, **choices: tuple[str, ...]
) -> argparse.Namespace:
    """The command line of a reference; the two defaults are those that its library documents.

    A further keyword is an option of this reference alone, with the values that it may take, the default first.
    """
    parser = parser_of(description)
    parser.add_argument("--learning-rate", type=float, default=learning_rate)
    parser.add_argument("--epochs", type=int, default=epochs)
    for name, values in choices.items():
        parser.add_argument(f"--{name}", choices=values, default=values[0])
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    return options


class Record:
    """Appends to OUT/progress.jsonl; each line is there as soon as its call returns."""

    def __init__(self, out: Path) -> None:
        self._out = out

    def _add(self, **line: Any) -> None:
        with (self._out / "progress.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")

    def imported(self) -> None:
        memory = psutil.Process().memory_info()
        self._add(imported=time.time() - STARTED, anonymous_bytes=memory.rss - getattr(memory, "shared", 0))

    def validated(self, accuracy: float) -> None:
        self._add(validation=accuracy, seconds=time.time() - STARTED)

    def stage(self, name: str, images: int, seconds: float) -> None:
        self._add(stage=name, images=images, stage_seconds=seconds)

    def saved(self) -> None:
        self._add(saved=time.time() - STARTED)

    def predicted(self, rows: Iterable[tuple[str, str]]) -> None:
        """Pairs of CLASS/file and the predicted class."""
        with (self._out / "predictions.csv").open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(["file", "predicted"])
            writer.writerows(rows)
