"""predictions.csv: what the result said of each scored row, from which every accuracy can be recomputed."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from hf_finetune.types import Answers

COLUMNS = ("split", "row", "label", "predicted", "probability")


def write_predictions(
    path: Path, split: str, names: Sequence[str], labels: np.ndarray, answers: Answers, label_names: Sequence[str]
) -> None:
    """One line a row; labels int64 [N] and what the result answered."""
    partial = path.with_suffix(".partial")
    with partial.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        rows = zip(names, labels.tolist(), answers.predicted.tolist(), answers.confidence.tolist(), strict=True)
        for name, label, best, share in rows:
            writer.writerow((split, name, label_names[label], label_names[best], f"{share:.6f}"))
    partial.replace(path)


def read_predictions(path: Path) -> list[dict[str, str]]:
    """The lines as dictionaries of COLUMNS."""
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))
