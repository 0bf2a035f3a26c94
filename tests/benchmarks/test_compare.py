"""What a comparison runs, and in which order: budgets follow from the runs before them."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "benchmarks"))  # as `python benchmarks/compare.py` has it

from cases import NoDataError  # noqa: E402
from compare import run_all, with_budget  # noqa: E402
from methods import LARGE, METHODS, NO_LIMIT, SMALL, first, in_order  # noqa: E402
from results import Results  # noqa: E402

CASE, FILES = "hymenoptera-100", ["ants/0.jpg", "bees/0.jpg"]


@pytest.fixture
def results(tmp_path: Path) -> Results:
    """The example took 100 s, the ladder without a limit 40 s; seed 0 alone."""
    about = {"processor": "P", "cores": 2, "device": "none"}
    found = Results(tmp_path / "bench", about)
    found.set_truth(CASE, FILES)
    for method, seconds in ((first(), 100.0), (NO_LIMIT, 40.0)):
        predicted = {file: file.split("/")[0] for file in FILES}
        found.add({"case": CASE, "method": method, "seed": 0, "seconds": seconds, "predicted": predicted})
    return found


@pytest.mark.parametrize(
    ("slug", "budget"),
    [
        ("ours-1-5-of-the-example-s-time", 20),
        ("ours-1-3-of-the-example-s-time", 33.3),
        ("ours-30-s", 30),
        ("ours-probe-alone", 0),
        ("ours-no-limit", None),
        ("PEFT-example", None),
    ],
)
def test_a_share_is_of_the_examples_time_and_other_budgets_stay(
    results: Results, slug: str, budget: float | None
) -> None:
    assert with_budget(METHODS[slug], CASE, 0, results).budget == budget


def test_a_budget_that_the_ladder_would_not_use_up_is_not_run(results: Results) -> None:
    with pytest.raises(NoDataError, match=r"without a limit the ladder ends sooner \(ours, no limit\)"):
        with_budget(METHODS["ours-1-min"], CASE, 0, results)
    assert with_budget(METHODS["ours-1-min"], CASE, 1, results).budget == 60  # nothing is known of that seed


def test_a_share_of_what_was_not_run_is_not_run(results: Results) -> None:
    with pytest.raises(NoDataError, match="which was not run"):
        with_budget(METHODS["ours-1-5-of-the-example-s-time"], CASE, 1, results)


def test_another_machine_adds_nothing_to_a_case(
    results: Results, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = Results(tmp_path / "bench", {"processor": "Q", "cores": 2, "device": "none"})
    options = argparse.Namespace(cases=[CASE], seeds=[0, 1], methods=list(METHODS), data=tmp_path, out=tmp_path)
    assert not run_all(options, other)
    assert "nothing added: its runs are of another machine (P, 2 cores)" in capsys.readouterr().out
    assert other.runs == results.runs
    assert other.reasons() == results.reasons()


def test_budgets_are_run_after_the_runs_that_they_follow_from() -> None:
    for slugs in (METHODS, LARGE, SMALL):
        order = in_order(slugs)
        assert sorted(order) == sorted(slugs)
        limited = [order.index(slug) for slug in slugs if METHODS[slug].budget or METHODS[slug].share]
        assert min(limited) > max(order.index(first()), order.index(NO_LIMIT))
