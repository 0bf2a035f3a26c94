"""The guard itself: slower than the baseline fails, noise gets a second look, and recording keeps tolerances."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from matmul import count_flops

from hf_finetune.machine.detect import cpu_name
from micro import baseline
from micro.baseline import Limit
from micro.conftest import Micro
from micro.interleaved import interleave, ratio_of

LIMITS = {"step": Limit(0.5, 1.6)}


class Clock:
    """Time that passes only when `spend` says so."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def spend(self, seconds: float) -> Callable[[], None]:
        def run() -> None:
            self.now += seconds

        return run


def test_functions_take_turns_and_the_warm_up_does_not_count() -> None:
    clock, calls = Clock(), []
    steps = {name: clock.spend(seconds) for name, seconds in (("a", 1.0), ("b", 4.0))}
    functions = {name: (lambda name=name: (calls.append(name), steps[name]())) for name in steps}
    taken = interleave(functions, 50, clock=clock)
    assert calls[:8] == ["a", "b", "a", "b", "b", "a", "a", "b"]
    assert taken == {"a": [1.0] * 10, "b": [4.0] * 10}
    assert ratio_of(taken["a"], taken["b"]) == 0.25
    assert len(interleave(functions, 1, clock=clock)["a"]) == 7


def test_what_is_slower_than_the_baseline_is_named_with_the_remedy() -> None:
    assert baseline.fault("step", 0.8, LIMITS) is None
    assert baseline.fault("step", 0.81, LIMITS) == (
        "step: expected at most 0.800 times the reference (0.500 in baseline.json, tolerance 1.6), found 0.810. If "
        "that is meant, record it and say why in the commit: make bench-micro MICRO=--update-baseline"
    )
    assert baseline.fault("step", float("nan"), LIMITS) is not None
    assert baseline.fault("other", 0.1, LIMITS) == (
        "other: found 0.100, but baseline.json has no entry for it; record it: make bench-micro MICRO=--update-baseline"
    )


@pytest.mark.parametrize(("second", "faults"), [(0.5, 0), (0.9, 1)])
def test_noise_passes_and_slowness_stays(second: float, faults: int) -> None:
    micro = Micro(LIMITS)
    ratios = iter([0.9, second])
    found = micro.faults(["step"], lambda: {"step": {"ours": [next(ratios)] * 7, "reference": [1.0] * 7}})
    assert len(found) == faults
    assert micro.results["step"]["ratio"] == second


def test_a_byte_more_than_the_tolerance_fails() -> None:
    micro = Micro({"bytes": Limit(0.5, 1.02)})
    micro.weigh("bytes", 51, 100)
    with pytest.raises(AssertionError, match=r"expected at most 0\.510 times the reference"):
        micro.weigh("bytes", 52, 100)


def test_recording_keeps_tolerances_and_other_benchmarks(tmp_path: Path) -> None:
    path = tmp_path / "baseline.json"
    baseline.write({"a": {"kind": "time", "ratio": 0.5}, "b": {"kind": "bytes", "ratio": 0.25}}, path)
    content = json.loads(path.read_text())
    content[cpu_name()]["benchmarks"]["a"]["tolerance"] = 2.5
    path.write_text(json.dumps(content))
    baseline.write({"a": {"kind": "time", "ratio": 0.75}}, path)
    assert baseline.read(path) == {"a": Limit(0.75, 2.5), "b": Limit(0.25, 1.02)}


def test_each_processor_is_held_to_its_own_times(tmp_path: Path) -> None:
    path = tmp_path / "baseline.json"
    baseline.write({"a": {"kind": "time", "ratio": 0.5}, "b": {"kind": "bytes", "ratio": 0.25}}, path, "one")
    baseline.write({"a": {"kind": "time", "ratio": 3.0}}, path, "other")
    assert baseline.processors(path) == ["one", "other"]
    assert baseline.read(path, "other") == {"a": Limit(3.0, 1.4)}
    assert baseline.read(path, "unknown") == {"b": Limit(0.25, 1.02)}


def test_times_of_an_unknown_processor_are_noted_and_held_to_nothing() -> None:
    micro = Micro({"bytes": Limit(0.5, 1.02)}, times=False)
    assert micro.faults(["step"], lambda: {"step": {"ours": [9.0] * 7, "reference": [1.0] * 7}}) == []
    assert micro.results["step"]["ratio"] == 9
    with pytest.raises(AssertionError, match="expected at most"):
        micro.weigh("bytes", 52, 100)


def test_the_committed_tolerances_let_no_doubling_pass(request: pytest.FixtureRequest) -> None:
    if request.config.getoption("--update-baseline"):
        pytest.skip("a baseline is being recorded")
    for cpu in baseline.processors():
        limits = baseline.read(cpu=cpu)
        assert {"decode_train", "gather_augment", "probe_solve", "lora_step", "cached_step"} <= limits.keys()
        assert {"start_train", "saved_bytes"} <= limits.keys()
        assert all(1 < limit.tolerance < 2 and limit.ratio > 0 for limit in limits.values())


def test_products_in_place_are_counted_too() -> None:
    a, b, c = torch.randn(3, 4), torch.randn(4, 5), torch.randn(3, 5)
    assert count_flops(lambda: a @ b) == 2 * 3 * 4 * 5
    assert count_flops(lambda: (a @ b, c.addmm_(a, b), torch.addmm(c, a, b))) == 3 * 2 * 3 * 4 * 5


def test_what_only_another_processor_has_an_entry_for_is_held_to_nothing(tmp_path: Path) -> None:
    path = tmp_path / "baseline.json"
    baseline.write({"step": {"kind": "time", "ratio": 0.5}}, path, "one")
    baseline.write({"new": {"kind": "time", "ratio": 0.5}}, path, "two")
    micro = Micro(baseline.read(path, "one"), elsewhere=baseline.names(path))
    taken = {"ours": [9.0] * 7, "reference": [1.0] * 7}
    assert micro.faults(["new"], lambda: {"new": taken}) == []
    assert len(micro.faults(["step", "unheard of"], lambda: {"step": taken, "unheard of": taken})) == 2
