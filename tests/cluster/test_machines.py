"""Two machines, as network namespaces of this one, run one training by docs/cluster/torchrun.sh and accelerate.sh.

Each has its own address, its own cache, and a run folder that both see. It takes root and iproute2.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from tests.pipeline.launched import CONFIG, ON_CPUS, ROOT

pytestmark = pytest.mark.cluster
NETWORK = "10.77.0"
SECONDS = 500.0  # a bound for a machine that is busy


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True, timeout=60)


@pytest.fixture(scope="module")
def names() -> Iterator[list[str]]:
    """Of two namespaces with a cable between them, whose ends are called as they are."""
    if shutil.which("ip") is None or os.name == "nt" or os.geteuid() != 0:
        pytest.skip("network namespaces want root and iproute2")
    pair = [f"hff{os.getpid() % 10000}-{number}" for number in range(2)]
    try:
        for name in pair:
            ip("netns", "add", name)
    except subprocess.CalledProcessError as error:
        pytest.skip(f"no network namespaces here: {error.stderr.decode()}")
    try:
        ip("link", "add", pair[0], "netns", pair[0], "type", "veth", "peer", "name", pair[1], "netns", pair[1])
        for number, name in enumerate(pair):
            ip("-n", name, "addr", "add", f"{NETWORK}.{number + 1}/24", "dev", name)
            ip("-n", name, "link", "set", name, "up")
            ip("-n", name, "link", "set", "lo", "up")
        yield pair
    finally:
        for name in pair:
            ip("netns", "delete", name)


class Machines:
    """A script of docs/cluster, started on both."""

    def __init__(
        self, script: str, names: list[str], folder: Path, words: tuple[str, ...], variables: Mapping[str, str]
    ) -> None:
        self.run = folder / "run"
        self._logs = [folder / f"{number}.log" for number in range(2)]
        self.processes: list[subprocess.Popen[bytes]] = []
        common = {**os.environ, **ON_CPUS, "PYTHON": sys.executable, "MACHINES": "2", "ADDRESS": f"{NETWORK}.1"}
        for number, name in enumerate(names):
            own = {"MACHINE": str(number), "GLOO_SOCKET_IFNAME": name}
            own["HF_FINETUNE_CACHE"] = str(folder / f"cache{number}")
            path = ROOT / "docs" / "cluster" / script
            with self._logs[number].open("wb") as log:
                self.processes.append(
                    subprocess.Popen(
                        ["ip", "netns", "exec", name, str(path), "quickstart", f"output.dir={self.run}", *words],
                        cwd=ROOT,
                        env={**common, **own, **variables},
                        stdout=log,
                        stderr=subprocess.STDOUT,
                    )
                )

    @property
    def said(self) -> list[str]:
        return [log.read_text("utf-8", errors="replace") for log in self._logs]

    def codes(self) -> list[int]:
        return [process.wait(SECONDS) for process in self.processes]

    def end(self) -> None:
        for process in self.processes:
            process.terminate()
            process.wait(60)


@pytest.mark.parametrize(
    ("script", "variables"),
    [("torchrun.sh", {"PROCESSES": "1"}), ("accelerate.sh", {"PROCESSES": "2", "CONFIG": str(CONFIG)})],
)
def test_two_machines_train_together(
    script: str, variables: Mapping[str, str], names: list[str], tmp_path: Path
) -> None:
    machines = Machines(script, names, tmp_path, ("ladder=[probe, full]", "train.epochs=2"), variables)
    try:
        assert machines.codes() == [0, 0], machines.said
    finally:
        machines.end()
    assert '"world_size": 2' in (machines.run / "run.json").read_text("utf-8")


def test_a_cable_that_breaks_ends_both_in_words(names: list[str], tmp_path: Path) -> None:
    words = ("ladder=[full]", "train.epochs=400", "train.evaluations=400", "train.peer_timeout=10s")
    machines = Machines("torchrun.sh", names, tmp_path, words, {"PROCESSES": "1", "RESTARTS": "0"})
    try:
        until = time.monotonic() + SECONDS
        while not (machines.run / "metrics.jsonl").is_file():
            assert time.monotonic() < until and all(each.poll() is None for each in machines.processes), machines.said
            time.sleep(0.2)
        ip("-n", names[1], "link", "set", names[1], "down")
        # The first says it itself, or torch has noticed first and said so to it; the other's launcher may be sooner.
        said = ("has given no sign of life", "is lost (")
        assert machines.processes[0].wait(SECONDS) != 0
        assert any(text in machines.said[0] for text in said), machines.said[0]
    finally:
        ip("-n", names[1], "link", "set", names[1], "up")
        machines.end()
