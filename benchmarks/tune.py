"""The learning rate of each reference "as tuned": the one of a grid that reaches the best validation accuracy.

    python benchmarks/tune.py --model FOLDER --data FOLDER --out SCRATCH --into benchmarks/tuned/DATASET.json [--only …]

Every value is one run of the reference's script with a seed of its own (100, which no reported run uses); only
progress.jsonl is read, never the test. Where an end of the grid is best, the grid grows by its own step until it is
not. The file maps each reference to its learning rate and to the validation accuracy of each value; of equals the one
nearest to the documented value wins. A value whose run has finished in SCRATCH is not run again. A reference without an
entry in GRIDS has no learning rate to tune (frozen features tune C themselves); one whose environment is not there is
left out.
"""

from __future__ import annotations

import argparse
import functools
import json
import math
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from environments import environment
from methods import METHODS

REFERENCES = Path(__file__).resolve().parent / "references"
SEED = 100
# script -> learning rates, the documented one first
GRIDS: dict[str, tuple[float, ...]] = {
    "transformers_example": (5e-5, 2e-5, 1e-4, 3e-4),
    "peft_example": (5e-3, 5e-4, 1.5e-3, 1.5e-2),
    "timm_script": (1e-4, 3e-5, 3e-4, 1e-3),
    "fastai_fine_tune": (2e-3, 5e-4, 1e-3, 5e-3),
    "autogluon_multimodal": (3e-3, 3e-4, 1e-3, 1e-2),
}


def validation_of(out: Path) -> float | None:
    """The best validation accuracy of a run that has saved its model, else None."""
    progress = out / "progress.jsonl"
    if not progress.is_file():
        return None
    lines = [json.loads(line) for line in progress.read_text(encoding="utf-8").splitlines()]
    if not any("saved" in line for line in lines):
        return None
    return max(line["validation"] for line in lines if "validation" in line)


def run(name: str, learning_rate: float, python: str, options: argparse.Namespace) -> float:
    """The best validation accuracy with this rate, of a run now or of one that has finished in SCRATCH."""
    out: Path = options.out / name / f"{learning_rate:g}"
    found = validation_of(out)
    if found is not None:
        return found
    shutil.rmtree(out, ignore_errors=True)  # what a killed run left
    out.mkdir(parents=True)
    command = [python, str(REFERENCES / f"{name}.py"), "--model", str(options.model), "--data", str(options.data)]
    command += ["--out", str(out), "--seed", str(SEED), "--learning-rate", repr(learning_rate)]
    with (out / "log.txt").open("wb") as log:
        done = subprocess.run(
            command, stdout=log, stderr=subprocess.STDOUT, env={**os.environ, "HF_HUB_OFFLINE": "1"}, check=False
        )
    found = validation_of(out)
    if done.returncode or found is None:
        raise SystemExit(
            f"{name} with learning rate {learning_rate:g} failed ({done.returncode}); see {out / 'log.txt'}"
        )
    for weights in ("model", "backbone", "checkpoints", "cache"):
        shutil.rmtree(out / weights, ignore_errors=True)
    return found


def python_of(name: str, environments: Path) -> tuple[str | None, str | None]:
    """The interpreter that a reference needs, or None and why there is none."""
    own = next(method.environment for method in METHODS.values() if method.script == f"{name}.py")
    return environment(environments, own) if own else (sys.executable, None)


def best_of(grid: Sequence[float], validation: Mapping[float, float]) -> float:
    """The rate with the best accuracy; of equals the one nearest to the first."""
    return max(grid, key=lambda rate: (validation[rate], -abs(math.log(rate / grid[0]))))


def beyond(grid: Sequence[float], best: float) -> float | None:
    """The next rate outwards where the best one is an end of the grid, to two digits."""
    ordered = sorted(grid)
    for end, neighbour in ((ordered[0], ordered[1]), (ordered[-1], ordered[-2])):
        if best == end:
            return float(f"{end * end / neighbour:.1e}")
    return None


def tune(name: str, accuracy: Callable[[float], float]) -> dict[str, Any]:
    """The entry of one reference: `accuracy` gives a rate's."""
    grid, validation = list(GRIDS[name]), {}
    waiting = list(grid)
    while waiting:
        rate = waiting.pop(0)
        validation[rate] = accuracy(rate)
        print(f"{name} {rate:g}: validation {validation[rate]:.4f}", flush=True)
        further = None if waiting else beyond(grid, best_of(grid, validation))
        if further is not None:
            grid.append(further)
            waiting.append(further)
    accuracies = {f"{rate:g}": found for rate, found in sorted(validation.items())}
    return {"learning_rate": best_of(grid, validation), "validation": accuracies}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("model", "data", "out", "into"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--environments", type=Path, default=Path("environments"), help="of environments.py")
    parser.add_argument("--only", nargs="+", choices=GRIDS, default=list(GRIDS))
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    written: Path = options.into
    written.parent.mkdir(parents=True, exist_ok=True)
    tuned: dict[str, Any] = json.loads(written.read_text(encoding="utf-8")) if written.is_file() else {}
    for name in options.only:
        python, reason = python_of(name, options.environments)
        if python is None:
            print(f"{name}: not tuned: {reason}", flush=True)
            continue
        tuned[name] = tune(name, functools.partial(run, name, python=python, options=options))
        written.write_text(json.dumps(tuned, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
