"""Seconds of a run before it begins: from earlier runs on the machine, else from a stated rate."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from hf_finetune.ladder.forecast import CACHED_NOTE, forecast_seconds, speeds_of
from hf_finetune.plan.plan import make_plan
from hf_finetune.recipe.recipe import load_recipe
from hf_finetune.report.summary import render_plan
from hf_finetune.run.speeds import Speed, keep_speeds, read_speeds
from hf_finetune.types import Candidate, Machine, Plan
from hf_finetune.units import about_seconds
from tests.plan.test_plan import CPU, FACTS, index_of

TINY = replace(FACTS, forward_flops=2.4e9)
RECIPE = load_recipe({})
INDEX = index_of(1000)  # and 10 of validation
PLAN = make_plan(RECIPE, CPU, TINY, INDEX)


def seconds(speeds: list[Speed], machine: Machine = CPU, facts: object = TINY) -> tuple[dict[str, float], str]:
    return forecast_seconds(PLAN, RECIPE, machine, facts, INDEX, speeds)  # pyright: ignore[reportArgumentType]


def test_without_earlier_runs_it_is_arithmetic_at_a_stated_rate() -> None:
    found, note = seconds([])
    assert list(found) == ["probe", "cached", "full", "rest"]
    assert found["probe"] == pytest.approx(1010 * 2.4e9 / (4 * 30e9))  # four cores without bfloat16
    # 9 passes of 31 updates of 32, half of the blocks and patches; 20 of full, half of the patches; 2.2 forward passes.
    assert found["cached"] == pytest.approx((279 * 32 * 0.5 * 0.5 * 2.2 + 6 * 10 * 0.5) * 2.4e9 / 120e9)
    assert found["full"] == pytest.approx((620 * 32 * 0.5 * 2.2 + 10 * 10) * 2.4e9 / 120e9)
    assert note == (
        "no earlier run like it on this machine: from a stated 120 GFLOP/s of 4 cores; may be off threefold"
    )
    assert seconds([], replace(CPU, bf16=True))[0]["probe"] == pytest.approx(found["probe"] / 2)


def ran(plan: Plan, machine: Machine = CPU, **changes: object) -> list[Speed]:
    """The speeds of a run whose probe took 10 s, cached 60 s, full 200 s, and 300 s in all."""
    rungs = [
        Candidate("probe", {}, 10.0, 0, 0),
        Candidate("cached", {}, 60.0, 0, 0, images=6_000),
        Candidate("full", {}, 200.0, 0, 0, images=20_000),
    ]
    return speeds_of(plan, RECIPE, machine, replace(TINY, **changes), 1000, rungs, 300.0)  # pyright: ignore


def test_earlier_runs_of_the_backbone_count_before_those_of_others() -> None:
    own = ran(PLAN)
    found, note = seconds(own)
    assert found["probe"] == pytest.approx(10.1)
    assert found["cached"] == pytest.approx(60 * 279 * 32 / 6_000)
    assert found["full"] == pytest.approx(200 * 620 * 32 / 20_000)
    assert found["rest"] == 30.0
    assert note == "from earlier runs of this backbone on this machine; may be off by half"

    other = ran(PLAN, architecture="Large", forward_flops=7.2e9)  # three times the work in the same time
    found, note = seconds(other)
    assert found["probe"] == pytest.approx(10.1 / 3)
    assert note == "from earlier runs on this machine, in proportion to arithmetic; may be off twofold"
    assert seconds([*own, *other])[0]["probe"] == pytest.approx(10.1)


def test_a_rung_that_never_ran_here_is_named() -> None:
    _, note = seconds([each for each in ran(PLAN) if each.rung != "full"])
    assert note == (
        "from earlier runs on this machine, of which none like it had full: from a stated 120 GFLOP/s of 4 cores; may "
        "be off threefold"
    )


@pytest.mark.parametrize("flops", [2.4e7, 2.4e11, 0.0])
def test_a_backbone_of_another_size_says_nothing_of_this_one(flops: float) -> None:
    rungs = ("probe", "cached", "full")
    found, note = seconds(ran(PLAN, architecture="Other", forward_flops=flops))
    stated, stated_note = seconds([])
    assert [found[rung] for rung in rungs] == [stated[rung] for rung in rungs]
    assert note == stated_note


def test_another_machine_adapter_or_precision_says_nothing() -> None:
    stated = seconds([])
    elsewhere = ran(PLAN, replace(CPU, cores=64))
    assert seconds(elsewhere) == stated
    whole = [replace(each, setting="full, none, fp32") for each in ran(PLAN) if each.rung != "rest"]
    assert seconds(whole) == stated


def test_a_rung_that_computed_nothing_is_no_measurement() -> None:
    found = [Candidate("probe", {}, 0.2, 0, 0, note=f"λ 1, {CACHED_NOTE}")]
    assert [each.rung for each in speeds_of(PLAN, RECIPE, CPU, TINY, 1000, found, 9.0)] == ["rest"]


def test_they_are_kept_beside_the_cache_and_a_damaged_file_is_none(own_cache: Path) -> None:
    assert read_speeds() == []
    for _ in range(60):
        keep_speeds(ran(PLAN))
    assert len(read_speeds()) == 200
    assert read_speeds()[-4:] == ran(PLAN)
    (own_cache / "speeds.json").write_text('[{"machine": 3')
    assert read_speeds() == []
    keep_speeds(ran(PLAN))
    assert read_speeds() == ran(PLAN)


def test_the_plan_shows_them_by_rung_and_in_all_and_under_a_budget() -> None:
    timed = replace(PLAN, seconds={"probe": 4.2, "full": 166.0, "rest": 15.0}, seconds_note="coarse")
    for brief in (True, False):
        text = " ".join(render_plan(timed, width=100, brief=brief).split())
        assert "time about 3 min probe 4 s, full 3 min, rest 15 s; coarse" in text
    text = " ".join(render_plan(replace(timed, seconds_limit=30.0), width=100).split())
    assert "time 30 s of 3 min probe 4 s" in text


@pytest.mark.parametrize(
    ("exact", "said"),
    [(0.2, "1 s"), (7.4, "7 s"), (43, "45 s"), (58, "1 min"), (170, "3 min"), (4000, "1 h 10 min"), (7300, "2 h")],
)
def test_a_forecast_has_no_digits_that_it_does_not_know(exact: float, said: str) -> None:
    assert about_seconds(exact) == said
