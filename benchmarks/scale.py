"""Scale by simulation: what a run costs against the number of images and of classes.

    python benchmarks/scale.py OUT [--images 1000 10000 100000] [--classes 10 1000 20000] [--model FOLDER]

Every size is a fresh set of synthetic photos (synthetic.py), a fresh cache, and whole processes of the product, once
with ladder=[probe] and once with ladder=[probe,cached], watched from outside (process_tree.py). The image counts run
with the first class count; the class counts with --class-images images, at least two a class. A photo set is deleted
when its runs are done. Prints markdown tables and writes OUT/scale.json. Seconds depend on what else the machine does;
bytes do not.
"""

from __future__ import annotations

import argparse
import json
import math
import shutil
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from process_tree import watch
from synthetic import write_tree

ROOT = Path(__file__).resolve().parents[1]
LADDERS = (("probe",), ("probe", "cached"))
RECIPE = {
    "task": {"kind": "classification"},
    "adapter": {"kind": "lora", "rank": 8},
    "train": {"effective_batch_size": 64, "learning_rate": 0.01, "seed": 0},
}
STAGES = ("scan and imports", "images", "model", "probe", "cached", "saving", "test", "rest", "total")
PER_IMAGE = ("images", "probe", "cached", "total")  # stages whose images a second are given


def exponent(sizes: Sequence[float], costs: Sequence[float]) -> float:
    """Slope of log cost over log size by least squares: 1 is linear growth, 2 quadratic, 0 none.

    Raises ValueError for fewer than two sizes, or a size or cost that is not above 0.
    """
    if len(set(sizes)) < 2 or min(*sizes, *costs) <= 0:
        raise ValueError(f"two sizes and costs above 0 are expected, got {list(sizes)} and {list(costs)}")
    x, y = [math.log(size) for size in sizes], [math.log(cost) for cost in costs]
    mean_x, mean_y = sum(x) / len(x), sum(y) / len(y)
    across = sum((a - mean_x) * (b - mean_y) for a, b in zip(x, y, strict=True))
    return across / sum((a - mean_x) ** 2 for a in x)


def run_one(photos: Path, images: int, classes: int, ladder: Sequence[str], model: str, out: Path) -> dict[str, Any]:
    """One whole run of the product on `photos`, and what it took."""
    name = f"{images}-{classes}-{ladder[-1]}"
    folder, cache = out / name, out / f"{name}.cache"
    for old in (folder, cache):
        shutil.rmtree(old, ignore_errors=True)
    content = {
        **RECIPE,
        "model": {"name": model},
        "data": {"name": str(photos), "cache_dir": str(cache)},
        "ladder": list(ladder),
        "output": {"dir": str(folder)},
    }
    recipe, log = out / f"{name}.yaml", out / f"{name}.log"
    recipe.write_text(json.dumps(content, indent=1), encoding="utf-8")  # JSON is YAML
    used = watch([sys.executable, "-m", "hf_finetune", "train", str(recipe)], log, {"PYTHONPATH": str(ROOT)})
    kept = sum(file.stat().st_size for file in cache.rglob("*") if file.is_file())
    shutil.rmtree(cache, ignore_errors=True)
    if used.code != 0:
        raise SystemExit(f"{name}: the run ended with {used.code}; see {log}")
    report = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    seconds = stage_seconds(report, used.seconds)
    return {
        "images": images,
        "classes": classes,
        "ladder": list(ladder),
        "validation_accuracy": report["validation"]["accuracy"],
        "seconds": seconds,
        "images_per_s": {stage: images / seconds[stage] for stage in PER_IMAGE if seconds.get(stage)},
        **{key: value for key, value in asdict(used).items() if key not in ("code", "seconds")},
        "cache_bytes": kept,
        "run_folder_bytes": sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()),
        "files": {
            file: (folder / file).stat().st_size for file in ("run.json", "predictions.csv", "adapter/README.md")
        },
    }


def stage_seconds(report: dict[str, Any], wall: float) -> dict[str, float]:
    """Seconds by stage; training by rung, and in `rest` what no stage holds, from the start to the exit."""
    stages = {name: spent for name, spent in report["seconds"].items() if name not in ("training", "total")}
    rungs = {rung["rung"]: rung["seconds"] for rung in report["rungs"]}
    known = {**stages, **rungs}
    return {**known, "rest": max(0.0, wall - sum(known.values())), "total": wall}


