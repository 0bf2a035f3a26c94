"""Every method on the same photos, from the start of its process to a saved model, beside each other in one go.

    python benchmarks/compare.py DATA OUT RESULTS --cases hymenoptera-100 [--small] [--methods SLUG …] [--seeds 0 1 2]

DATA holds weights/ and datasets/; OUT is scratch; RESULTS (a folder of docs/results) gets runs.json and the predicted
class of each test photo. Runs that RESULTS holds already are not run again: delete it to measure anew. Seeds are the
outer loop and methods the inner one, so that the machine's moods hit all methods alike. A method that cannot run here
gets a row with the reason.
"""

from __future__ import annotations

import argparse
import csv
import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from cases import CASES, NoDataError, make_case
from environments import environment, versions_of
from methods import LARGE, METHODS, NO_LIMIT, SMALL, Method, command_of, first, in_order, result_of, told_by
from process_tree import Usage, watch
from results import Results, about_machine
from work import work_of

HERE = Path(__file__).resolve().parent
MODEL = "vit_tiny_timm"
OFFLINE = {"HF_HUB_OFFLINE": "1"}  # every method gets its weights from a folder
TAIL = 300  # characters of a failed run's log that the table can show


def settings_of(method: Method, case: str, out: Path) -> dict[str, Any]:
    """What the command line needs beyond the method: its environment, and tuned values. Raises NoDataError."""
    found: dict[str, Any] = {}
    if method.environment:
        python, reason = environment(out / "environments", method.environment)
        if python is None:
            raise NoDataError(f"its environment: {reason}")
        found["python"], found["versions"] = python, versions_of(out / "environments", method.environment)
    if method.script and method.variant == "tuned":
        tuned = HERE / "tuned" / f"{CASES[case].dataset}.json"
        values = json.loads(tuned.read_text("utf-8")) if tuned.is_file() else {}
        own = values.get(method.script.removesuffix(".py"))
        if own is None:
            raise NoDataError(f"no learning rate was tuned on {CASES[case].dataset} (make bench-tune)")
        found["learning_rate"] = own["learning_rate"]
    return found


def nameless(text: str, options: argparse.Namespace) -> str:
    """The text without this machine's folders, since reasons are published."""
    for folder, name in (
        (options.out, "SCRATCH"),
        (options.data, "DATA"),
        (HERE.parent, "."),
        (Path(sys.prefix), "PYTHON"),
    ):
        text = text.replace(str(folder), name)
    return text


def with_budget(method: Method, case: str, seed: int, results: Results) -> Method:
    """The method, its budget in seconds where it is a share of what the first reference took with the same seed.

    Raises NoDataError where that was not run, and for a budget that the ladder would not use up.
    """
    if method.share is not None:
        reference_s = results.seconds(case, first(), seed)
        if reference_s is None:
            raise NoDataError("its budget is a share of what the transformers example takes, which was not run")
        method = replace(method, budget=round(method.share * reference_s, 1))
    whole_s = results.seconds(case, NO_LIMIT, seed)
    if whole_s is not None and method.budget and method.budget > whole_s:
        raise NoDataError(f"without a limit the ladder ends sooner ({METHODS[NO_LIMIT].title})")
    return method


def predictions_of(method: Method, out: Path, photos: Path) -> dict[str, str]:
    """CLASS/file -> class, of the test photos: by stock libraries in a process of their own, or as the method wrote."""
    if not method.stock:
        with (out / "predictions.csv").open(encoding="utf-8", newline="") as file:
            return {row["file"].replace("\\", "/"): row["predicted"] for row in csv.DictReader(file)}
    answer = out / "stock.log"
    command = [sys.executable, str(HERE / "stock_accuracy.py"), str(result_of(method, out)), str(photos / "test")]
    if watch(command, answer).code:
        raise RuntimeError(f"stock libraries do not load {result_of(method, out)}: {answer.read_text('utf-8')[-TAIL:]}")
    return json.loads(answer.read_text("utf-8").strip().splitlines()[-1])["predicted"]


