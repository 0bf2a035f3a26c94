"""Accuracies of rows, by what was tried and by data set: what the tables of settings.py and ladders.py are made of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


def by_data(rows: Sequence[Mapping[str, Any]], key: str) -> tuple[list[str], dict[str, list[list[float]]]]:
    """The data sets, and for each value of `key` the accuracies of its rows on each of them, in the rows' order."""
    names = list(dict.fromkeys(row["data"] for row in rows))
    tried = dict.fromkeys(row[key] for row in rows)
    return names, {
        each: [[row["accuracy"] for row in rows if (row["data"], row[key]) == (name, each)] for name in names]
        for each in tried
    }
