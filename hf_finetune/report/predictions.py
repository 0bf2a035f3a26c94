"""predictions.csv: what the result said of each scored row, from which every accuracy can be recomputed."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np

COLUMNS = ("split", "row", "label", "predicted", "probability")


def write_predictions(
    path: Path, split: str, names: Sequence[str], labels: np.ndarray, logits: np.ndarray, label_names: Sequence[str]
) -> None:
    """One line a row; logits float32 [N, C], labels int64 [N]."""
    shifted = logits - logits.max(axis=1, keepdims=True)
    shares = np.exp(shifted) / np.exp(shifted).sum(axis=1, keepdims=True)
    partial = path.with_suffix(".partial")
    with partial.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        for name, label, share in zip(names, labels, shares, strict=True):
            best = int(share.argmax())
            writer.writerow((split, name, label_names[int(label)], label_names[best], f"{share[best]:.6f}"))
    partial.replace(path)


def read_predictions(path: Path) -> list[dict[str, str]]:
    """The lines as dictionaries of COLUMNS."""
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))
