"""Finished runs beside each other."""

from __future__ import annotations

from dataclasses import replace
from itertools import cycle
from typing import Any

import pytest
from scipy.stats import binomtest

from hf_finetune.report.side_by_side import Finished, Pair, in_order, pair, render_runs
from hf_finetune.report.wording.classes import ClassWords
from tests.report.example import example


def rows(right: str, names: str = "r") -> list[dict[str, str]]:
    """Predictions of one row a character: + is right."""
    return [
        {"split": "test", "row": f"{names}{n}", "label": "a", "predicted": "a" if mark == "+" else "b"}
        for n, mark in enumerate(right)
    ]


def finished(name: str, accuracy: float, right: str, **recipe: Any) -> Finished:
    report = example()
    sections = {key: {**value, **recipe.get(key, {})} if isinstance(value, dict) else value
                for key, value in report.recipe.items()}  # fmt: skip
    return Finished(name, replace(report, test={**report.test, "accuracy": accuracy}, recipe=sections), rows(right))


@pytest.mark.parametrize(("first", "second"), [(0, 0), (1, 2), (9, 1), (40, 25), (300, 420)])
def test_chance_is_the_exact_sign_test(first: int, second: int) -> None:
    expected = binomtest(first, first + second).pvalue if first + second else 1.0
    assert Pair(first, second, 1000).chance == pytest.approx(expected, rel=1e-9)


def test_rows_are_paired_by_name_and_label() -> None:
    words = ClassWords({"kind": "classification"}, ("a", "b"))
    found = pair(rows("++-+"), list(reversed(rows("+-+-"))), words)
    assert found == Pair(2, 1, 4)
    assert pair(rows("++"), rows("++", names="s"), words) is None
    assert pair(rows("++"), rows("+++"), words) is None
    assert pair([], [], words) is None


def test_the_table_has_the_best_first_and_says_what_differs() -> None:
    many = "".join(mark for mark, _ in zip(cycle("++++-"), range(100), strict=False))
    runs = [
        finished("runs/a", 0.7, many.replace("+", "-", 12), adapter={"rank": 16}),
        finished("runs/b", 0.8, many),
        finished("runs/c", 0.6, many[:50]),
    ]
    assert [run.name for run in in_order(runs)] == ["runs/b", "runs/a", "runs/c"]
    text = render_runs(runs, width=100)
    assert text.splitlines()[1].startswith("runs/b  80.0 %")
    words = " ".join(text.split())
    assert "Recipe: adapter.rank 8 against 16." in words
    assert "runs/b alone is right on 12 of 100 rows, runs/a alone on 0: a difference (p = 0.00049)." in words
    assert "runs/c scored on other rows: their scores do not say which is better. Same recipe." in words
    assert render_runs(runs[:1], width=120).count("\n") == 2
