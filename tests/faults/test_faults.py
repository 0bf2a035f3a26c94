"""No fault ends in a result that is silently another, a traceback, or something lost; `-m slow` draws three hundred."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.faults import FAULTS, NEVER, Verdict, drawn, strike
from tests.faults.library import build
from tests.faults.world import World, make_world
from tests.hub_server.server import running

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(sys.platform != "linux", reason="forks, and looks into /proc"),
]
# Some of each kind but two ranks, which take half a minute.
SHORT = (0, 1, 3, 5, 19, 9, 11, 20, 15)
LONG = range(1000, 1300)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("faults")
    (folder / "work" / "hub").mkdir(parents=True)
    with running(folder / "work" / "hub") as hub:
        made = make_world(folder / "work", build(folder), hub.url)
        try:
            made.learn()
            yield made
        finally:
            made.commands.close()


def struck(seed: int, world: World) -> Verdict:
    """What became of a seed's fault. Skips those of a disk that this machine cannot make fail."""
    if drawn(seed).__name__ in ("full", "passing") and not world.commands.has_disk:
        pytest.skip("no C compiler here, which builds the disk that fails")
    return strike(world, seed)


@pytest.mark.parametrize("seed", SHORT)
def test_a_fault_is_survived(seed: int, world: World) -> None:
    verdict = struck(seed, world)
    assert verdict.became not in NEVER, f"{verdict.what}\n{verdict.evidence}"


@pytest.mark.slow
@pytest.mark.parametrize("seed", LONG)
def test_three_hundred_are(seed: int, world: World) -> None:
    verdict = struck(seed, world)
    assert verdict.became not in NEVER, f"{verdict.what}\n{verdict.evidence}"


def test_every_kind_is_drawn() -> None:
    assert {drawn(seed) for seed in LONG} == set(FAULTS)


def test_a_disk_that_fails_does(world: World, tmp_path: Path) -> None:
    """Else a full disk would be survived by not being full."""
    from tests.faults.commands import Disk

    if not world.commands.has_disk:
        pytest.skip("no C compiler here, which builds the disk that fails")
    world.begin(warm="full")
    done = world.train("full", disk=Disk(world.run, "wcma", 0, 10**9, 28, tmp_path / "counter"))
    assert done.code == 2, done.text
    assert "No space left on device" in done.text
