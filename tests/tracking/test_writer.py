"""What goes wrong with a tracker is said once and promptly; the run goes on, and nothing is lost."""

from __future__ import annotations

import logging
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path

import pytest

from hf_finetune.tracking.run import FOLDER, TrackedRun, opening
from hf_finetune.tracking.writer import Writer
from hf_finetune.types import Candidate
from tests.tracking.stores import READERS

pytestmark = pytest.mark.e2e


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No account of this machine's user."""
    for name in ("WANDB_MODE", "WANDB_API_KEY", "MLFLOW_TRACKING_URI", "TRACKIO_DIR", "TENSORBOARD_LOGGING_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]


def followed(folder: Path, trackers: Sequence[str]) -> tuple[TrackedRun, Writer]:
    for tracker in trackers:
        if find_spec(tracker) is None:
            pytest.skip(f"{tracker} is not installed: pip install 'hf_finetune[tracking]'")
    begun = opening(folder, to=tuple(trackers), project=None, name=None, goes_on=True)
    writer = Writer({**begun, "settings": {"recipe.train.epochs": 3}, "texts": {"recipe": "train: {epochs: 3}"}})
    return TrackedRun(writer), writer


def tell(tracked: TrackedRun) -> None:
    tracked.rung(Candidate("probe", {"accuracy": 0.5}, seconds=1.0, peak_bytes=0, step=0, kept=True))
    for update in (1, 2, 3):
        tracked.log(update, {"train/loss": 1 / update, "train/no_number": float("nan")})
    tracked.test({"accuracy": 0.75, "classes": ["a"], "price (EUR).mae": 2.0})


@pytest.mark.parametrize("tracker", ["wandb", "mlflow"])
def test_a_server_that_does_not_answer(
    tmp_path: Path, tracker: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """wandb without a key, or with one and no network; mlflow without its server."""
    caplog.set_level(logging.INFO, logger="hf_finetune")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    tracked, _ = followed(tmp_path, [tracker])
    tell(tracked)
    tracked.close("FINISHED", 60)
    (warning,) = warnings(caplog)
    assert f"tracking: {tracker}: " in warning and "The run goes on, and it is kept locally." in warning
    names, points, settings = READERS[tracker](tmp_path / FOLDER)
    assert names == [tmp_path.name] and "epochs" in settings
    assert points["rung/probe/accuracy"] == [(0, 0.5)] and points["test/accuracy"] == [(4, 0.75)]
    assert [step for step, _ in points["train/loss"]] == [1, 2, 3]
    assert "train/no_number" not in points


def test_a_key_that_no_server_takes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    tracked, _ = followed(tmp_path, ["wandb"])
    tell(tracked)
    tracked.close("FINISHED", 60)
    assert len(warnings(caplog)) == 1
    _, points, _ = READERS["wandb"](tmp_path / FOLDER)
    assert points["test/accuracy"] == [(4, 0.75)]


def test_a_server_that_never_answers_is_waited_for_no_longer_than_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It takes connections and says nothing. Another tracker beside it is held up by nothing."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{silent.getsockname()[1]}")
        monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "300")
        tracked, writer = followed(tmp_path, ["tensorboard", "mlflow"])
        tell(tracked)
        _wait_for(lambda: (tmp_path / FOLDER / "state.json").is_file() and '"step": 4' in _state(tmp_path))
        started = time.monotonic()
        tracked.close("FINISHED", 1.0)
        assert time.monotonic() - started < 20
    assert [each for each in warnings(caplog) if "mlflow has not taken everything within 1 s" in each]
    assert not [each for each in warnings(caplog) if "tensorboard" in each]
    _, points, _ = READERS["tensorboard"](tmp_path / FOLDER)
    assert points["test/accuracy"] == [(4, 0.75)]
    assert writer._process.poll() is not None


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
def test_a_process_that_dies_is_said_once_and_nothing_fails(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    tracked, writer = followed(tmp_path, ["tensorboard"])
    os.kill(writer._process.pid, signal.SIGKILL)
    writer._process.wait()
    for _ in range(3):
        tell(tracked)
    tracked.close("FINISHED", 5)
    (warning,) = warnings(caplog)
    assert "the process that writes has ended" in warning


KILLED = """
import os, signal, sys
from pathlib import Path
from hf_finetune.tracking.run import TrackedRun, opening
from hf_finetune.tracking.writer import Writer
begun = opening(Path(sys.argv[1]), to=("tensorboard",), project=None, name="a run", goes_on=True)
tracked = TrackedRun(Writer({**begun, "settings": {}, "texts": {}}))
tracked.log(1, {"train/loss": 0.5})
tracked.log(2, {"train/loss": 0.25})
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
def test_what_a_killed_run_has_told_is_kept(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    ended = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path)], capture_output=True)
    assert ended.returncode == -signal.SIGKILL
    _wait_for(lambda: (tmp_path / FOLDER / "state.json").is_file() and '"step": 1' in _state(tmp_path))
    names, points, _ = READERS["tensorboard"](tmp_path / FOLDER)
    assert names == ["a run"] and points["train/loss"] == [(0, 0.5), (1, 0.25)]


def test_where_it_writes_and_what_shows_it_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="hf_finetune")
    tracked, _ = followed(tmp_path, ["tensorboard"])
    tell(tracked)
    tracked.close("FINISHED", 30)
    assert [each for each in caplog.messages if f"(tensorboard --logdir {tmp_path}" in each]


def test_a_name_that_mlflow_does_not_take_loses_no_value(tmp_path: Path) -> None:
    tracked, _ = followed(tmp_path, ["mlflow"])
    tell(tracked)
    tracked.close("FINISHED", 30)
    _, points, _ = READERS["mlflow"](tmp_path / FOLDER)
    assert points["test/price _EUR_.mae"] == [(4, 2.0)]


def _state(folder: Path) -> str:
    return (folder / FOLDER / "state.json").read_text("utf-8")


def _wait_for(reached: Callable[[], bool], seconds: float = 60) -> None:
    until = time.monotonic() + seconds
    while not reached():
        assert time.monotonic() < until
        time.sleep(0.1)
