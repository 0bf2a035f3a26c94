"""A long-tailed training set, and what each way of balancing its classes gives: the probe alone, and the cached rung.

    python benchmarks/long_tail.py OUT --data trashnet/ --model FOLDER [--seeds 2] [--ladder probe]

`--data` has train, val and test folders of class folders. Of train each class gets 280 · 100^(−rank / (C − 1)) photos,
in another order of the classes for every seed; validation and test are whole. Prints a line a run; the runs lie in OUT.
"""

from __future__ import annotations

import argparse
import random
from pathlib import Path
from typing import Any

import hf_finetune
from hf_finetune.result.evaluate import evaluate

LARGEST, RATIO = 280, 100
WAYS = {
    "plain": {},
    "logit_adjustment": {"task": {"logit_adjustment": 1.0}},
    "sampler": {"train": {"sampler": "balanced"}},
    "class_weights": {"task": {"class_weights": "auto"}},
}


def long_tail(data: Path, seed: int, table: Path) -> list[str]:
    """Write the photos with their labels and splits as a CSV; gives the classes, the most frequent first."""
    draw = random.Random(seed)
    names = sorted(folder.name for folder in (data / "train").iterdir())
    draw.shuffle(names)
    lines = ["path,label,split"]
    for rank, name in enumerate(names):
        photos = sorted((data / "train" / name).iterdir())
        kept = draw.sample(photos, min(len(photos), round(LARGEST * RATIO ** (-rank / (len(names) - 1)))))
        lines += [f"{photo},{name},train" for photo in kept]
        for folder, split in (("val", "validation"), ("test", "test")):
            lines += [f"{photo},{name},{split}" for photo in sorted((data / folder / name).iterdir())]
    if not table.exists():  # its time of change is part of what the caches go by
        table.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return names


def said(name: str, seed: int, score: dict[str, Any], names: list[str], rungs: str = "") -> str:
    """A line of figures."""
    figures = " ".join(f"{key} {score[key]:.3f}" for key in ("accuracy", "balanced_accuracy", "macro_f1", "loss"))
    recalls = " ".join(f"{score['per_class'][each]['recall']:.2f}" for each in names)
    return f"{name:24} seed {seed}  {figures}  recall, frequent to rare {recalls}  {rungs}"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--ladder", nargs="+", default=["probe", "cached"])
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    for seed in range(options.seeds):
        table = options.out / f"tail{seed}.csv"
        names = long_tail(options.data.resolve(), seed, table)
        for way, sections in WAYS.items():
            recipe = {
                "model": {"name": options.model},
                "data": {"name": str(table)},
                "ladder": options.ladder,
                **sections,
                "train": {"seed": seed, "patches_kept": 0.25, **sections.get("train", {})},
                "output": {"dir": str(options.out / f"{way}-{seed}-{'-'.join(options.ladder)}")},
            }
            run = hf_finetune.train(recipe)
            by = run.report["recipe"]["train"]["best_by"]
            rungs = ", ".join(f"{each['rung']} {each['validation'][by]:.3f}" for each in run.report["rungs"])
            print(said(way, seed, run.report["test"], names, f"{by} on validation: {rungs}"), flush=True)
            if way == "plain":
                adjusted = evaluate(recipe["output"]["dir"], logit_adjustment=1.0)
                print(said("plain, adjusted after", seed, adjusted, names), flush=True)


if __name__ == "__main__":
    main()
