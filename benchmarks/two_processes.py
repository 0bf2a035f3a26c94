"""Images a second of each rung, by two processes on two cores beside one process on one.

    python benchmarks/two_processes.py WEIGHTS PHOTOS OUT_FOLDER [REPEATS]

Each process has one thread; nothing is kept from one run to the next. A figure is the best of the repeats: other work
on the machine only slows one down. Seconds are the rung's own, as run.json has them, with its evaluations and without
decoding. Prints a markdown table.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
CONFIG = ROOT / "accelerate_configs" / "cpu_multi.yaml"
RUNGS = ("probe", "cached", "full")
LADDERS = (("ladder=[probe,cached]", "budget.time=45s"), ("ladder=[full]", "train.epochs=2"))


def run(weights: str, photos: str, out: Path, processes: int, ladder: tuple[str, ...]) -> dict[str, float]:
    """Images a second by rung."""
    shutil.rmtree(out, ignore_errors=True)
    words = [f"model.name={weights}", f"data.name={photos}", "data.shots=40", "model.engine=eager", *ladder]
    words += [f"output.dir={out}", "train.effective_batch_size=32"]
    launch = [] if processes == 1 else ["-m", "accelerate.commands.launch", "--config_file", str(CONFIG)]
    subprocess.run(
        [sys.executable, *launch, "-m", "hf_finetune", "--quiet", "train", "--no-cache", *words],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"},
        check=True,
        stdout=subprocess.DEVNULL,
    )
    report = json.loads((out / "run.json").read_text("utf-8"))
    assert report["machine"]["world_size"] == processes
    rows = sum(report["data"]["counts"][split] for split in ("train", "validation"))
    return {each["rung"]: (each["images"] or rows) / each["seconds"] for each in report["rungs"]}


def main() -> None:
    weights, photos, folder = sys.argv[1], sys.argv[2], Path(sys.argv[3])
    best: dict[int, dict[str, float]] = {1: {}, 2: {}}
    for repeat in range(int(sys.argv[4]) if len(sys.argv) > 4 else 3):
        for processes, found in best.items():
            for ladder in LADDERS:
                for rung, speed in run(weights, photos, folder / "run", processes, ladder).items():
                    found[rung] = max(speed, found.get(rung, 0.0))
            print(f"repeat {repeat + 1}, {processes}: {found}", file=sys.stderr, flush=True)
    print("| rung | one process, images/s | two processes, images/s | of twice as many |\n|---|---|---|---|")
    for rung in RUNGS:
        one, two = (best[count].get(rung, float("nan")) for count in (1, 2))
        print(f"| {rung} | {one:.1f} | {two:.1f} | {two / one / 2:.0%} |")


if __name__ == "__main__":
    main()
