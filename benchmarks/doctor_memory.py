"""Memory and seconds of looking at many images: synthetic ones, made as they are asked for: nothing else counts.

    python benchmarks/doctor_memory.py OUT [--rows 10000 100000] [--width 192]

Each number of rows is a process of its own. OUT/doctor_memory.json gets, for each, the seconds of `examine` and how
much anonymous memory it took at its peak beyond what was there before (features among it, in a mapped file).
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

SIDE = 96


class Drawn:
    """PixelRows of soft noise, a picture a number; every thousandth is the one before it, mirrored."""

    def __init__(self, count: int) -> None:
        self.labels = np.arange(count) % 10
        self.sizes = np.full((count, 2), SIDE, np.int32)
        self.names = [f"{number}.jpg" for number in range(count)]

    def __len__(self) -> int:
        return len(self.labels)

    def gather(self, indices: np.ndarray) -> np.ndarray:
        """uint8 [n, 3, SIDE, SIDE]."""
        found = np.empty((len(indices), 3, SIDE, SIDE), np.uint8)
        for place, number in enumerate(np.asarray(indices).tolist()):
            copy = number % 1000 == 999
            small = np.random.default_rng(number - copy).integers(0, 256, (3, 12, 12), dtype=np.uint8)
            large = small.repeat(SIDE // 12, 1).repeat(SIDE // 12, 2)
            found[place] = large[:, :, ::-1] if copy else large
        return found


def measure(count: int, width: int) -> dict[str, Any]:
    """In this process."""
    from hf_finetune.doctor.everything import Everything
    from hf_finetune.doctor.examine import Wishes, examine
    from hf_finetune.labels import LabelColumn, Labels
    from hf_finetune.machine.peak import PeakMemory
    from hf_finetune.tasks.classification import ClassTarget
    from hf_finetune.types import Index, Preprocess, Row

    names = tuple(f"class {number}" for number in range(10))
    rows = Drawn(count)
    index = Index(
        "drawn", "", None, None, Labels(names),
        {"train": tuple(Row(name, number % 10, number) for number, name in enumerate(rows.names))},
        (), (), (), None,  # type: ignore[arg-type]  # no file is read: no two of these pictures are equal
        columns=(LabelColumn("label", "classes", names),),
    )  # fmt: skip
    target = ClassTarget(Labels(names))
    with TemporaryDirectory() as folder:
        features = np.memmap(Path(folder) / "features", np.float32, "w+", shape=(count, width))
        random = np.random.default_rng(0)
        for start in range(0, count, 4096):
            features[start : start + 4096] = random.normal(0, 1, features[start : start + 4096].shape)
        # Mostly right, as a head is: a finding for every second row would be all that is measured.
        logits = (8 * np.eye(10)[rows.labels] + random.normal(0, 1, (count, 10))).astype(np.float32)
        answers = target.answers(logits, rows.labels)
        preprocess = Preprocess(None, SIDE, SIDE, (), (), 1.0, 0.0, False, 3, "drawn")
        everything = Everything(
            index, target, {"train": rows}, {"train": features}, {"train": answers}, preprocess, 10**8
        )
        with PeakMemory() as peak:
            started = time.perf_counter()
            found = examine(everything, (), Wishes())
            seconds = time.perf_counter() - started
        copies = sum(each.kind == "near duplicate" for each in found.findings)
    grown = peak.anonymous_bytes - peak.baseline_bytes
    return {"rows": count, "width": width, "seconds": seconds, "grown_bytes": grown, "copies": copies}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--rows", type=int, nargs="+", default=[10_000, 100_000])
    parser.add_argument("--width", type=int, default=192)
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.here:
        print(json.dumps(measure(options.rows[0], options.width)))
        return
    found = []
    for count in options.rows:
        command = [
            sys.executable,
            __file__,
            str(options.out),
            "--rows",
            str(count),
            "--width",
            str(options.width),
            "--here",
        ]
        told = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        found.append(json.loads(told.splitlines()[-1]))
        print(json.dumps(found[-1]), flush=True)
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "doctor_memory.json").write_text(json.dumps(found, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
