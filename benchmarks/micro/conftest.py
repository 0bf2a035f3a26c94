"""What every micro-benchmark uses: `micro.compare` and `micro.weigh`, which measure, note and hold to the baseline."""

from __future__ import annotations

import json
import os
import statistics
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

import pytest

# No benchmark may reach the internet. Before anything imports huggingface_hub.
os.environ["HF_HUB_OFFLINE"] = "1"

import torch
from matmul import FLOPS, count_flops, matmul, matmul_rate

from hf_finetune.machine.detect import cpu_has_bf16, cpu_name
from micro import baseline
from micro.interleaved import LEAST_ROUNDS, interleave, ratio_of
from micro.photos import write_photos

SECONDS = 2.0  # of a measurement, over all functions
PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16}


class Micro:
    """Results of a session by name; each is held to its limit as soon as it is there.

    Nothing is held where limits are None; without `times`, bytes alone are.
    """

    def __init__(
        self, limits: Mapping[str, baseline.Limit] | None, *, times: bool = True, elsewhere: Collection[str] = ()
    ) -> None:
        """`elsewhere`: benchmarks that another processor has an entry for; without one here they are not held."""
        self.limits, self._times, self._elsewhere = limits, times, elsewhere
        self.results: dict[str, dict[str, Any]] = {}

    def compare(
        self,
        name: str,
        ours: Callable[[], Any],
        reference: Callable[[], Any],
        *,
        images: int | None = None,
        products: str | None = None,
        seconds: float = SECONDS,
        least: int = LEAST_ROUNDS,
        kind: str = "time",
    ) -> None:
        """Ratio of the median times; `images` a call, `products` the precision of its matrix products (fp32, bf16).

        `kind`: see baseline.TOLERANCES.
        """
        functions = {"ours": ours, "reference": reference}
        if products is not None:
            functions["matmul"] = matmul(PRECISIONS[products])
        found = self.faults([name], lambda: {name: interleave(functions, seconds, least=least)}, kind)
        result = self.results[name]
        for who in ("ours", "reference"):
            if images is not None:
                result[f"{who}_images_per_s"] = images / result[f"{who}_s"]
            if products is not None:
                flops = count_flops(functions[who])
                result[f"{who}_gflop"] = flops / 1e9
                result[f"{who}_share_of_matmul"] = flops / FLOPS * result["matmul_s"] / result[f"{who}_s"]
        assert not found, "\n".join(found)

    def faults(
        self, names: list[str], measure: Callable[[], dict[str, dict[str, list[float]]]], kind: str = "time"
    ) -> list[str]:
        """Measure and note; what is over its limit is measured once more, since noise passes and slowness stays.

        `measure` gives, by benchmark, the seconds of `ours`, of `reference`, and of what else took turns with them.
        """
        found: list[str] = []
        for _ in range(2):
            for name, taken in measure().items():
                self._note(name, taken, kind)
            found = [fault for name in names if (fault := self.fault(name))]
            if not found:
                break
        return found

    def weigh(self, name: str, ours: int, reference: int) -> None:
        """Ratio of two numbers of bytes."""
        found = {"ours_bytes": ours, "reference_bytes": reference}
        self.results[name] = {"kind": "bytes", "ratio": ours / reference, **found}
        fault = self.fault(name)
        assert fault is None, fault

    def fault(self, name: str) -> str | None:
        """What is wrong with the result; None where it is within its limit, or not held to one."""
        if self.limits is None or (self.results[name]["kind"] != "bytes" and not self._times):
            return None
        if name not in self.limits and name in self._elsewhere:
            return None
        return baseline.fault(name, self.results[name]["ratio"], self.limits)

    def report(self) -> dict[str, Any]:
        """Everything that was measured, for JSON, with what this machine's matrix products do in a second."""
        rates = {f"{name}_matmul_gflop_per_s": matmul_rate(dtype) / 1e9 for name, dtype in PRECISIONS.items()}
        return {"of": {"cpu": cpu_name(), **baseline.about_this_run(), **rates}, "results": self.results}

    def _note(self, name: str, taken: Mapping[str, list[float]], kind: str) -> None:
        pairs = [one / other for one, other in zip(taken["ours"], taken["reference"], strict=True)]
        self.results[name] = {
            "kind": kind,
            "ratio": ratio_of(taken["ours"], taken["reference"]),
            **{f"{who}_s": statistics.median(seconds) for who, seconds in taken.items()},
            "rounds": len(pairs),
            "quartiles_of_ratios": [round(each, 3) for each in statistics.quantiles(pairs, n=4)],
        }


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("micro-benchmarks")
    group.addoption("--update-baseline", action="store_true", help="record the ratios of this run in baseline.json")
    group.addoption("--micro-json", type=Path, help="write everything that was measured to this file")


SESSION = pytest.StashKey[Micro]()


def pytest_configure(config: pytest.Config) -> None:
    recording = config.getoption("--update-baseline")
    recorded = cpu_name() in baseline.processors()
    config.stash[SESSION] = Micro(
        None if recording else baseline.read(), times=recorded, elsewhere=baseline.names() if recorded else ()
    )


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three folders of twelve JPEGs."""
    return write_photos(tmp_path_factory.mktemp("photos") / "all", 12)


@pytest.fixture(scope="session")
def ours(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A run up to its first rung, with four blocks (models.Ours)."""
    from micro.models import prepare_ours, write_checkpoint

    if not cpu_has_bf16():
        pytest.skip("no bfloat16 in hardware: the plan would not choose it, and the baseline is of bfloat16")
    folder = tmp_path_factory.mktemp("run")
    return prepare_ours(write_checkpoint(folder / "vit", 4), photos, folder)


@pytest.fixture
def micro(request: pytest.FixtureRequest) -> Micro:
    return request.config.stash[SESSION]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    micro = config.stash[SESSION]
    if not micro.results:
        return
    terminalreporter.section("ours over the reference (less is better)")
    for name, result in micro.results.items():
        terminalreporter.write_line(_line(name, result, (micro.limits or {}).get(name)))
    if (path := config.getoption("--micro-json")) is not None:
        path.write_text(json.dumps(micro.report(), indent=1) + "\n", encoding="utf-8")
    if micro.limits is not None and cpu_name() not in baseline.processors():
        terminalreporter.write_line(
            f"no times of a {cpu_name()} are recorded: none was held to any ({baseline.UPDATE})"
        )
    if config.getoption("--update-baseline"):
        baseline.write(micro.results)
        terminalreporter.write_line(f"recorded in {baseline.PATH.name}")


def _line(name: str, result: Mapping[str, Any], limit: baseline.Limit | None) -> str:
    cells = [f"{name:28} {result['ratio']:7.3f}"]
    if limit is not None:
        cells.append(f"of at most {limit.most:.3f}")
        if result["ratio"] * limit.tolerance < limit.ratio:
            cells.append(f"far below the recorded {limit.ratio:.3f}: record it ({baseline.UPDATE})")
    if "ours_s" in result:
        cells.append(f"{result['ours_s'] * 1e3:.1f} / {result['reference_s'] * 1e3:.1f} ms")
    else:
        cells.append(f"{result['ours_bytes']:,} / {result['reference_bytes']:,} bytes")
    for what, unit in (("images_per_s", "images/s"), ("share_of_matmul", "of the matmul rate")):
        if f"reference_{what}" in result:
            cells.append(f"{result[f'ours_{what}']:.3g} / {result[f'reference_{what}']:.3g} {unit}")
    return ", ".join(cells)
