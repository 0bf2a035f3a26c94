"""What a rung had reached, written and found again; whatever is not whole or of another run is left alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from hf_finetune.run.kept_rungs import KeptRung, KeptRungs, forget_rungs

OF = {"data_revision": "a", "start": None, "extensions": {}, "base": "b"}
KEPT = KeptRung(
    rung="cached",
    ended=True,
    weights={"one": torch.arange(6.0).view(2, 3), "two": torch.tensor(3, dtype=torch.bfloat16)},
    answers=[np.arange(3.0), np.arange(6, dtype=np.int64).reshape(3, 2)],
    step=7,
    steps=9,
    seconds=12.5,
    micro_batch=4,
)


def test_what_is_kept_is_found(tmp_path: Path) -> None:
    KeptRungs(tmp_path / "checkpoints", OF).keep(KEPT)
    found = KeptRungs(tmp_path / "checkpoints", OF).find("cached")
    assert found is not None
    assert replace(found, weights={}, answers=[]) == replace(KEPT, weights={}, answers=[])
    assert found.weights.keys() == KEPT.weights.keys()
    for name, weight in KEPT.weights.items():
        assert found.weights[name].dtype == weight.dtype
        assert torch.equal(found.weights[name], weight)
    for one, two in zip(found.answers, KEPT.answers, strict=True):
        assert one.dtype == two.dtype
        assert np.array_equal(one, two)
    assert KeptRungs(tmp_path / "checkpoints", OF).find("full") is None
    forget_rungs(tmp_path / "checkpoints")
    assert KeptRungs(tmp_path / "checkpoints", OF).find("cached") is None
    assert KeptRungs(None, OF).find("cached") is None


def flipped(content: bytes, at: int) -> bytes:
    return content[:at] + bytes([content[at] ^ 64]) + content[at + 1 :]


@pytest.mark.parametrize(
    "damage",
    [
        *(lambda content, at=at: flipped(content, at) for at in (-1, -20, -60, 3, 40)),
        lambda content: content[:-5],
        lambda content: content[:20],
        lambda _: b"",
    ],
)
def test_what_is_damaged_is_left_alone(
    damage: Callable[[bytes], bytes], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    KeptRungs(tmp_path, OF).keep(KEPT)
    (path,) = tmp_path.iterdir()
    path.write_bytes(damage(path.read_bytes()))
    assert KeptRungs(tmp_path, OF).find("cached") is None
    assert f"{path} is left alone: " in caplog.text


def test_another_run_finds_nothing(tmp_path: Path) -> None:
    KeptRungs(tmp_path, OF).keep(KEPT)
    assert KeptRungs(tmp_path, {**OF, "base": "c"}).find("cached") is None


def test_a_short_rung_of_large_weights_is_not_worth_its_file(tmp_path: Path) -> None:
    large = {"all": torch.empty(100_000_000, device="meta")}
    assert not KeptRungs(tmp_path, OF).is_worth(large, 30.0)
    assert KeptRungs(tmp_path, OF).is_worth(large, 60.0)
    assert not KeptRungs(None, OF).is_worth(KEPT.weights, 60.0)


def test_inside_a_rung_it_is_written_once_a_minute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr("hf_finetune.run.kept_rungs.time.monotonic", lambda: now)
    kept, file = KeptRungs(tmp_path, OF), tmp_path / "rung-cached.safetensors"
    now += 59
    kept.keep_meanwhile(KEPT)
    assert not file.exists()
    now += 2
    kept.keep_meanwhile(KEPT)
    assert file.exists()
    file.unlink()
    now += 30
    kept.keep_meanwhile(KEPT)
    assert not file.exists()


def test_a_disk_that_takes_nothing_ends_no_run(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "checkpoints").write_text("a file where the folder should be")
    KeptRungs(tmp_path / "checkpoints", OF).keep(KEPT)
    assert "What cached has reached could not be kept: " in caplog.text
