"""Ranks that are interrupted end together with what they have; one whose peer is gone says so; folders are shared."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from tests.pipeline.ranks import Ranks

pytestmark = [pytest.mark.e2e, pytest.mark.skipif(os.name == "nt", reason="signals are sent in other ways there")]
LONG = ("quickstart", "ladder=[probe, full]", "train.epochs=400", "train.evaluations=400")


def long_run(tmp_path: Path, *overrides: str) -> tuple[Path, list[list[str]]]:
    """A run that trains until it is ended, with an evaluation each epoch."""
    out = tmp_path / "run"
    return out, [[*LONG, f"output.dir={out}", *overrides]] * 2


def test_a_signal_that_comes_to_one_rank_sooner_ends_both_after_the_same_update(tmp_path: Path) -> None:
    """The one that has left training used to be waited for by the other, which it waited for in turn."""
    out, overrides = long_run(tmp_path)
    with Ranks(tmp_path, overrides, {"SLURM_JOB_ID": "7"}) as ranks:
        ranks.wait_for(out / "metrics.jsonl", "eval_loss")
        ranks.processes[1].send_signal(signal.SIGTERM)
        time.sleep(0.3)
        ranks.processes[0].send_signal(signal.SIGTERM)
        assert ranks.codes() == [75, 75], ranks.said(0) + ranks.said(1)
    assert "interrupted; the best rung so far (probe) is saved" in ranks.said(0)
    assert "Traceback" not in ranks.said(0) + ranks.said(1)
    assert (out / "adapter" / "adapter_model.safetensors").is_file()
    assert list((out / "checkpoints").glob("checkpoint-*"))


def test_a_signal_to_one_rank_alone_ends_both(tmp_path: Path) -> None:
    out, overrides = long_run(tmp_path)
    with Ranks(tmp_path, overrides) as ranks:
        ranks.wait_for(out / "metrics.jsonl", "eval_loss")
        ranks.processes[1].send_signal(signal.SIGINT)
        assert ranks.codes() == [130, 130], ranks.said(0) + ranks.said(1)
    assert "interrupted; the best rung so far (probe) is saved" in ranks.said(0)


@pytest.mark.parametrize("killed", [0, 1])
def test_a_rank_whose_peer_was_killed_says_so_and_may_be_started_again(killed: int, tmp_path: Path) -> None:
    out, overrides = long_run(tmp_path)
    with Ranks(tmp_path, overrides) as ranks:
        ranks.wait_for(out / "metrics.jsonl", "eval_loss")
        ranks.processes[killed].kill()
        assert ranks.codes()[1 - killed] == 75, ranks.said(1 - killed)
    said = ranks.said(1 - killed)
    assert f"hf-finetune: rank {1 - killed}: the connection to rank {killed} is lost (" in said
    assert "The same command goes on from the last whole checkpoint." in said
    assert "Traceback" not in said and "gloo/transport" not in said


def test_run_folders_that_are_not_one_are_refused_by_every_rank(tmp_path: Path) -> None:
    overrides = [["quickstart", f"output.dir={tmp_path / name}"] for name in ("here", "there")]
    with Ranks(tmp_path, overrides) as ranks:
        assert ranks.codes() == [2, 2]
    for rank in range(2):
        assert "output.dir: one folder for all processes is expected; rank 0 has" in ranks.said(rank)
        assert f"rank 1 has {tmp_path / 'there'} on" in ranks.said(rank)
    assert not list(tmp_path.rglob("*.partial"))


def test_another_recipe_of_one_rank_is_refused_by_every_rank(tmp_path: Path) -> None:
    overrides = [["quickstart", f"output.dir={tmp_path / 'run'}", f"train.seed={rank}"] for rank in range(2)]
    with Ranks(tmp_path, overrides) as ranks:
        assert ranks.codes() == [2, 2]
    for rank in range(2):
        assert "holds another run; different there: train.seed (0, now 1)" in ranks.said(rank)