def measure(method: Method, case: str, seed: int, photos: Path, options: argparse.Namespace) -> dict[str, Any]:
    """One run: what was watched, what the method said, and its predictions. Raises NoDataError where it cannot run."""
    settings = settings_of(method, case, options.out)
    out = options.out / "runs" / f"{case}-{method.slug}-{seed}"
    cache = options.out / "caches" / f"{case}-{replace(method, warm=False).slug}"
    shutil.rmtree(out, ignore_errors=True)
    if not method.warm:
        shutil.rmtree(cache, ignore_errors=True)
    model = options.data / "weights" / MODEL
    command = command_of(method, model, photos, out, cache, seed, settings, CASES[case].flip)
    if method.warm and not cache.exists():  # the cold run was taken from an earlier go: fill the caches again
        watch(command, options.out / "logs" / "filling.log", OFFLINE)
        shutil.rmtree(out, ignore_errors=True)
    watched = watch(command, options.out / "logs" / f"{case}-{method.slug}-{seed}.log", OFFLINE)
    if watched.code:
        log = (options.out / "logs" / f"{case}-{method.slug}-{seed}.log").read_text("utf-8", "replace")
        raise RuntimeError(f"exit {watched.code}: {log[-TAIL:]}")
    row = {**row_of(method, out, watched), "predicted": predictions_of(method, out, photos)}
    shutil.rmtree(out)
    return {"case": case, "method": method.slug, "seed": seed, "work": options.work, **settings_shown(settings), **row}


def settings_shown(settings: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in settings.items() if key != "python"}


def row_of(method: Method, out: Path, watched: Usage) -> dict[str, Any]:
    told = told_by(method, out, watched.seconds)
    return {
        "seconds": told.saved_s,
        "process_seconds": watched.seconds,
        "cpu_seconds": watched.cpu_seconds,
        "anonymous_bytes": watched.anonymous_bytes,
        "baseline_bytes": told.baseline_bytes,
        "resident_bytes": watched.resident_bytes,
        "device_bytes": told.device_bytes,
        "bytes_written": watched.written_bytes,
        "validations": told.validations,
        "stages": told.stages,
    }


def run_all(options: argparse.Namespace, results: Results) -> bool:
    """Run what is missing; whether this machine may add to any of the cases."""
    refusals = {case: results.refusal(case) for case in options.cases}
    for case, refusal in refusals.items():
        if refusal is not None:
            print(f"{case}: nothing added: {refusal}", flush=True)
            continue
        try:
            if not (options.data / "weights" / MODEL).is_dir():
                raise NoDataError(f"no weights/{MODEL} in the data folder")
            photos = make_case(case, options.data, options.out / "cases")
        except NoDataError as reason:
            results.set_aside(case, None, str(reason))
            print(f"{case}: not run: {reason}", flush=True)
            continue
        results.set_truth(case, sorted(path.parent.name + "/" + path.name for path in (photos / "test").glob("*/*")))
        for seed in options.seeds:
            for slug in options.methods:
                if results.holds(case, slug, seed):
                    continue
                try:
                    method = with_budget(METHODS[slug], case, seed, results)
                    row = measure(method, case, seed, photos, options)
                except (NoDataError, RuntimeError) as reason:
                    results.set_aside(case, slug, nameless(str(reason), options))
                    print(f"{case} {slug} seed {seed}: {reason}", flush=True)
                    continue
                results.add(row)
                print(results.line(case, slug, seed), flush=True)
    return None in refusals.values()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("data", "out", "results"):
        parser.add_argument(name, type=Path)
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES), metavar="CASE")
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(LARGE), metavar="METHOD")
    parser.add_argument("--small", action="store_true", help="the methods of `make bench` alone")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    options = parser.parse_args()
    options.data, options.out = options.data.resolve(), options.out.resolve()
    (options.out / "logs").mkdir(parents=True, exist_ok=True)
    options.methods = in_order(SMALL if options.small else options.methods)
    results = Results(options.results.resolve(), about_machine())
    if (options.data / "weights" / MODEL).is_dir():
        options.work = work_of(options.data / "weights" / MODEL)
    if not run_all(options, results):
        sys.exit(1)


if __name__ == "__main__":
    main()
