"""What the doctor finds of planted faults, beside cleanlab and CleanVision on the same photos, in one run.

    pip install cleanlab cleanvision
    python benchmarks/doctor.py TRASHNET BACKBONE OUT

TRASHNET has train, val and test with a folder a class. Two experiments. Flips: 5 % of the training labels become
another class (seeds 0, 1, 2); how many are in the first 10 % of all training rows by score, the precision where half
of them are found, and the test's accuracy of the probe with the noisy labels, without the suspected rows
(`--labels drop`), and with the right labels. cleanlab gets the same frozen features, and probabilities by logistic
regression in five folds as its documentation does. Copies: 40 training photos again in test, resized, re-encoded,
cropped by 5 % or mirrored; CleanVision looks at the same files. OUT/doctor.json gets everything.
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps

import hf_finetune
from hf_finetune.doctor.examine import Wishes
from hf_finetune.pipeline.data_faults.diagnose import Diagnosis, diagnose
from hf_finetune.recipe.recipe import load_recipe

SPLITS = {"train": "train", "val": "validation", "test": "test"}
WAYS = ("resized", "re-encoded", "cropped", "mirrored")
Rows = list[tuple[str, str, str]]  # path, class, split


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("model")
    parser.add_argument("out", type=Path)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    rows: Rows = [
        (str(path), folder.name, split)
        for own, split in SPLITS.items()
        for folder in sorted((options.data / own).iterdir())
        for path in sorted(folder.iterdir())
    ]
    found: dict[str, Any] = {"clean_accuracy": accuracy(table(options.out / "clean.csv", rows), options, "clean")}
    found["flips"] = [flips(rows, options, seed) for seed in (0, 1, 2)]
    found["copies"] = copies(rows, options)
    (options.out / "doctor.json").write_text(json.dumps(found, indent=1), encoding="utf-8")
    print(json.dumps(found, indent=1))


def table(path: Path, rows: Rows) -> Path:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("image", "label", "split"))
        writer.writerows(rows)
    return path


def recipe(data: Path, options: argparse.Namespace, **keys: Any) -> dict[str, Any]:
    return {
        "model": {"name": options.model},
        "data": {"name": str(data), "label_column": "label", **keys},
        "ladder": ["probe"],
    }


def accuracy(data: Path, options: argparse.Namespace, name: str, **keys: Any) -> float:
    output = {"output": {"dir": str(options.out / f"run-{name}"), "existing": "overwrite"}}
    return hf_finetune.train(recipe(data, options, **keys) | output).report["test"]["accuracy"]


def flips(rows: Rows, options: argparse.Namespace, seed: int) -> dict[str, Any]:
    random = np.random.default_rng(seed)
    train = [place for place, row in enumerate(rows) if row[2] == "train"]
    classes = sorted({row[1] for row in rows})
    flipped = random.choice(train, round(0.05 * len(train)), replace=False)
    noisy = list(rows)
    for place in flipped:
        path, label, split = rows[place]
        other = [each for each in classes if each != label]
        noisy[place] = (path, other[int(random.integers(len(other)))], split)
    data = table(options.out / f"noisy-{seed}.csv", noisy)
    wrong = {rows[place][0] for place in flipped}
    diagnosis = diagnose(load_recipe(recipe(data, options)), Wishes(labels="drop"))
    everything = diagnosis.everything
    started = time.perf_counter()
    theirs = cleanlab_scores(np.array(everything.features["train"]), np.asarray(everything.rows["train"].labels))
    theirs_s = time.perf_counter() - started
    truth = np.array([path_of(name, options) in wrong for name in everything.rows["train"].names])
    fixes = options.out / f"fix-{seed}.csv"
    suspected = [each for each in diagnosis.examination.findings if each.kind == "suspected label"]
    with fixes.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("path", "action"))
        writer.writerows((each.path, each.action) for each in suspected)
    dropped = [each for each in suspected if each.action == "exclude"]
    return {
        "seed": seed,
        "flipped": len(wrong),
        "ours": ranked(everything.answers["train"].loss, truth),
        "cleanlab": ranked(-theirs, truth) | {"seconds": theirs_s},
        "looking_s": diagnosis.seconds["looking"],
        "seconds": dict(diagnosis.seconds),
        "dropped": len(dropped),
        "dropped_rightly": sum(path_of(each.path, options) in wrong for each in dropped),
        "accuracy_noisy": accuracy(data, options, f"noisy-{seed}"),
        "accuracy_dropped": accuracy(data, options, f"dropped-{seed}", corrections=str(fixes)),
    }


def path_of(name: str, options: argparse.Namespace) -> str:
    """A row's file: a table names rows by their paths, relative ones below its folder."""
    return name if Path(name).is_absolute() else str(options.out / name)


