"""Ladders under one budget of time, compared on photos that are held out of training and validation; no test is seen.

    python benchmarks/ladders.py DATA OUT --size 500 --budget 60s [--only digits …] [--cuts 0 1 2] [--set KEY=VALUE …]

Training and validation photos of a data set are pooled and cut anew, by class, with the number of the cut: `size` to
train on, as many as before (at most half of the rest) to choose by, the others are held out and scored at the end. Each
run is the product's own, a process of its own, warm: a run of the probe alone fills the cache before. Writes
OUT/ladders.json and prints a markdown table.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cases import CASES, Photo, Splits, by_class, recut
from grouped import by_data

RECIPE = Path(__file__).resolve().parent / "recipes" / "shipped.yaml"
DATASETS = ("trashnet", "houses", "digits")
LADDERS = ("probe", "probe,cached", "probe,full", "probe,cached,full")


def cut_in_three(dataset: str, size: int, cut: int, data: Path, out: Path) -> Path:
    """A tree of the data set's training and validation photos; what is left out of both is its test."""

    def share(photos: list[Photo], validation: int) -> Splits:
        train, rest = by_class(photos, size / len(photos), cut)
        chosen_by, held_out = by_class(rest, min(validation / len(rest), 0.5), cut)
        return {"train": train, "validation": chosen_by, "test": held_out}

    return recut(f"{dataset}-all", out / "cuts" / f"{dataset}-{size}-{cut}", data, out / "cases", share)


def climb(dataset: str, ladder: str, cut: int, options: argparse.Namespace) -> dict[str, Any]:
    """What one run was worth on the photos that are held out."""
    photos, run = cut_in_three(dataset, options.size, cut, options.data, options.out), options.out / "run"
    shutil.rmtree(run, ignore_errors=True)
    settings = [f"model.name={options.data / 'weights' / options.model}", f"data.name={photos}", f"output.dir={run}"]
    settings += [f"data.cache_dir={options.out / 'cache'}", f"train.seed={cut}", f"ladder=[{ladder}]", *options.set]
    settings += [] if CASES[f"{dataset}-all"].flip else ["augment.flip=0"]
    settings += [] if ladder == "probe" else [f"budget.time={options.budget}"]
    command = [sys.executable, "-m", "hf_finetune", "train", str(RECIPE), *settings]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{dataset} {ladder}: {done.stderr[-2000:]}")
    report = json.loads((run / "run.json").read_text("utf-8"))
    rungs = {each["rung"]: [each["validation"]["accuracy"], each["step"], each["seconds"]] for each in report["rungs"]}
    named = ladder if ladder == "probe" else f"{ladder} in {options.budget}"
    row = {"data": f"{dataset}-{options.size}", "cut": cut, "ladder": named}
    return {**row, "set": options.set, "accuracy": report["test"]["accuracy"], "rungs": rungs}


def table(rows: Sequence[dict[str, Any]]) -> str:
    names, ladders = by_data(rows, "ladder")
    lines = [f"| ladder | {' | '.join(names)} |", "|---" * (1 + len(names)) + "|"]
    for ladder, accuracies in ladders.items():
        cells = [
            f"{statistics.mean(found):.3f} ({' '.join(f'{value:.3f}' for value in found)})" if found else ""
            for found in accuracies
        ]
        lines.append(f"| {ladder} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="a folder with weights/ and datasets/")
    parser.add_argument("out", type=Path)
    parser.add_argument("--size", type=int, required=True, help="training photos")
    parser.add_argument("--budget", default="60s", help="of each run but the probe's")
    parser.add_argument("--ladders", nargs="+", default=LADDERS[1:], choices=LADDERS[1:])
    parser.add_argument("--only", nargs="+", default=DATASETS, choices=("hymenoptera", *DATASETS))
    parser.add_argument("--cuts", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--model", default="vit_tiny_timm", help="a folder of DATA/weights")
    parser.add_argument("--set", nargs="+", default=[], metavar="KEY=VALUE", help="of the recipe, for every run")
    options = parser.parse_args()
    written = options.out / "ladders.json"
    rows: list[dict[str, Any]] = json.loads(written.read_text("utf-8")) if written.is_file() else []
    for dataset in options.only:
        for cut in options.cuts:
            for ladder in ("probe", *options.ladders):
                rows.append(climb(dataset, ladder, cut, options))
                print(json.dumps(rows[-1]), flush=True)
                written.write_text(json.dumps(rows, indent=1), encoding="utf-8")
    print(table(rows))


if __name__ == "__main__":
    main()
