"""Two tasks of a Slurm job train by docs/cluster/slurm.sbatch, are preempted or lose one of them, and end the same.

`make cluster` installs and starts a Slurm on this machine (slurm.py); without one these tests are skipped.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from tests.cluster.runs import ClusterRun
from tests.cluster.slurm import environment
from tests.pipeline.launched import ON_CPUS, ROOT

pytestmark = pytest.mark.cluster
FOLDER = Path(os.environ.get("HF_FINETUNE_CLUSTER", ROOT / ".cluster"))
FILE = ROOT / "docs" / "cluster" / "slurm.sbatch"


class Job(ClusterRun):
    """One job of `slurm.sbatch`, in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._variables = {**environment(FOLDER / "slurm"), **ON_CPUS}
        self._variables |= {"HF_FINETUNE": f"{sys.executable} -m hf_finetune", "PYTHONPATH": str(ROOT)}
        self.number = self.say("sbatch", "--parsable", f"--output={self.log_file}", str(FILE), *self.words)

    def say(self, *command: str) -> str:
        done = subprocess.run(command, cwd=ROOT, env=self._variables, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def state(self) -> str:
        return self.say("scontrol", "--oneliner", "show", "job", self.number).partition("JobState=")[2].split()[0]

    def wait_for_end(self) -> None:
        self.wait(lambda: self.state() in ("COMPLETED", "FAILED", "CANCELLED", "NODE_FAIL", "TIMEOUT"))
        assert self.state() == "COMPLETED", self.log

    def kill_rank(self, rank: int) -> None:
        """As the kernel does where memory lacks."""
        wanted = {"SLURM_JOB_ID": self.number, "RANK": str(rank)}
        for process in psutil.process_iter():
            try:
                variables, words = process.environ(), process.cmdline()
            except psutil.Error:
                continue
            if wanted.items() <= variables.items() and "train" in words and "hf_finetune" in words:
                process.kill()
                return
        raise AssertionError(f"rank {rank} of job {self.number} is not there")


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if shutil.which("sbatch") is None or not (FOLDER / "slurm" / "slurm.conf").is_file():
        pytest.skip("no Slurm is set up here: make cluster does that")
    asked = subprocess.run(["sinfo"], env=environment(FOLDER / "slurm"), capture_output=True, text=True, timeout=60)
    if asked.returncode:
        pytest.skip(f"the Slurm in {FOLDER / 'slurm'} does not run: make cluster starts it")
    return tmp_path_factory.mktemp("slurm")


@pytest.fixture(scope="module")
def undisturbed(places: Path) -> Job:
    job = Job(places / "undisturbed")
    job.wait_for_end()
    return job


def test_two_tasks_train_together(undisturbed: Job) -> None:
    assert "2 processes" in undisturbed.log
    assert undisturbed.log.count("Reading data:") == 1
    assert (undisturbed.run / "run.json").is_file()


def preempt(job: Job) -> None:
    job.say("scontrol", "requeue", job.number)


def end_in_time(job: Job) -> None:
    """What `--signal=TERM@120` does when the job's time is nearly over."""
    job.say("scancel", "--signal=TERM", job.number)


def lose_a_rank(job: Job) -> None:
    job.kill_rank(1)


@pytest.mark.parametrize("disturb", [end_in_time, preempt, lose_a_rank], ids=lambda each: each.__name__)
def test_a_job_that_is_disturbed_is_queued_again_and_ends_the_same(
    disturb: Callable[[Job], None], undisturbed: Job, places: Path
) -> None:
    job = Job(places / disturb.__name__)
    job.wait(job.has_checkpoint)
    disturb(job)
    job.wait(lambda: job.log.count("Reading data:") == 2)
    job.wait_for_end()
    said = job.log
    assert "Traceback" not in said
    if disturb is lose_a_rank:
        assert "rank 0: the connection to rank 1 is lost" in said and "Exit code 137: back into the queue." in said
    if disturb is end_in_time:
        assert "Exit code 75: back into the queue." in said
    job.assert_went_on_to(undisturbed)
