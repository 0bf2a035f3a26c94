"""Settings of the trained rungs, compared on photos that are held out of training and validation; no test is looked at.

    python benchmarks/settings.py DATA OUT RUNG [--start probe] [--only trashnet …] [--cuts 0 1 2] --settings epochs=4 …

Training and validation photos of a data set are pooled and cut anew, by class, with the number of the cut. Every
setting starts from the probe of that cut (RUNG full: from the cached rung that the plan makes of it, where that is
better on what is held out, or with --start probe from the probe as well) and passes over the same photos; what is
scored are the last weights (of schedule auto, their average), not the best of several evaluations. A setting is a list
of `epochs` (passes), `batch`, `rate`, `smoothing`, `keep` (share of the patches), `schedule`; what is left out is as in
a recipe with nothing set. Writes OUT/settings.json and prints a markdown table.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from cases import CASES, Photo, Splits, by_class, recut
from grouped import by_data
from peft import PeftModel

from hf_finetune.adapters.trained import restore_state, trained_state
from hf_finetune.ladder.candidates import Candidates, Usage
from hf_finetune.ladder.climb import Climber, Given
from hf_finetune.ladder.probe.feature_cache import identity_of
from hf_finetune.ladder.probe.feature_pass import FeaturePlace
from hf_finetune.ladder.trained.cached import Cached
from hf_finetune.ladder.trained.full import Full
from hf_finetune.ladder.trained.patches import Patches
from hf_finetune.machine.peak import PeakMemory
from hf_finetune.machine.process import keep_freed_memory
from hf_finetune.pipeline.images import cache_of, open_images
from hf_finetune.pipeline.model import build_model, describe
from hf_finetune.pipeline.prepare import prepare_run
from hf_finetune.plan.plan import make_plan
from hf_finetune.recipe.recipe import load_recipe
from hf_finetune.training.fit import FitFolders
from hf_finetune.training.pace import Pace

HERE = Path(__file__).resolve().parent
RECIPE = HERE / "recipes" / "shipped.yaml"
DATASETS = ("trashnet", "hymenoptera", "houses", "digits")
KEYS = {
    "batch": "train.effective_batch_size",
    "rate": "train.learning_rate",
    "smoothing": "task.label_smoothing",
    "keep": "train.patches_kept",
    "schedule": "train.schedule",
}


def cut_anew(name: str, cut: int, data: Path, out: Path) -> Path:
    """A tree of the case's training and validation photos, cut by class with the seed `cut`; the test is left out."""

    def share(photos: list[Photo], validation: int) -> Splits:
        train, held_out = by_class(photos, (len(photos) - validation) / len(photos), cut)
        return {"train": train, "validation": held_out}

    return recut(name, out / "cuts" / f"{name}-{cut}", data, out / "cases", share)


