"""How far an image is from those of training, in the space of the features that the head reads.

The squared Mahalanobis distance to the nearest class mean, with one covariance for all classes (Lee et al. 2018, arXiv
1807.03888), shrunk towards a multiple of the identity so that few rows do. Owns the statistics and their file; which
model and rows they are of is `pipeline/typical.py`'s. The file holds means and a matrix, and no row of training.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hf_finetune.errors import AdapterError, first_line

FILE = "typical.safetensors"
SHRINKAGE = 0.1
SHARE = 0.95  # of images like those of training that are within the threshold
# Means of classes × features beyond this (16 MB) give way to one mean of all.
MOST_NUMBERS = 4_000_000


@dataclass(frozen=True)
class Typical:
    """`factor` float32 [d, k] takes features to where distances are plain ones, `centres` float32 [C, k] are there;
    `threshold`: the squared distance that `SHARE` of held-out images do not exceed."""

    centres: np.ndarray
    factor: np.ndarray
    threshold: float = np.inf

    def distances(self, features: np.ndarray) -> np.ndarray:
        """float64 [n] of features [n, d]: squared, to the nearest centre.

        By torch's products: numpy's own threads go on spinning after one, and the forward pass of the next images then
        took 17.5 instead of 15.5 ms an image (ViT-Tiny, batches of 32, two cores of an AMD EPYC, 2026-11-29).
        """
        import torch

        # Copies in any case: rows gathered from processes or mapped from a file may not be written to.
        factor, centres = (torch.from_numpy(np.array(each, np.float64)) for each in (self.factor, self.centres))
        found = np.empty(len(features))
        at_once = max(1, MOST_NUMBERS // len(centres))  # else 20,000 classes took 3 GB for 9,000 rows
        for start in range(0, len(features), at_once):
            part = slice(start, start + at_once)
            places = torch.from_numpy(np.array(features[part], np.float64)) @ factor
            squares = places.square().sum(1)[:, None] - 2 * places @ centres.T + centres.square().sum(1)
            found[part] = squares.min(1).values.clamp(min=0.0).numpy()
        return found

    def ratios(self, features: np.ndarray) -> np.ndarray:
        """float64 [n]: distances in multiples of the threshold; above 1 an image is unlike those of training."""
        return self.distances(features) / self.threshold


class FeatureSums:
    """What the statistics are made of: sums in float64 by class, never the rows themselves."""

    def __init__(self, width: int, classes: int) -> None:
        classes = classes if classes * width <= MOST_NUMBERS else 1
        self.counts, self.sums = np.zeros(classes), np.zeros((classes, width))
        self.products = np.zeros((width, width))

    def add(self, features: np.ndarray, classes: np.ndarray) -> None:
        """float [n, d] of rows with class ids int64 [n]."""
        rows = features.astype(np.float64)
        ids = classes if len(self.counts) > 1 else np.zeros_like(classes)
        np.add.at(self.counts, ids, 1.0)
        np.add.at(self.sums, ids, rows)
        self.products += rows.T @ rows

    @classmethod
    def total(cls, parts: Sequence[FeatureSums]) -> FeatureSums:
        """Of several processes' rows."""
        found = cls(len(parts[0].products), len(parts[0].counts))
        for part in parts:
            found.counts += part.counts
            found.sums += part.sums
            found.products += part.products
        return found

    def typical(self, held_out: Iterable[np.ndarray]) -> Typical | None:
        """With the threshold from features [n, d] of rows that are in no sum; None where those are too few to say."""
        total, there = self.counts.sum(), self.counts > 0
        mean = self.sums.sum(0) / total
        scale = np.sqrt(np.maximum(self.products.diagonal() / total - np.square(mean), 0))
        inverse = np.where(scale > 1e-6 * scale.max(), 1 / np.where(scale > 0, scale, 1), 0.0)
        means = self.sums[there] / self.counts[there, None]
        within = self.products / total - (means.T * (self.counts[there] / total)) @ means
        within = within * np.outer(inverse, inverse)
        width = int((inverse > 0).sum())
        shrunk = (1 - SHRINKAGE) * within + SHRINKAGE * within.trace() / width * np.eye(len(within))
        factor = inverse[:, None] * np.linalg.cholesky(np.linalg.inv(shrunk))
        found = Typical((means @ factor).astype(np.float32), factor.astype(np.float32))
        distances = np.sort(np.concatenate([found.distances(each) for each in held_out if len(each)]))
        rank = int(np.ceil((len(distances) + 1) * SHARE))
        if rank > len(distances):
            return None
        return Typical(found.centres, found.factor, float(distances[rank - 1]))


def write_typical(folder: Path, typical: Typical) -> None:
    """Into a result folder."""
    from safetensors.numpy import save_file

    tensors = {"centres": typical.centres, "factor": typical.factor}
    save_file({**tensors, "threshold": np.array([typical.threshold], np.float64)}, folder / FILE)


def read_typical(folder: Path) -> Typical | None:
    """None where the result has none (too few images, a result from before 2026-11-29)."""
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    if not (folder / FILE).is_file():
        return None
    try:
        tensors = load_file(folder / FILE)
        return Typical(tensors["centres"], tensors["factor"], float(tensors["threshold"][0]))
    except (SafetensorError, LookupError, ValueError, TypeError) as error:
        raise AdapterError(
            f"{folder / FILE} is damaged: {first_line(error)}.",
            "Copy the folder again; without that file the result answers, and does not say what is unlike its images.",
        ) from error
