"""Test accuracy of each rung's own candidate, before selection, beside logistic regression on the frozen features.

    python benchmarks/rungs.py DATA_FOLDER OUT_FOLDER [--only NAME …] [--seeds 0 1 2]

The recipe is benchmarks/recipes/shipped.yaml: nothing is set but model and data. The product scores the test once, for
the rung that validation chose; this benchmark looks at every candidate, which no choice may use. Logistic regression
(scikit-learn) gets the same features, standardised, and its C from validation.
Writes OUT_FOLDER/rungs.json and prints a markdown table.
"""

from __future__ import annotations

import json
import statistics
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from cases import CASES, make_case
from options import read_options
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from hf_finetune.adapters.low_memory import low_memory_lora
from hf_finetune.backbones.engines.eager import Eager
from hf_finetune.labels import Answers
from hf_finetune.ladder.candidates import Candidates, Usage
from hf_finetune.ladder.climb import Climber, Given
from hf_finetune.ladder.probe.extractor import FeatureExtractor
from hf_finetune.ladder.probe.feature_cache import identity_of
from hf_finetune.ladder.probe.feature_pass import FeaturePlace, watch_of
from hf_finetune.machine.peak import PeakMemory
from hf_finetune.machine.process import keep_freed_memory
from hf_finetune.pipeline.images import cache_of, open_images
from hf_finetune.pipeline.model import build_model, describe
from hf_finetune.pipeline.prepare import prepare_run
from hf_finetune.plan.context import RunContext
from hf_finetune.preprocess.normalise import Normaliser
from hf_finetune.recipe.recipe import load_recipe
from hf_finetune.result.answers import predict_answers
from hf_finetune.training.fit import FitFolders
from hf_finetune.types import PixelRows

ROOT = Path(__file__).resolve().parents[1]
LADDER = "ladder=[probe,cached,full]"
DATASETS = ("trashnet", "hymenoptera", "houses", "digits")  # digits: drawings of 8 × 8, far from photos
RECIPE = ROOT / "benchmarks" / "recipes" / "shipped.yaml"
GRID = 10.0 ** np.arange(-4, 2.1, 0.5)


class Watching(Candidates):
    """Candidates that are each looked at with the test."""

    def __init__(self, model: Any, context: RunContext, usage: Usage, test: PixelRows) -> None:
        super().__init__(model, "accuracy", "cpu", usage)
        self._context, self._test, self.seen = context, test, {}

    def offer(self, rung: str, metrics: Any, answers: Answers, seconds: float, **more: Any) -> None:
        super().offer(rung, metrics, answers, seconds, **more)
        with low_memory_lora(self._model):
            found = predict_answers(
                self._model, self._test, self._context.facts.preprocess, self._context.target, batch=32
            )
        accuracy = float((found.predicted == self._test.labels).mean())
        self.seen[rung] = {"test": accuracy, "validation": metrics["accuracy"], "seconds": seconds}


def climb(name: str, seed: int, data: Path, out: Path) -> dict[str, Any]:
    case = f"{name}-all"
    photos = make_case(case, data, out / "cases")
    settings = [f"model.name={data / 'weights' / 'vit_tiny_timm'}", f"data.name={photos}", f"train.seed={seed}", LADDER]
    settings += [f"data.cache_dir={out / 'cache'}", f"output.dir={out / 'run'}"]
    settings += [] if CASES[case].flip else ["augment.flip=0"]
    context = prepare_run(load_recipe(RECIPE, settings))
    images = open_images(context)
    model = build_model(context)
    folder = out / f"{name}-{seed}"
    folder.mkdir(parents=True, exist_ok=True)
    folders = FitFolders(folder / "checkpoints", folder / "metrics.jsonl", lambda *_: None, Path.exists, None)
    place = FeaturePlace(cache_of(context), identity_of(describe(context), context.plan, context.start_digest))
    with PeakMemory() as peak:
        usage = Usage(time.monotonic, peak)
        watching = Watching(model, context, usage, images.rows["test"])
        given = Given(images.rows, images.probe_rows, place, folders, None, usage)
        result = Climber(model, context, given, watching).climb()
    row = {"case": name, "seed": seed, **watching.seen, "chosen": result.best.rung}
    return {**row, "logistic regression": {"test": logistic(model, context, images)}}


def logistic(model: Any, context: Any, images: Any) -> float:
    """Test accuracy with the C that is best on validation."""
    watch = watch_of(model, context.facts.head, None)
    extractor = FeatureExtractor(Eager(model, watch), Normaliser(context.facts.preprocess), 32)

    def features(rows: PixelRows) -> np.ndarray:
        with model.disable_adapter():
            parts = [
                extractor(rows.gather(part))[0] for part in np.array_split(np.arange(len(rows)), len(rows) // 32 + 1)
            ]
        return torch.cat(parts).numpy()

    train, validation, test = (features(r) for r in (images.probe_rows, images.rows["validation"], images.rows["test"]))
    scored = []
    for c in GRID:
        rival = make_pipeline(StandardScaler(), LogisticRegression(C=c, max_iter=3000))
        rival.fit(train, images.probe_rows.labels)
        scored.append((rival.score(validation, images.rows["validation"].labels), -c, rival))
    best = max(scored, key=lambda each: each[:2])[2]
    return float(best.score(test, images.rows["test"].labels))


def table(rows: list[dict[str, Any]]) -> str:
    columns = ("probe", "cached", "full", "logistic regression")
    lines = [f"| data | {' | '.join(columns)} | chosen |", "|---|" + "---|" * (len(columns) + 1)]
    for name in dict.fromkeys(row["case"] for row in rows):
        cells = []
        for column in columns:
            found = [row[column]["test"] for row in rows if row["case"] == name and column in row]
            each = " ".join(f"{value:.3f}" for value in found)
            cells.append(f"{statistics.mean(found):.3f} ({each})" if found else "not for this backbone")
        chosen = ", ".join(row["chosen"] for row in rows if row["case"] == name)
        lines.append(f"| {name} | {' | '.join(cells)} | {chosen} |")
    return "\n".join(lines)


def main() -> None:
    options = read_options(__doc__, DATASETS)
    keep_freed_memory()
    rows = []
    for name in options.only:
        for seed in options.seeds:
            rows.append(climb(name, seed, options.data, options.out))
            print(json.dumps(rows[-1]), flush=True)
            (options.out / "rungs.json").write_text(json.dumps(rows, indent=1), encoding="utf-8")
    print(table(rows))


if __name__ == "__main__":
    main()
