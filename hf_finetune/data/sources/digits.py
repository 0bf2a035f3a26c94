"""`builtin:digits`: scikit-learn's 1,797 real handwritten digits, as 8-bit grey PNGs of 8 × 8 pixels.

Source: E. Alpaydin and C. Kaynak, Optical Recognition of Handwritten Digits, UCI Machine Learning Repository (1998),
the part that `sklearn.datasets.load_digits` ships. Values 0 to 16 become round(value · 255 / 16).
"""

from __future__ import annotations

import gzip
import importlib.util
from io import BytesIO
from pathlib import Path

import numpy as np

from hf_finetune.data.sources.readers import BytesReader
from hf_finetune.data.sources.source import Source, SourceRow
from hf_finetune.errors import DataError
from hf_finetune.types import BUILTIN

NAME = f"{BUILTIN}digits"


def read_digits() -> Source:
    """All rows under `train`, so that validation and test are cut. Raises DataError where scikit-learn is missing."""
    from PIL import Image

    values, targets = read_values()
    images = []
    for pixels in np.rint(values * (255 / 16)).astype(np.uint8).reshape(-1, 8, 8):
        buffer = BytesIO()
        Image.fromarray(pixels, "L").save(buffer, "PNG")
        images.append(buffer.getvalue())
    rows = [
        SourceRow(f"digit {number:04d}", int(target), number, size=len(images[number]))
        for number, target in enumerate(targets)
    ]
    return Source(
        name=NAME,
        splits={"train": rows},
        reader=BytesReader(tuple(images)),
        has_splits=False,
        label_names=tuple(str(digit) for digit in range(10)),
        licence="cc-by-4.0",
        stamp=f"{NAME} 1",
    )


def read_values() -> tuple[np.ndarray, np.ndarray]:
    """float64 [1797, 64] of 0 to 16 and int64 [1797]; equal to `load_digits(return_X_y=True)`.

    The file is read directly where it is, because importing scikit-learn takes seconds.
    """
    package = importlib.util.find_spec("sklearn")
    if package is None or package.origin is None:
        raise DataError(f"data.name: {NAME} needs scikit-learn, found none", "pip install scikit-learn")
    path = Path(package.origin).parent / "datasets" / "data" / "digits.csv.gz"
    if path.is_file():
        with gzip.open(path, "rt", encoding="ascii") as file:
            table = np.loadtxt(file, delimiter=",")
        return table[:, :-1], table[:, -1].astype(np.int64)
    from sklearn.datasets import load_digits

    values, targets = load_digits(return_X_y=True)
    return np.asarray(values), np.asarray(targets, dtype=np.int64)
