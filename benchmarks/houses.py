"""Numbers, grades and both at once on photos of houses: the product beside AutoGluon, on the same rows.

    python benchmarks/houses.py DATA OUT [--environments FOLDER] [--only price autogluon …] [--seeds 0 1 2]
                                          [--ways probe ladder] [--budget 2m] [--results FILE]

DATA holds weights/ and datasets/ (the project's shared data). One cut is drawn by the product (data.split_seed=0) and
written as OUT/houses.csv with a split column, from which everybody reads; only `coverage` and `folds` cut anew.

    price      logarithm of the price: the probe alone (budget.time=0) and under the budget
    autogluon  the same with references/autogluon_regression.py: its defaults (`full`), its defaults with the budget as
               its own time limit, and its tutorial's LoRA (needs the environment, see environments.py)
    bedrooms   grades (`task.kind=ordinal`)
    together   price and bedrooms as two targets of one run
    coverage   what the 90 % intervals cover on the test, split seeds 0 to 4, the probe
    folds      `evaluate --folds 5`

Every run is a process of its own, with the cache of the one before it: the first is cold. R² is of the logarithm, from
the predictions, by one formula for all. A finished run is kept in OUT/houses.json and not repeated. Prints tables.
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import shutil
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from environments import environment, versions_of
from process_tree import watch

from hf_finetune.data.index.scan import scan
from hf_finetune.recipe.recipe import load_recipe
from hf_finetune.units import parse_seconds

HERE = Path(__file__).resolve().parent
PARTS = ("price", "autogluon", "bedrooms", "together", "coverage", "folds")
# Small on purpose: what a person must say.
PRICE = {"label_column": "price_usd"}, {"kind": "regression", "log": True}
BEDROOMS = {"label_column": "bedrooms"}, {"kind": "ordinal"}
TOGETHER = {}, {"targets": {"price_usd": {"kind": "regression", "log": True}, "bedrooms": "ordinal"}}
CUTS = range(5)
AUTOGLUON_VERSIONS = ("autogluon.multimodal", "torch", "timm")


def r2(predicted: Sequence[float], true: Sequence[float]) -> float:
    mean = statistics.mean(true)
    return 1 - sum((a - b) ** 2 for a, b in zip(predicted, true, strict=True)) / sum((b - mean) ** 2 for b in true)


def prices(said: Mapping[str, float], true: Mapping[str, float]) -> dict[str, float]:
    """R² of logarithms and mean absolute error of prices. Raises KeyError where a photo was not predicted."""
    files = sorted(true)
    logs = [math.log(said[file]) for file in files], [math.log(true[file]) for file in files]
    error = statistics.mean(abs(said[file] - true[file]) for file in files)
    return {"test_rows": len(files), "r2": r2(*logs), "mae": error}


class Bench:
    """The table, the cache and the rows measured so far."""

    def __init__(self, options: argparse.Namespace) -> None:
        self._options = options
        self._houses = options.data / "datasets" / "houses"
        self._model = options.data / "weights" / options.model
        self.table = options.out / "houses.csv"
        self._kept = options.out / "houses.json"
        if not self.table.exists():
            self._cut()
        with self.table.open(encoding="utf-8") as file:
            self.true = {
                row["image"]: float(row["price_usd"]) for row in csv.DictReader(file) if row["split"] == "test"
            }

    def _cut(self) -> None:
        data = {"name": str(self._houses / "houses.csv"), "split_seed": 0, "label_column": "price_usd"}
        recipe = load_recipe({"model": {"name": str(self._model)}, "data": data, "task": PRICE[1]}, [])
        splits = scan(recipe.data, seed=0, reading=recipe.task.reading).splits
        split_of = {row.name: split for split, rows in splits.items() for row in rows}
        with (self._houses / "houses.csv").open(encoding="utf-8") as file:
            rows = [row for row in csv.DictReader(file) if row["image"] in split_of]
        with self.table.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(["image", "price_usd", "bedrooms", "number", "split"])
            for row in rows:
                path, logarithm = self._houses / row["image"], math.log(float(row["price_usd"]))
                writer.writerow([path, row["price_usd"], row["bedrooms"], logarithm, split_of[row["image"]]])

    @property
    def rows(self) -> list[dict[str, Any]]:
        """What is kept; read anew, as another part may be measured at the same time."""
        return json.loads(self._kept.read_text("utf-8")) if self._kept.is_file() else []

    def once(self, part: str, way: str, seed: int, measured: Callable[[Path], dict[str, Any]]) -> None:
        """Measure and keep, unless it was; the callable gets a folder that does not exist yet."""
        if any((row["part"], row["way"], row["seed"]) == (part, way, seed) for row in self.rows):
            return
        folder = self._options.out / "runs" / f"{part}-{way}-{seed}".replace(" ", "-")
        shutil.rmtree(folder, ignore_errors=True)
        folder.parent.mkdir(exist_ok=True)
        row = {"part": part, "way": way, "seed": seed, **measured(folder)}
        print(json.dumps(row), flush=True)
        rows = [*self.rows, row]
        for path in filter(None, (self._kept, self._options.results)):
            path.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")

    def recipe(self, kind: tuple[dict[str, Any], dict[str, Any]], folder: Path, **sections: Any) -> Path:
        data, task = kind
        content = {
            "model": {"name": str(self._model)},
            "data": {"name": str(self.table), "cache_dir": str(self._options.out / "cache"), **data},
            "task": task,
            "output": {"dir": str(folder)},
            **{name: value for name, value in sections.items() if name != "data"},
        }
        content["data"] |= sections.get("data", {})
        path = folder.parent / f"{folder.name}.yaml"
        path.write_text(json.dumps(content, indent=1), encoding="utf-8")  # JSON is YAML
        return path

    def ours(self, recipe: Path, folder: Path) -> dict[str, Any]:
        """One run of the product: what it reports of validation and test, and what it took."""
        log = folder.parent / f"{folder.name}.log"
        path = {"PYTHONPATH": str(HERE.parent)}
        used = watch([sys.executable, "-m", "hf_finetune", "train", str(recipe)], log, path)
        if used.code:
            raise SystemExit(f"{folder.name}: the run ended with {used.code}; see {log}")
        report = json.loads((folder / "run.json").read_text("utf-8"))
        kept = [rung["rung"] for rung in report["rungs"] if rung["kept"]]
        return {
            "validation": figures(report["validation"]),
            "test": figures(report["test"]),
            "rungs": [[rung["rung"], rung["seconds"], figures(rung["validation"])] for rung in report["rungs"]],
            "kept": kept,
            "seconds": round(used.seconds, 1),
            "cpu_seconds": used.cpu_seconds,
        }

    def train(self, part: str, kind: tuple[dict[str, Any], dict[str, Any]], budget: str, seed: int) -> None:
        def measured(folder: Path) -> dict[str, Any]:
            recipe = self.recipe(kind, folder, train={"seed": seed}, budget={"time": budget})
            row = self.ours(recipe, folder)
            if part == "price":
                with (folder / "predictions.csv").open(encoding="utf-8") as file:
                    lines = [line for line in csv.DictReader(file) if line["split"] == "test"]
                said = {str(self._houses / line["row"]): float(line["predicted"]) for line in lines}
                row |= prices({_whole(name, self.true): value for name, value in said.items()}, self.true)
            return row

        self.once(part, way_of(budget), seed, measured)

    def coverage(self, cut: int) -> None:
        def measured(folder: Path) -> dict[str, Any]:
            data = {"name": str(self._houses / "houses.csv"), "split_seed": cut}
            return self.ours(self.recipe(PRICE, folder, data=data, budget={"time": 0}), folder)

        self.once("coverage", "probe", cut, measured)

    def folds(self) -> None:
        def measured(folder: Path) -> dict[str, Any]:
            data = {"name": str(self._houses / "houses.csv"), "split_seed": 0}
            recipe = self.recipe(PRICE, folder, data=data)
            command = [sys.executable, "-m", "hf_finetune", "evaluate", str(recipe), "--folds", "5", "--json"]
            done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=HERE.parent)
            found = json.loads(done.stdout)
            return {"found": {key: found[key] for key in ("folds", "rows", "sizes", "metrics")}}

        self.once("folds", "five", 0, measured)

    def autogluon(self, way: str, limit: float | None, seed: int) -> None:
        python, reason = environment(self._options.environments, "autogluon")
        if python is None:
            raise SystemExit(f"autogluon: {reason}")

        def measured(folder: Path) -> dict[str, Any]:
            script, log = HERE / "references" / "autogluon_regression.py", folder.parent / f"{folder.name}.log"
            command = [python, str(script), "--model", str(self._model), "--data", str(self.table), "--way", way]
            command += ["--out", str(folder), "--seed", str(seed)]
            command += [] if limit is None else ["--time-limit", str(round(limit))]
            used = watch(command, log, {"PYTHONPATH": ""})
            if used.code:
                raise SystemExit(f"{folder.name}: AutoGluon ended with {used.code}; see {log}")
            lines = [json.loads(line) for line in (folder / "progress.jsonl").read_text("utf-8").splitlines()]
            with (folder / "predictions.csv").open(encoding="utf-8") as file:
                said = {row["image"]: math.exp(float(row["predicted"])) for row in csv.DictReader(file)}
            return {
                "validation": {"r2": next(line["validation"] for line in lines if "validation" in line)},
                **prices(said, self.true),
                "seconds": round(used.seconds, 1),
                "cpu_seconds": used.cpu_seconds,
                "versions": versions_of(self._options.environments, "autogluon", AUTOGLUON_VERSIONS),
            }

        self.once("autogluon", way if limit is None else f"{way} {self._options.budget}", seed, measured)


def _whole(name: str, known: Iterable[str]) -> str:
    """The table's path of a predicted row, whether its name is the path or what follows the table's folder."""
    return next(path for path in known if path == name or path.endswith("/" + name.rpartition("/")[2]))


def figures(score: Mapping[str, Any]) -> dict[str, float]:
    """The plain numbers of a score, without the ends of intervals."""
    return {
        key: value
        for key, value in score.items()
        if isinstance(value, int | float) and not key.endswith(("_low", "_high"))
    }


def way_of(budget: str) -> str:
    return "probe" if budget == "0" else f"ladder {budget}"


def tables(rows: Sequence[dict[str, Any]]) -> str:
    """The means over seeds, with the seeds behind them."""
    lines = ["| what | way | figure | mean (each seed) | seconds |", "|---|---|---|---|---|"]
    for part, way in dict.fromkeys((row["part"], row["way"]) for row in rows if row["part"] != "folds"):
        own = [row for row in rows if (row["part"], row["way"]) == (part, way)]
        spent = ", ".join(f"{row['seconds']:.0f}" for row in own)
        flat = [{**row.get("test", {}), **{key: row[key] for key in ("r2", "mae") if key in row}} for row in own]
        flat = [{**each, "validation r2": row["validation"].get("r2")} for each, row in zip(flat, own, strict=True)]
        for key in ("r2", "validation r2", "mae", "covered", "kappa", "accuracy", *_of_targets(flat)):
            values = [each[key] for each in flat if each.get(key) is not None]
            if values:
                form = "{:.0f}" if key.endswith("mae") else "{:.3f}"
                each = " ".join(map(form.format, values))
                lines.append(f"| {part} | {way} | {key} | {form.format(statistics.mean(values))} ({each}) | {spent} |")
    return "\n".join(
        [*lines, *(f"folds: R² {json.dumps(row['found']['metrics']['r2'])}" for row in rows if row["part"] == "folds")]
    )


def _of_targets(scores: Iterable[Mapping[str, Any]]) -> list[str]:
    wanted = (".r2", ".covered", ".kappa", ".accuracy")
    return list(dict.fromkeys(key for score in scores for key in score if key.endswith(wanted)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("data", "out"):
        parser.add_argument(name, type=Path)
    parser.add_argument("--environments", type=Path, default=Path(".bench/environments"))
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2], help="of price, bedrooms, together")
    parser.add_argument("--ways", nargs="+", choices=("probe", "ladder"), default=["probe", "ladder"])
    parser.add_argument("--autogluon-seeds", nargs="+", type=int, default=[0, 1])
    parser.add_argument("--autogluon-ways", nargs="+", choices=("full", "limited", "lora"))
    parser.add_argument("--budget", default="2m")
    parser.add_argument("--model", default="vit_tiny_timm", help="a folder of DATA/weights")
    parser.add_argument("--results", type=Path, help="a copy of the rows")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    options.data, options.out = options.data.resolve(), options.out.resolve()
    bench = Bench(options)
    kinds = {"price": PRICE, "bedrooms": BEDROOMS, "together": TOGETHER}
    limit = parse_seconds(options.budget)
    ways = {"limited": ("full", limit), "lora": ("lora", None), "full": ("full", None)}
    for part in options.only:
        if part == "autogluon":
            for way in options.autogluon_ways or ways:
                for seed in options.autogluon_seeds:
                    bench.autogluon(*ways[way], seed)
        elif part == "coverage":
            for cut in CUTS:
                bench.coverage(cut)
        elif part == "folds":
            bench.folds()
        else:
            for seed in options.seeds:
                for budget in [{"probe": "0", "ladder": options.budget}[way] for way in options.ways]:
                    bench.train(part, kinds[part], budget, seed)
    print(tables(bench.rows))


if __name__ == "__main__":
    main()
