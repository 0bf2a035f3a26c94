"""Two workers of Ray Train on this machine's CPUs train by docs/cluster/ray_train.py, lose one, and end the same.

`make cluster` makes the environment that has Ray (ray_environment.py); without it these tests are skipped.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import psutil
import pytest

from tests.cluster.runs import SECONDS, ClusterRun
from tests.pipeline.launched import ROOT

pytestmark = pytest.mark.cluster
PYTHON = Path(os.environ.get("HF_FINETUNE_CLUSTER", ROOT / ".cluster")) / "ray" / "bin" / "python"
FILE = ROOT / "docs" / "cluster" / "ray_train.py"


class Cluster(ClusterRun):
    """A run of `ray_train.py`, which starts a Ray of its own."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        with self.log_file.open("wb") as log:
            self._process = subprocess.Popen(
                [str(PYTHON), str(FILE), "--cpu", "--workers", "2", *self.words],
                cwd=ROOT,
                env={**os.environ, "OMP_NUM_THREADS": "1", "RAY_DEDUP_LOGS": "0", "RAY_USAGE_STATS_ENABLED": "0"},
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def kill_worker(self) -> None:
        """The one that is not rank 0, as the kernel does where memory lacks."""
        for process in psutil.Process(self._process.pid).children(recursive=True):
            if process.name().startswith("ray::RayTrainWo") and process.pid not in self._first():
                process.kill()
                return
        raise AssertionError("no worker is there")

    def _first(self) -> list[int]:
        """Whoever holds the lock of the run folder."""
        lock = str(self.run / "run.lock")
        return [
            each.pid
            for each in psutil.Process(self._process.pid).children(recursive=True)
            if any(file.path == lock for file in each.open_files())
        ]

    def goes_on(self) -> bool:
        return self._process.poll() is None

    def wait_for_end(self) -> None:
        assert self._process.wait(SECONDS) == 0, self.log[-5000:]

    def end(self) -> None:
        self._process.terminate()
        self._process.wait(60)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Cluster:
    if not PYTHON.is_file():
        pytest.skip("no environment with Ray is there: make cluster makes one")
    cluster = Cluster(tmp_path_factory.mktemp("ray") / "undisturbed")
    try:
        cluster.wait_for_end()
    finally:
        cluster.end()
    return cluster


def test_two_workers_train_together(undisturbed: Cluster) -> None:
    assert "finished: " in undisturbed.log
    assert '"world_size": 2' in (undisturbed.run / "run.json").read_text("utf-8")


def test_a_worker_that_dies_is_started_again_and_the_run_ends_the_same(undisturbed: Cluster, tmp_path: Path) -> None:
    cluster = Cluster(tmp_path / "killed")
    try:
        cluster.wait(cluster.has_checkpoint, cluster.goes_on)
        cluster.kill_worker()
        cluster.wait_for_end()
    finally:
        cluster.end()
    cluster.assert_went_on_to(undisturbed)