def ranked(score: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    """Of what is ranked by falling score [N]: the share of `truth` in the first tenth, and the precision where half of
    it is found."""
    hits = truth[np.argsort(-score, kind="stable")]
    found = np.cumsum(hits)
    half = int(np.searchsorted(found, np.ceil(truth.sum() / 2)))
    first = round(0.1 * len(truth))
    return {
        "in_first_tenth": float(found[first - 1] / truth.sum()),
        "precision_at_half": float(found[half] / (half + 1)),
    }


def cleanlab_scores(features: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Label quality [N], small where a label is likely wrong."""
    from cleanlab.rank import get_label_quality_scores
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import cross_val_predict
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        shares = cross_val_predict(model, features, labels, cv=5, method="predict_proba")
    return get_label_quality_scores(labels, shares)


def copied(image: Image.Image, way: str, random: np.random.Generator) -> Image.Image:
    width, height = image.size
    if way == "resized":
        return image.resize((width // 2, height // 2), Image.Resampling.BICUBIC)
    if way == "cropped":
        left, top = int(random.integers(0, width // 20 + 1)), int(random.integers(0, height // 20 + 1))
        return image.crop((left, top, left + width - width // 20, top + height - height // 20))
    return ImageOps.mirror(image) if way == "mirrored" else image


def copies(rows: Rows, options: argparse.Namespace) -> dict[str, Any]:
    random = np.random.default_rng(0)
    train = [row for row in rows if row[2] == "train"]
    folder = options.out / "copies"
    folder.mkdir(exist_ok=True)
    planted: dict[frozenset[str], str] = {}
    more: Rows = []
    for number, place in enumerate(random.choice(len(train), 40, replace=False)):
        path, label, _ = train[place]
        way = WAYS[number % len(WAYS)]
        made = folder / f"{number}.jpg"
        file = io.BytesIO()
        copied(Image.open(path).convert("RGB"), way, random).save(
            file, "JPEG", quality=60 if way == "re-encoded" else 85
        )
        made.write_bytes(file.getvalue())
        more.append((str(made), label, "test"))
        planted[frozenset((path, str(made)))] = way
    data = table(options.out / "copies.csv", [*rows, *more])
    diagnosis = diagnose(load_recipe(recipe(data, options)))
    seconds, theirs = timed(lambda: cleanvision_pairs([row[0] for row in (*rows, *more)]))
    return {
        "ours": told(pairs_of(diagnosis, options), planted) | {"looking_s": diagnosis.seconds["looking"]},
        "cleanvision": told(theirs, planted) | {"seconds": seconds},
    }


def pairs_of(diagnosis: Diagnosis, options: argparse.Namespace) -> set[frozenset[str]]:
    """Every two rows of one group of copies."""
    return {
        frozenset((path_of(each.path, options), path_of(other, options)))
        for each in diagnosis.examination.findings
        if each.group >= 0
        for other in each.others
    }


def cleanvision_pairs(paths: Sequence[str]) -> set[frozenset[str]]:
    from cleanvision import Imagelab

    lab = Imagelab(filepaths=list(paths))
    lab.find_issues({"exact_duplicates": {}, "near_duplicates": {}}, verbose=False)
    sets = [group for kind in ("exact_duplicates", "near_duplicates") for group in lab.info[kind].get("sets", [])]
    return {frozenset((one, other)) for group in sets for one in group for other in group if one != other}


def told(found: set[frozenset[str]], planted: Mapping[frozenset[str], str]) -> dict[str, Any]:
    """How many of the planted pairs were found, by way, and which other pairs were; those are for a person to judge."""
    others = sorted(sorted(Path(each).name for each in pair) for pair in found - planted.keys())
    by_way = {way: sum(pair in found for pair, own in planted.items() if own == way) for way in WAYS}
    return {"planted": len(planted), "found": sum(by_way.values()), "by_way": by_way, "others": others}


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    started = time.perf_counter()
    found = work()
    return time.perf_counter() - started, found


if __name__ == "__main__":
    main()
