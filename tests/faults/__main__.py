"""`python -m tests.faults --seeds 0 300`: strike, one line a fault; exit code 1 where one was not survived."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections import Counter
from pathlib import Path

from tests.faults.faults import FAULTS, NEVER, drawn, strike
from tests.faults.library import build
from tests.faults.world import make_world
from tests.hub_server.server import running


def main() -> int:
    """The seeds from the first up to the one before the second."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs=2, default=(0, 300))
    parser.add_argument("--only", choices=[fault.__name__ for fault in FAULTS], help="this kind alone")
    parser.add_argument("--out", type=Path, help="a JSON line a fault")
    options = parser.parse_args()
    became: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as folder, running(Path(folder) / "work" / "hub") as hub:
        world = make_world(Path(folder) / "work", build(Path(folder)), hub.url)
        world.learn()
        for seed in range(*options.seeds):
            kind = drawn(seed).__name__
            if options.only not in (None, kind):
                continue
            verdict = strike(world, seed)
            became[verdict.became] += 1
            sys.stdout.write(f"{seed} {kind} {verdict.became}: {verdict.what}\n")
            if verdict.became in NEVER:
                sys.stdout.write(f"{verdict.evidence}\n\n")
            sys.stdout.flush()
            if options.out:
                with options.out.open("a", encoding="utf-8") as file:
                    file.write(json.dumps({"seed": seed, "kind": kind, **vars(verdict)}) + "\n")
        world.commands.close()
    sys.stdout.write(f"{dict(became)}\n")
    return int(any(became[bad] for bad in NEVER))


if __name__ == "__main__":
    sys.exit(main())
