"""What 8 bits cost and save: the frozen pass and a LoRA step by every arithmetic, beside the eager bf16 of a fixed
commit, all in one run.

    python benchmarks/eight_bits.py OUT [--checkpoint FOLDER] [--architecture vit_base_patch16_224] [--batch 16]

The reference is checked out below OUT, so that a faster product does not become its own bar. Each cell is a process of
its own (eight_bits_work.py) that holds its model and takes turns with the reference, one call at a time, so that
whatever else the machine does falls on both alike. Prints two tables; raw figures in OUT/eight_bits.json. A CPU with
AMX can be held to what another one has by ONEDNN_MAX_CPU_ISA, but torch's bfloat16 is then slower than on that one.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
REFERENCE = "f1a30f9"


@dataclass(frozen=True)
class Cell:
    """`work`: pass or step; `way`: ours or peft; `old`: by the reference's code; `lean`: what can be made again is."""

    work: str
    kind: str = "none"
    compute: str = "auto"
    precision: str = "bf16"
    way: str = "ours"
    old: bool = False
    lean: bool = False

    @property
    def name(self) -> str:
        parts = [self.way, self.kind if self.kind != "int8" else f"int8 {self.compute}", self.precision]
        return ", ".join([*parts, *(["activations made again"] * self.lean), *([REFERENCE] * self.old)])


PASSES = (
    Cell("pass", old=True),
    Cell("pass"),
    Cell("pass", precision="fp32"),
    Cell("pass", "int8", "auto"),
    Cell("pass", "int8", "integer"),
    Cell("pass", "int8", "dequantized"),
    Cell("pass", "int8", "llm_int8", old=True),
    Cell("pass", "nf4"),
)
STEPS = (
    Cell("step", old=True),
    Cell("step"),
    Cell("step", lean=True),
    Cell("step", precision="fp32"),
    Cell("step", way="peft"),
    Cell("step", "int8", "auto", lean=True),
    Cell("step", "int8", "integer", lean=True),
    Cell("step", "int8", "dequantized", lean=True),
    Cell("step", "int8", "llm_int8", way="peft"),
    Cell("step", "nf4", lean=True),
    Cell("step", "nf4", way="peft"),
)


class Worker:
    """A cell's process. A line asks for a call and is answered by its seconds."""

    def __init__(self, cell: Cell, checkpoint: Path, batch: int, reference: Path) -> None:
        command = [sys.executable, str(HERE / "eight_bits_work.py"), json.dumps(asdict(cell)), str(checkpoint)]
        root = reference if cell.old else HERE.parent
        self._process = subprocess.Popen(
            [*command, str(batch)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(root)},
        )
        self.about = self._answer()

    def call(self) -> float:
        return float(self._ask("go")["seconds"])

    def end(self) -> dict[str, Any]:
        about = self._ask("end")
        self._process.wait()
        return about

    def _ask(self, what: str) -> dict[str, Any]:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{what}\n")
        self._process.stdin.flush()
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.startswith("{"):
                return json.loads(line)
        raise RuntimeError(f"exit {self._process.wait()}")


def measure(cells: tuple[Cell, ...], checkpoint: Path, batch: int, turns: int, reference: Path) -> list[dict[str, Any]]:
    """A row a cell: seconds of each turn, those of the reference (the first cell) between them, bytes kept a block,
    peak bytes. Two models are held at a time."""
    first, rows = Worker(cells[0], checkpoint, batch, reference), []
    for cell in cells:
        worker = Worker(cell, checkpoint, batch, reference)
        pairs = [(first.call(), worker.call()) for _ in range(turns)]
        beside, own = ([pair[side] for pair in pairs] for side in (0, 1))
        rows.append({"name": cell.name, **asdict(cell), "beside": beside, "turns": own, **worker.about, **worker.end()})
    first.end()
    return rows


def times_reference(row: dict[str, Any]) -> float:
    """How many times as fast as the reference: the median of the pairs."""
    return statistics.median(old / own for old, own in zip(row["beside"], row["turns"], strict=True))


def table(rows: list[dict[str, Any]], batch: int) -> str:
    """Images a second (of the quickest turn), times the reference, maps kept a block, peak bytes above the start."""
    lines = ["| what | images/s | × reference | kept a block | peak |", "|---|---|---|---|---|"]
    for row in rows:
        rate = batch / min(row["turns"])
        kept = f"{row['maps']:.1f} maps" if row.get("maps") else "–"
        ratio, peak = times_reference(row), row["peak"] / 1e9
        lines.append(f"| {row['name']} | {rate:.1f} | {ratio:.2f} | {kept} | {peak:.2f} GB |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--checkpoint", type=Path)
    parser.add_argument("--architecture", default="vit_base_patch16_224")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--work", choices=("pass", "step", "both"), default="both")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    reference = options.out / "reference"
    if not reference.is_dir():
        reference.mkdir()
        archive = subprocess.run(["git", "archive", REFERENCE], cwd=HERE.parent, check=True, capture_output=True).stdout
        subprocess.run(["tar", "-x", "-C", str(reference)], input=archive, check=True)
    checkpoint = options.checkpoint
    if checkpoint is None:
        from micro.models import write_checkpoint

        checkpoint = options.out / options.architecture
        if not checkpoint.is_dir():
            write_checkpoint(checkpoint, architecture=options.architecture)
    found: dict[str, Any] = {"machine": platform.processor(), "batch": options.batch, "checkpoint": checkpoint.name}
    for work, cells in (("pass", PASSES), ("step", STEPS)):
        if options.work in (work, "both"):
            found[work] = measure(cells, checkpoint, options.batch, options.turns, reference)
            print(f"\n{work} of {options.batch} images, {checkpoint.name}\n\n{table(found[work], options.batch)}")
    (options.out / "eight_bits.json").write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
