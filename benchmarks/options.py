"""The command line that benchmarks over named cases and seeds share."""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from pathlib import Path


def read_options(description: str | None, cases: Iterable[str]) -> argparse.Namespace:
    """`data` and `out` (made, and absolute), `only` and `seeds`."""
    names = list(cases)
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--only", nargs="+", choices=names, default=names)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    options.data, options.out = options.data.resolve(), options.out.resolve()
    return options
