"""How well images of a class that training never saw are told, by the distance and by the largest probability.

    python benchmarks/none_of_these.py TRASHNET BACKBONE OUT [--time 0s]

TRASHNET has train, val and test with a folder a class. Each class in turn is left out of training and validation; the
test has its images, too. OUT/none_of_these.json gets, for each, the area under the ROC curve of both, the shares that
`unlike` says of the known and of the unknown, and what the 90 % sets hold of the known.
"""

from __future__ import annotations

import argparse
import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.metrics import roc_auc_score

import hf_finetune

SPLITS = {"train": "train", "val": "validation", "test": "test"}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("model")
    parser.add_argument("out", type=Path)
    parser.add_argument("--time", default="0s", help="budget.time of each run; 0s: the probe alone")
    options = parser.parse_args()
    classes = sorted(path.name for path in (options.data / "train").iterdir() if path.is_dir())
    found = [left_out(name, classes, options) for name in classes]
    means = {key: float(np.mean([each[key] for each in found])) for key in found[0] if key not in ("class", "rung")}
    options.out.mkdir(parents=True, exist_ok=True)
    text = json.dumps({"time": options.time, "classes": found, "mean": means}, indent=1)
    (options.out / f"none_of_these_{options.time}.json").write_text(text, encoding="utf-8")
    print(json.dumps(means, indent=1))


def left_out(name: str, classes: Sequence[str], options: argparse.Namespace) -> dict[str, Any]:
    """A run without this class, and what it says of the test and of that class."""
    options.out.mkdir(parents=True, exist_ok=True)
    table = options.out / f"without_{name}.csv"
    known = [each for each in classes if each != name]
    with table.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("image", "label", "split"))
        for folder, split in SPLITS.items():
            for each in known:
                writer.writerows((path, each, split) for path in sorted((options.data / folder / each).iterdir()))
    run = hf_finetune.train(
        {
            "model": {"name": options.model},
            "data": {"name": str(table), "label_column": "label"},
            "budget": {"time": options.time},
            "output": {"dir": str(options.out / f"run_{options.time}_{name}"), "existing": "overwrite"},
        }
    )
    model = run.model
    seen = [path for each in known for path in sorted((options.data / "test" / each).iterdir())]
    unseen = sorted((options.data / "test" / name).iterdir())
    said: list[Any] = model.predict([*seen, *unseen])
    unknown = np.arange(len(said)) >= len(seen)
    distances = np.array([each.distance for each in said])
    kept = [rung for rung in run.report["rungs"] if rung["kept"]]
    result = {
        "class": name,
        "rung": kept[-1]["rung"],
        "accuracy": run.report["test"]["accuracy"],
        "by_distance": float(roc_auc_score(unknown, distances)),
        "by_probability": float(roc_auc_score(unknown, [-each.probability for each in said])),
        "unlike_of_known": float((distances[~unknown] > 1).mean()),
        "unlike_of_unknown": float((distances[unknown] > 1).mean()),
        "covered": run.report["test"]["covered"],
    }
    print(json.dumps(result), flush=True)
    return result


if __name__ == "__main__":
    main()
