"""Only whole checkpoints are resumed from."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from hf_finetune.run.checkpoints import is_sound, is_whole, newest_whole, seal, seal_and_thin_out


def checkpoint(folder: Path, step: int, *, sealed: bool = True) -> Path:
    path = folder / f"checkpoint-{step}"
    (path / "sub").mkdir(parents=True)
    (path / "adapter_model.safetensors").write_bytes(bytes(range(256)) * step)
    (path / "sub" / "optimizer.pt").write_bytes(b"state" * step)
    if sealed:
        seal(path)
    return path


def test_the_newest_sealed_one_is_found(tmp_path: Path) -> None:
    checkpoint(tmp_path, 9)
    newest = checkpoint(tmp_path, 10)
    assert newest_whole(tmp_path) == newest


def test_without_checkpoints_there_is_none(tmp_path: Path) -> None:
    assert newest_whole(tmp_path) is None
    assert newest_whole(tmp_path / "missing") is None


def test_one_without_a_seal_is_set_aside(tmp_path: Path) -> None:
    older = checkpoint(tmp_path, 9)
    checkpoint(tmp_path, 10, sealed=False)
    assert newest_whole(tmp_path) == older
    assert sorted(path.name for path in tmp_path.iterdir()) == ["broken-checkpoint-10", "checkpoint-9"]


def test_one_that_fails_at_the_same_step_again_is_set_aside_again(tmp_path: Path) -> None:
    for _ in range(2):
        checkpoint(tmp_path, 10, sealed=False)
        assert newest_whole(tmp_path) is None
    assert [path.name for path in tmp_path.iterdir()] == ["broken-checkpoint-10"]


def test_others_than_the_best_go_once_the_new_one_is_sealed(tmp_path: Path) -> None:
    best, _ = checkpoint(tmp_path, 2), checkpoint(tmp_path, 9)
    new = checkpoint(tmp_path, 10, sealed=False)
    assert newest_whole(tmp_path) == tmp_path / "checkpoint-9"  # a kill before the seal loses the new one alone
    new = checkpoint(tmp_path, 10, sealed=False)
    seal_and_thin_out(new, best)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["broken-checkpoint-10", "checkpoint-10", "checkpoint-2"]
    assert is_sound(new) and is_sound(best)
    newest = checkpoint(tmp_path, 11, sealed=False)
    seal_and_thin_out(newest, newest)
    assert not best.exists() and is_sound(new) and is_sound(newest)


@pytest.mark.parametrize("name", ["adapter_model.safetensors", "sub/optimizer.pt"])
@pytest.mark.parametrize("damage", ["truncated", "flipped", "missing"])
def test_every_kind_of_damage_breaks_the_seal(tmp_path: Path, name: str, damage: str) -> None:
    path = checkpoint(tmp_path, 3)
    file = path / name
    content = file.read_bytes()
    if damage == "missing":
        file.unlink()
    else:
        file.write_bytes(content[:-1] if damage == "truncated" else content[:-1] + bytes([content[-1] ^ 1]))
    assert not is_whole(path)
    assert newest_whole(tmp_path) is None


@pytest.mark.skipif(os.name == "nt", reason="modes are those of POSIX")
@pytest.mark.parametrize(("mask", "mode"), [(0o022, 0o644), (0o027, 0o640), (0o077, 0o600)])
def test_what_a_library_wrote_for_its_owner_alone_follows_the_umask(tmp_path: Path, mask: int, mode: int) -> None:
    before = os.umask(mask)
    try:
        path = checkpoint(tmp_path, 1, sealed=False)
        save_file({"a": np.zeros(2)}, path / "model.safetensors")
        assert (path / "model.safetensors").stat().st_mode & 0o777 == 0o600  # else this test shows nothing
        seal(path)
    finally:
        os.umask(before)
    assert {file.stat().st_mode & 0o777 for file in path.rglob("*") if file.is_file()} == {mode}
    assert is_whole(path)
