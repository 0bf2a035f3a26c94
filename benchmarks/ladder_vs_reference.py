"""The ladder under time budgets beside the standard script, on real photos, in one run.

    python benchmarks/ladder_vs_reference.py DATA_FOLDER OUT_FOLDER [--seeds 0 1 2]

For each seed: the reference (references/transformers_example.py), then the ladder with `budget.time` a fifth and a
third of the time that the reference has just taken, with empty caches, and an eighth with the caches of the run before.
Wall clock from process start to exit; accuracies are those of a process with stock libraries alone that reads the
official test photos. Writes OUT_FOLDER/ladder.json and prints a markdown table. About 12 minutes a seed on two cores.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
RECIPE = ROOT / "benchmarks" / "recipes" / "ladder_trashnet.yaml"
# name -> (share of the reference's time, whether the caches are warm)
CASES = {"a fifth, cold": (1 / 5, False), "an eighth, warm": (1 / 8, True), "a third, cold": (1 / 3, False)}


def timed(command: list[str], log: Path) -> tuple[float, str]:
    """Run a process; its wall seconds and standard output."""
    started = time.monotonic()
    with log.open("w", encoding="utf-8") as errors:
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=errors, text=True)
    return time.monotonic() - started, done.stdout


def stock_accuracy(result: Path, test: Path) -> float:
    script = str(ROOT / "benchmarks" / "stock_accuracy.py")
    _, out = timed([sys.executable, script, str(result), str(test)], result.parent / "stock.log")
    return float(json.loads(out.strip().splitlines()[-1])["accuracy"])


def run_reference(seed: int, model: Path, data: Path, out: Path) -> dict[str, Any]:
    script = str(ROOT / "benchmarks" / "references" / "transformers_example.py")
    folder = out / f"reference-{seed}"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    command = [sys.executable, script, str(model), str(data / "train"), str(data / "val"), str(folder)]
    seconds, said = timed([*command, "--seed", str(seed)], folder / "log")
    found = json.loads(said.strip().splitlines()[-1])
    return {
        "case": "reference",
        "seed": seed,
        "seconds": seconds,
        "accuracy": stock_accuracy(folder / "model", data / "test"),
        "above_baseline_mb": (found["anonymous_bytes"] - found["baseline_bytes"]) / 1e6,
        "validation": found["validation"],
    }


def run_ladder(name: str, seed: int, budget: float, model: Path, data: Path, out: Path) -> dict[str, Any]:
    folder, cache = out / f"{name.replace(' ', '-').replace(',', '')}-{seed}", out / "cache"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    if not CASES[name][1]:
        shutil.rmtree(cache, ignore_errors=True)
    command = [sys.executable, "-m", "hf_finetune", "train", str(RECIPE), f"model.name={model}", f"data.name={data}"]
    command += [f"data.cache_dir={cache}", f"output.dir={folder / 'run'}", f"train.seed={seed}"]
    seconds, _ = timed([*command, f"budget.time={budget:.1f}s"], folder / "log")
    report = json.loads((folder / "run" / "run.json").read_text("utf-8"))
    peak = report["peak_bytes"]
    return {
        "case": name,
        "seed": seed,
        "budget": budget,
        "seconds": seconds,
        "accuracy": stock_accuracy(folder / "run" / "adapter", data / "test"),
        "reported": report["test"]["accuracy"],
        "above_baseline_mb": (peak["anonymous"] - peak["baseline"]) / 1e6,
        "rungs": [[r["rung"], r["validation"]["accuracy"], r["seconds"], r["kept"]] for r in report["rungs"]],
    }


def table(results: list[dict[str, Any]]) -> str:
    lines = ["| run | seeds | test accuracy | seconds | MB above baseline |", "|---|---|---|---|---|"]
    for name in ("reference", *CASES):
        rows = [row for row in results if row["case"] == name]
        if rows:
            each = " ".join(f"{row['accuracy']:.3f}" for row in rows)
            lines.append(
                f"| {name} | {len(rows)} | {statistics.mean(row['accuracy'] for row in rows):.3f} ({each}) | "
                f"{statistics.median(row['seconds'] for row in rows):.0f} | "
                f"{max(row['above_baseline_mb'] for row in rows):.0f} |"
            )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    options = parser.parse_args()
    model = (options.data / "weights" / "vit_tiny_timm").resolve()
    data = (options.data / "datasets" / "trashnet").resolve()
    out = options.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    results: list[dict[str, Any]] = []
    for seed in options.seeds:
        reference = run_reference(seed, model, data, out)
        results.append(reference)
        print(json.dumps(reference), flush=True)
        for name, (share, _) in CASES.items():
            results.append(run_ladder(name, seed, reference["seconds"] * share, model, data, out))
            print(json.dumps(results[-1]), flush=True)
            (out / "ladder.json").write_text(json.dumps(results, indent=1), encoding="utf-8")
    print(table(results))


if __name__ == "__main__":
    main()
