"""The features that a run keeps: what was written is read, by stock safetensors too, and damage is seen."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from hf_finetune.errors import RunFolderError
from hf_finetune.run import features_file
from hf_finetune.run.features_file import KeptFeatures, KeptRows, read_features, room_for, write_features
from hf_finetune.run.folder import RunFolder

NAMES = ("a,b.png", "line\nbreak.png", "n/a", "<b>.png", "ü.png")


def kept(rows: int = 5, *, wide_labels: bool = False) -> KeptFeatures:
    random = np.random.default_rng(0)

    def of(count: int) -> KeptRows:
        labels = random.normal(size=(count, 3)).astype(np.float32) if wide_labels else np.arange(count) % 3
        names = tuple(f"{number} {NAMES[number % 5]}" for number in range(count))
        features = random.normal(size=(count, 7)).astype(np.float32)
        return KeptRows(names, labels, np.arange(count) - 1, features)

    held = random.normal(size=(2, 7)).astype(np.float32)
    return KeptFeatures({"train": of(rows), "validation": of(3)}, held, {"rung": "probe", "columns": [{"name": "ü"}]})


@pytest.mark.parametrize("wide_labels", [False, True])
def test_what_is_written_is_read_again(tmp_path: Path, *, wide_labels: bool) -> None:
    written, path = kept(9000, wide_labels=wide_labels), tmp_path / "features.safetensors"
    write_features(path, written)
    found = read_features(path)
    for split in ("train", "validation"):
        one, other = written.rows[split], found.rows[split]
        assert one.names == other.names
        for name in ("labels", "units", "features"):
            np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
    np.testing.assert_array_equal(written.held, found.held)
    assert found.about == written.about
    stock = load_file(path)
    np.testing.assert_array_equal(stock["train.features"], written.rows["train"].features)
    assert sorted(each.name for each in tmp_path.iterdir()) == ["features.safetensors"]


@pytest.mark.parametrize("how", ["cut off", "one bit", "empty", "another file"])
def test_damage_is_seen(tmp_path: Path, how: str) -> None:
    path = tmp_path / "features.safetensors"
    write_features(path, kept())
    content = bytearray(path.read_bytes())
    if how == "one bit":
        content[-200] ^= 4
    damaged = {"cut off": content[:-9], "one bit": content, "empty": b"", "another file": b"x" * 500}[how]
    path.write_bytes(bytes(damaged))
    with pytest.raises(RunFolderError, match="is damaged"):
        read_features(path)


def test_no_more_than_a_quarter_of_the_free_disk_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert room_for(tmp_path, 1000)
    assert not room_for(tmp_path, features_file.MOST_BYTES + 1)
    free = shutil.disk_usage(tmp_path)._replace(free=4000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: free)
    assert room_for(tmp_path, 1000)
    assert not room_for(tmp_path, 1001)


def test_what_takes_a_run_away_takes_its_features(tmp_path: Path) -> None:
    assert RunFolder(tmp_path).features in RunFolder(tmp_path).files
