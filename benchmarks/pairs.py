"""Two labels an image: TrashNet's photos in pairs side by side, by the probe alone and under a budget.

    python benchmarks/pairs.py DATA OUT [--only probe …] [--seeds 0] [--budget 2m] [--results FILE]

DATA holds weights/ and datasets/ (the project's shared data). Each photo of a split is once put beside another of the
same split and of a different class, drawn with a fixed seed, so that there are as many pairs as photos and both labels
are true; which is on the left is drawn too. Each photo is scaled to half of a square image: the backbone sees a
square from its middle, and of two whole photos that would be their inner edges. Writes OUT/pairs/ (JPEGs and
pairs.csv: image, labels with `;` between, split), keeps finished runs in OUT/pairs.json, and prints a table. Every run
is a process of its own; the probe is the first and cold, what follows has its cache.
"""

from __future__ import annotations

import argparse
import csv
import json
import random
import shutil
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image
from process_tree import watch

HERE = Path(__file__).resolve().parent
SPLITS = {"train": "train", "val": "validation", "test": "test"}
# Each photo is scaled to half of a square, whatever that does to its proportions.
SIDE = 384
QUALITY = 90
FIGURES = ("map", "macro_f1", "micro_f1", "subset_accuracy")


def stitch(photos: Path, out: Path) -> None:
    """Write the pairs; what is there is kept, as its time of change is part of what caches go by."""
    table = out / "pairs.csv"
    if table.exists():
        return
    (out / "images").mkdir(parents=True, exist_ok=True)
    draw = random.Random(0)
    lines: list[tuple[str, str, str]] = []
    for name, split in SPLITS.items():
        files = sorted(file for file in (photos / name).glob("*/*") if file.is_file())
        for number, file in enumerate(files):
            other = draw.choice([each for each in files if each.parent.name != file.parent.name])
            sides = [file, other]
            draw.shuffle(sides)
            image = f"images/{split}_{number}.jpg"
            _side_by_side(sides).save(out / image, quality=QUALITY)
            lines.append((image, ";".join(sorted(side.parent.name for side in sides)), split))
    with table.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["image", "labels", "split"])
        writer.writerows(lines)


def _side_by_side(files: Sequence[Path]) -> Image.Image:
    pair = Image.new("RGB", (SIDE, SIDE))
    for place, file in enumerate(files):
        with Image.open(file) as photo:
            half = photo.convert("RGB").resize((SIDE // 2, SIDE), Image.Resampling.BICUBIC)
        pair.paste(half, (place * SIDE // 2, 0))
    return pair


def run(way: str, seed: int, options: argparse.Namespace) -> dict[str, Any]:
    """One run of the product, and what it took."""
    folder = options.out / "runs" / f"{way}-{seed}"
    shutil.rmtree(folder, ignore_errors=True)
    folder.parent.mkdir(exist_ok=True)
    content = {
        "model": {"name": str(options.data / "weights" / options.model)},
        "data": {"name": str(options.out / "pairs" / "pairs.csv"), "cache_dir": str(options.out / "cache")},
        "task": {"kind": "multilabel", "separator": ";"},
        "train": {"seed": seed},
        "budget": {"time": "0" if way == "probe" else options.budget},
        "output": {"dir": str(folder)},
    }
    recipe, log = folder.parent / f"{folder.name}.yaml", folder.parent / f"{folder.name}.log"
    recipe.write_text(json.dumps(content, indent=1), encoding="utf-8")  # JSON is YAML
    used = watch([sys.executable, "-m", "hf_finetune", "train", str(recipe)], log, {"PYTHONPATH": str(HERE.parent)})
    if used.code:
        raise SystemExit(f"{folder.name}: the run ended with {used.code}; see {log}")
    report = json.loads((folder / "run.json").read_text("utf-8"))
    rungs = [[each["rung"], each["seconds"], each["validation"]["map"]] for each in report["rungs"]]
    return {
        "way": way if way == "probe" else f"{way} {options.budget}",
        "seed": seed,
        "test_rows": report["test"]["rows"],
        "test": {key: report["test"][key] for key in FIGURES},
        "validation": {key: report["validation"][key] for key in FIGURES},
        "rungs": rungs,
        "kept": [each["rung"] for each in report["rungs"] if each["kept"]],
        "seconds": round(used.seconds, 1),
        "cpu_seconds": used.cpu_seconds,
    }


def table(rows: Sequence[dict[str, Any]]) -> str:
    lines = [f"| way | {' | '.join(FIGURES)} | validation map | seconds |", "|---" * (3 + len(FIGURES)) + "|"]
    for way in dict.fromkeys(row["way"] for row in rows):
        own = [row for row in rows if row["way"] == way]
        cells = [statistics.mean(row["test"][key] for row in own) for key in FIGURES]
        cells.append(statistics.mean(row["validation"]["map"] for row in own))
        spent = ", ".join(f"{row['seconds']:.0f}" for row in own)
        lines.append(f"| {way} | {' | '.join(f'{cell:.3f}' for cell in cells)} | {spent} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("data", "out"):
        parser.add_argument(name, type=Path)
    parser.add_argument("--only", nargs="+", choices=("probe", "ladder"), default=["probe", "ladder"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--budget", default="2m")
    parser.add_argument("--model", default="vit_tiny_timm", help="a folder of DATA/weights")
    parser.add_argument("--results", type=Path, help="a copy of the rows")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    options.data, options.out = options.data.resolve(), options.out.resolve()
    stitch(options.data / "datasets" / "trashnet", options.out / "pairs")
    kept = options.out / "pairs.json"
    rows: list[dict[str, Any]] = json.loads(kept.read_text("utf-8")) if kept.is_file() else []
    for seed in options.seeds:
        for way in options.only:
            named = way if way == "probe" else f"{way} {options.budget}"
            if any((row["way"], row["seed"]) == (named, seed) for row in rows):
                continue
            rows.append(run(way, seed, options))
            print(json.dumps(rows[-1]), flush=True)
            for path in filter(None, (kept, options.results)):
                path.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    print(table(rows))


if __name__ == "__main__":
    main()
