"""The main job on real photos: three seeds a recipe, each accuracy reproduced by stock libraries alone.

    python benchmarks/real_data.py DATA_FOLDER OUT_FOLDER [--only NAME …] [--seeds 0 1 2]

DATA_FOLDER holds weights/ and datasets/ (the project's shared data). Every run is a whole process; a finished one is
reused, so that the command can be interrupted. Writes OUT_FOLDER/results.json and prints a markdown table.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from pathlib import Path

from options import read_options

ROOT = Path(__file__).resolve().parents[1]
LONG = ["ladder=[probe,full]", "train.learning_rate=auto"]
# name -> (recipe, weights, dataset, test folder, overrides, flags of stock_accuracy.py)
CASES: dict[str, tuple[str, str, str, str, list[str], list[str]]] = {
    "trashnet_timm": ("trashnet_vit_tiny", "vit_tiny_timm", "trashnet", "test", [], []),
    "trashnet_int8": ("trashnet_vit_tiny", "vit_tiny_timm", "trashnet", "test", ["quantization.kind=int8"], ["--int8"]),
    "trashnet_nf4": ("trashnet_vit_tiny", "vit_tiny_timm", "trashnet", "test", ["quantization.kind=nf4"], ["--nf4"]),
    "hymenoptera_timm": ("hymenoptera_vit_tiny", "vit_tiny_timm", "hymenoptera", "val", [], []),
    "trashnet_transformers": ("trashnet_vit_tiny", "vit_tiny_transformers", "trashnet", "test", [], []),
    # Its blocks cannot be cut, so that full does the work, at a rate for longer runs than the recipe's.
    "trashnet_mobilenetv2": ("trashnet_vit_tiny", "mobilenetv2_timm", "trashnet", "test", LONG, []),
    "hymenoptera_transformers": ("hymenoptera_vit_tiny", "vit_tiny_transformers", "hymenoptera", "val", [], []),
}


def run_case(name: str, seed: int, data: Path, out: Path) -> dict[str, object]:
    recipe, weights, dataset, test, overrides, flags = CASES[name]
    folder = out / f"{name}-{seed}"
    command = [
        *(sys.executable, "-m", "hf_finetune", "train", str(ROOT / "recipes" / f"{recipe}.yaml")),
        *(f"model.name={data / 'weights' / weights}", f"data.name={data / 'datasets' / dataset}"),
        *(f"output.dir={folder}", f"train.seed={seed}", *overrides),
    ]
    with (out / f"{name}-{seed}.log").open("w") as log:
        subprocess.run(command, check=True, stdout=log, stderr=subprocess.STDOUT)
    report = json.loads((folder / "run.json").read_text())
    stock = [sys.executable, str(ROOT / "benchmarks" / "stock_accuracy.py"), str(folder / "adapter")]
    answer = subprocess.run(
        [*stock, str(data / "datasets" / dataset / test), *flags], check=True, capture_output=True, text=True
    )
    reproduced = json.loads(answer.stdout.strip().splitlines()[-1])
    return {
        "case": name,
        "seed": seed,
        "test": report["test"]["accuracy"],
        "stock": reproduced["accuracy"],
        "validation": report["validation"]["accuracy"],
        "seconds": report["seconds"]["total"],
        "rungs": [[rung["rung"], rung["validation"]["accuracy"], rung["seconds"]] for rung in report["rungs"]],
        "anonymous_mb": report["peak_bytes"]["anonymous"] / 1e6,
        "resident_mb": report["peak_bytes"]["resident"] / 1e6,
        "predicted": reproduced["predicted"],
    }


def table(results: list[dict[str, object]]) -> str:
    lines = [
        "| case | seeds | test accuracy | by stock libraries | seconds | peak MB anonymous (resident) |",
        "|---|---|---|---|---|---|",
    ]
    for name in CASES:
        rows = [row for row in results if row["case"] == name]
        if not rows:
            lines.append(f"| {name} | 0 | not run | | | |")
            continue

        def column(key: str, rows: list[dict[str, object]] = rows) -> list[float]:
            return [float(row[key]) for row in rows]  # pyright: ignore[reportArgumentType]

        spread = " ".join(f"{value:.4f}" for value in column("test"))
        lines.append(
            f"| {name} | {len(rows)} | {statistics.mean(column('test')):.4f} ({spread}) | "
            f"{statistics.mean(column('stock')):.4f} | {statistics.median(column('seconds')):.0f} | "
            f"{max(column('anonymous_mb')):.0f} ({max(column('resident_mb')):.0f}) |"
        )
    return "\n".join(lines)


def main() -> None:
    options = read_options(__doc__, CASES)
    results = []
    for seed in options.seeds:
        for name in options.only:
            results.append(run_case(name, seed, options.data, options.out))
            last = {key: value for key, value in results[-1].items() if key != "predicted"}
            print(json.dumps(last), flush=True)
            (options.out / "results.json").write_text(json.dumps(results, indent=1))
    print(table(results))


if __name__ == "__main__":
    main()