class Bench:
    """One cut of one data set: its probe, and training from there."""

    def __init__(self, name: str, cut: int, rung: str, options: argparse.Namespace) -> None:
        photos = cut_anew(name, cut, options.data, options.out)
        self._rung = rung
        self._fixed = [f"model.name={options.data / 'weights' / options.model}", f"data.name={photos}"]
        self._fixed += [f"train.seed={cut}", "data.test_split=null", "data.test_share=0", *options.set]
        self._fixed += [f"data.cache_dir={options.out / 'cache'}", f"output.dir={options.out / 'run'}"]
        # The head of both splits would know what is held out here.
        self._fixed += ["ladder=[probe,cached,full]", "train.best_by=accuracy", "train.refit=false"]
        self._fixed += [] if CASES[name].flip else ["augment.flip=0"]
        self._context = prepare_run(load_recipe(RECIPE, self._fixed))
        self._images = open_images(self._context)
        self._model = build_model(self._context)
        self._folders = FitFolders(
            options.out / "checkpoints", options.out / "metrics.jsonl", lambda *_: None, Path.exists, None
        )
        with PeakMemory() as peak:
            place = FeaturePlace(
                cache_of(self._context), identity_of(describe(self._context), self._context.plan, None)
            )
            usage, rows, seen = Usage(time.monotonic, peak), self._images.rows, self._images.probe_rows
            gains = partial(self._context.target.gains, labels=np.asarray(rows["validation"].labels), by="accuracy")
            candidates = Candidates(self._model, "accuracy", "cpu", usage, gains)
            given = Given(rows, seen, place, self._folders, None, usage)
            climber = Climber(self._model, self._context, given, candidates)
            for taken in ("probe", "cached") if options.start == "cached" else ("probe",):
                climber.take(taken)  # a backbone may refuse the cached one
        self.start = candidates.settled(interrupted=False).best.validation
        self._passed = climber.passed
        self._state = {name: weight.clone() for name, weight in trained_state(self._model).items()}

    def accuracy(self, setting: dict[str, str]) -> tuple[float, float]:
        """Accuracy on what is held out, of the last weights; and seconds."""
        restore_state(self._model, self._state)
        changes = [f"{KEYS[key]}={value}" for key, value in setting.items() if key != "epochs"]
        recipe = load_recipe(RECIPE, [*self._fixed, *changes])
        old = self._context
        plan = make_plan(recipe, old.machine, old.facts, old.index)
        context = replace(old, recipe=recipe, plan=plan)
        rows, folders, keep = self._images.rows, self._folders, plan.patches_kept.value
        pace = Pace(max(1, round(float(setting["epochs"]) * len(rows["train"]) / plan.effective_batch.value)))
        assert isinstance(self._model, PeftModel)
        backbone: Any = self._model.get_base_model()
        patches = Patches(backbone, old.facts)
        started = time.monotonic()
        if self._rung == "cached":
            fit = Cached(self._model, backbone, context, self._passed, rows, patches).run(pace, keep, folders)
        else:
            fit = Full(self._model, context, rows, patches).run(pace, keep, folders)
        return fit.metrics["accuracy"], time.monotonic() - started


def table(rows: Sequence[dict[str, Any]]) -> str:
    names, settings = by_data(rows, "setting")
    lines = [f"| setting | {' | '.join(names)} | mean |", "|---" * (2 + len(names)) + "|"]
    for setting, accuracies in settings.items():
        means = [statistics.mean(found) if found else float("nan") for found in accuracies]
        cells = [f"{mean:.3f}" for mean in (*means, statistics.mean(means))]
        lines.append(f"| {setting} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("data", "out"):
        parser.add_argument(name, type=Path)
    parser.add_argument("rung", choices=("cached", "full"))
    parser.add_argument("--start", choices=("probe", "cached"), help="of full: from which rung (default: cached)")
    parser.add_argument("--only", nargs="+", choices=DATASETS, default=list(DATASETS))
    parser.add_argument("--size", default="all", help="training photos of the case: all, 100, 500")
    parser.add_argument("--model", default="vit_tiny_timm", help="a folder of DATA/weights")
    parser.add_argument("--cuts", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--settings", nargs="+", required=True)
    parser.add_argument("--set", nargs="*", default=[], help="section.key=value for every setting")
    options = parser.parse_args()
    if options.rung == "cached" and options.start == "cached":
        parser.error("the cached rung starts from the probe; --start cached is for full")
    options.start = options.start or ("cached" if options.rung == "full" else "probe")
    options.out.mkdir(parents=True, exist_ok=True)
    options.data, options.out = options.data.resolve(), options.out.resolve()
    keep_freed_memory()
    path = options.out / "settings.json"
    rows: list[dict[str, Any]] = json.loads(path.read_text("utf-8")) if path.is_file() else []
    for name in options.only:
        for cut in options.cuts:
            bench = Bench(f"{name}-{options.size}", cut, options.rung, options)
            common = {"rung": options.rung, "from": options.start, "set": options.set}
            common |= {"data": f"{name}-{options.size}", "cut": cut}
            rows.append({**common, "setting": "start", "accuracy": bench.start["accuracy"], "seconds": 0})
            for text in options.settings:
                accuracy, seconds = bench.accuracy(dict(part.split("=") for part in text.split(",")))
                rows.append({**common, "setting": text, "accuracy": accuracy, "seconds": seconds})
                print(json.dumps(rows[-1]), flush=True)
                path.write_text(json.dumps(rows, indent=1), encoding="utf-8")
    print(table([row for row in rows if (row["rung"], row.get("from")) == (options.rung, options.start)]))


if __name__ == "__main__":
    main()
