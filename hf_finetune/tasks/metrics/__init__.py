"""Metric modules for `evaluate` that need no network: `evaluate.load(str(path_of("accuracy")))`, or `load` here.

`evaluate.load` copies a module below HF_MODULES_CACHE and, unless `keep_in_memory=True`, writes and locks files below
HF_METRICS_CACHE. `load` does neither, so it works with a read-only home and in many processes at once. Importing
`evaluate` takes about 5 s alone and 0.05 s once transformers' Trainer is imported (one core of a cloud CPU,
2026-11-23), so it is imported on the first use.
"""

from __future__ import annotations

import importlib
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import evaluate

MetricName = Literal[
    "accuracy", "balanced_accuracy", "top_k", "macro_f1", "per_class", "confusion_matrix", "calibration_error"
]
METRICS: dict[MetricName, str] = {
    "accuracy": "Accuracy",
    "balanced_accuracy": "BalancedAccuracy",
    "top_k": "TopK",
    "macro_f1": "MacroF1",
    "per_class": "PerClass",
    "confusion_matrix": "ConfusionMatrix",
    "calibration_error": "CalibrationError",
}


def path_of(name: MetricName) -> Path:
    """The file to hand to `evaluate.load`."""
    return Path(__file__).with_name(f"{name}.py")


def load(name: MetricName) -> evaluate.Metric:
    """The metric of that name, holding its rows in memory."""
    module = importlib.import_module(f"{__name__}.{name}")
    with tempfile.TemporaryDirectory() as folder:  # evaluate insists on making a cache folder, and then never uses it
        return getattr(module, METRICS[name])(cache_dir=folder, keep_in_memory=True)