def growth(rows: Sequence[dict[str, Any]], by: str) -> list[dict[str, Any]]:
    """By ladder: exponents of each stage's seconds and of the bytes over `by`, and how far anonymous memory grew.

    `step_ms` is what one more of `by` took from each size to the next: start-up is not in it, so steps that rise are
    growth worse than linear.
    """
    found = []
    for ladder in LADDERS:
        those = sorted((row for row in rows if row["ladder"] == list(ladder)), key=lambda row: row[by])
        sizes = [row[by] for row in those]
        if len(set(sizes)) < 2:
            continue
        costs = {f"{stage} s": [row["seconds"].get(stage, 0.0) for row in those] for stage in STAGES}
        for part in ("anonymous_bytes", "mapped_bytes", "written_bytes", "run_folder_bytes"):
            costs[part] = [row[part] or 0.0 for row in those]
        totals = costs["total s"]
        steps = [
            1000 * (totals[i] - totals[i - 1]) / (sizes[i] - sizes[i - 1])
            for i in range(1, len(sizes))
            if sizes[i] > sizes[i - 1]
        ]
        found.append(
            {
                "ladder": list(ladder),
                "by": by,
                "sizes": sizes,
                "exponents": {name: exponent(sizes, values) for name, values in costs.items() if min(values) > 0},
                "anonymous_growth_bytes": those[-1]["anonymous_bytes"] - those[0]["anonymous_bytes"],
                "step_ms": steps,
            }
        )
    return found


def table(rows: Sequence[dict[str, Any]]) -> str:
    """One line a run, as Markdown."""
    columns = [*STAGES, "images/s", "anonymous MB", "mapped MB", "written MB", "run folder MB", "accuracy"]
    lines = [f"| images | classes | ladder | {' | '.join(columns)} |", "|---" * (3 + len(columns)) + "|"]
    for row in rows:
        cells = [f"{row['images']:,}", f"{row['classes']:,}", "+".join(row["ladder"])]
        cells += [f"{row['seconds'][stage]:.1f}" if stage in row["seconds"] else "" for stage in STAGES]
        cells.append(", ".join(f"{stage} {rate:,.0f}" for stage, rate in row["images_per_s"].items()))
        for part in ("anonymous_bytes", "mapped_bytes", "written_bytes", "run_folder_bytes"):
            cells.append(f"{row[part] / 1e6:,.1f}" if row[part] is not None else "unknown")
        lines.append(f"| {' | '.join(cells)} | {row['validation_accuracy']:.3f} |")
    return "\n".join(lines)


def growth_table(found: Sequence[dict[str, Any]]) -> str:
    """The fitted exponents as Markdown."""
    lines = ["| ladder | by | sizes | anonymous grew by MB | ms for one more | exponents |", "|---" * 6 + "|"]
    for each in found:
        exponents = ", ".join(f"{name.removesuffix('_bytes')} {value:.2f}" for name, value in each["exponents"].items())
        sizes = " ".join(f"{size:,}" for size in each["sizes"])
        steps = " ".join(f"{step:.2f}" for step in each["step_ms"])
        grew = each["anonymous_growth_bytes"] / 1e6
        lines.append(f"| {'+'.join(each['ladder'])} | {each['by']} | {sizes} | {grew:+,.0f} | {steps} | {exponents} |")
    return "\n".join(lines)


def cases(images: Sequence[int], classes: Sequence[int], class_images: int) -> list[tuple[int, int]]:
    """(images, classes) of every photo set, each once: all image counts, then all class counts with equal images."""
    fixed = max(class_images, 2 * max(classes))
    by_classes = [(fixed, count) for count in classes] if len(classes) > 1 else []
    return list(dict.fromkeys([(size, classes[0]) for size in images] + by_classes))


def read_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--images", nargs="+", type=int, default=[1_000, 10_000, 100_000])
    parser.add_argument("--classes", nargs="+", type=int, default=[10, 1_000, 20_000])
    parser.add_argument("--class-images", type=int, default=40_000)
    parser.add_argument("--model", default="builtin:starter")
    return parser.parse_args()


def main() -> None:
    options = read_arguments()
    out = options.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    rows: list[dict[str, Any]] = []
    grown: list[dict[str, Any]] = []
    for images, classes in cases(options.images, options.classes, options.class_images):
        photos = out / f"photos-{images}-{classes}"
        shutil.rmtree(photos, ignore_errors=True)
        write_tree(photos, images, classes)
        for ladder in LADDERS:
            rows.append(run_one(photos, images, classes, ladder, options.model, out))
            print(json.dumps(rows[-1]), flush=True)
            with_first = [row for row in rows if row["classes"] == options.classes[0]]
            with_most = [row for row in rows if row["images"] == images]
            grown = growth(with_first, "images") + (
                growth(with_most, "classes") if classes != options.classes[0] else []
            )
            (out / "scale.json").write_text(json.dumps({"runs": rows, "growth": grown}, indent=1), encoding="utf-8")
        shutil.rmtree(photos)
    print(f"\n{table(rows)}\n\n{growth_table(grown)}")


if __name__ == "__main__":
    main()
