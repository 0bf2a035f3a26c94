"""Files for streamed weights: the checkpoint's own where they will do, else one in the cache: whole, or not there."""

from __future__ import annotations

import json
import logging
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from hf_finetune.adapters import Lora
from hf_finetune.backbones.checkpoint import builtin_path
from hf_finetune.backbones.config import Model
from hf_finetune.data.store.expiry import clear, entries
from hf_finetune.errors import MachineError
from hf_finetune.result import frozen_files as module
from hf_finetune.result.frozen_files import files_for, frozen_files
from hf_finetune.result.load import load_result
from hf_finetune.result.manifest import read_manifest
from tests.backbones.small import edit_weights, write_vit
from tests.result.results import save_result


@pytest.fixture
def model(tmp_path: Path) -> Model:
    (tmp_path / "base").mkdir()
    return Model(name=str(write_vit(tmp_path / "base")))


def weights_of(model: Model) -> dict[str, torch.Tensor]:
    return load_file(Path(model.name) / "model.safetensors")


def is_right(file: Path, model: Model) -> bool:
    expected, found = weights_of(model), load_file(file)
    return expected.keys() == found.keys() and all(torch.equal(expected[key].bfloat16(), found[key]) for key in found)


def test_a_checkpoint_of_the_right_type_is_used_as_it_is(model: Model, own_cache: Path) -> None:
    assert frozen_files(model, torch.float32) == [Path(model.name) / "model.safetensors"]
    assert not (own_cache / "store").exists()
    for stream, device in (("off", "cpu"), ("off", "cuda:0"), ("host", "cuda:0")):
        assert files_for(stream, device, model, torch.bfloat16) == ()
    for stream, device in (("disk", "cuda:0"), ("disk", "cpu"), ("host", "cpu")):  # the last: trained on a GPU
        assert len(files_for(stream, device, model, torch.float32)) == 1


def test_another_type_is_converted_once_and_counted_and_cleared(model: Model, own_cache: Path) -> None:
    (file,) = frozen_files(model, torch.bfloat16)
    assert is_right(file, model) and file.parent.parent == own_cache / "store"
    written = file.stat().st_mtime_ns
    os.utime(file.parent / "meta.json", (0, 0))
    assert frozen_files(model, torch.bfloat16) == [file]
    assert file.stat().st_mtime_ns == written
    ((folder, used, size),) = entries(own_cache / "store")
    assert folder == file.parent and used > 0 and size > file.stat().st_size
    assert frozen_files(model, torch.float16) != [file]
    edit_weights(Path(model.name), rename=("vit.layernorm.bias", "vit.layernorm.other"))
    assert frozen_files(model, torch.bfloat16) != [file]  # other weights
    assert clear(own_cache / "store")[1] == 0
    assert entries(own_cache / "store") == []


def test_a_pickle_is_converted_whatever_its_type(model: Model) -> None:
    torch.save(weights_of(model), Path(model.name) / "pytorch_model.bin")
    expected = weights_of(model)
    (Path(model.name) / "model.safetensors").unlink()
    (file,) = frozen_files(model, torch.float32)
    assert all(torch.equal(tensor, expected[name]) for name, tensor in load_file(file).items())


def flip(file: Path) -> None:
    with file.open("rb+") as opened:
        opened.seek(-7, os.SEEK_END)
        byte = opened.read(1)
        opened.seek(-7, os.SEEK_END)
        opened.write(bytes([byte[0] ^ 1]))


@pytest.mark.parametrize(
    "damage",
    [
        flip,
        lambda file: os.truncate(file, file.stat().st_size - 100),
        lambda file: file.unlink(),
        lambda file: (file.parent / "meta.json").unlink(),
        lambda file: (file.parent / "meta.json").write_text("{"),
        lambda file: (file.parent / "meta.json").write_text('{"format": 0}'),
    ],
)
def test_a_damaged_file_is_made_again(model: Model, damage: Callable[[Path], object]) -> None:
    (file,) = frozen_files(model, torch.bfloat16)
    damage(file)
    assert frozen_files(model, torch.bfloat16) == [file]
    assert is_right(file, model)


def test_what_an_ended_process_left_half_written_is_removed(model: Model) -> None:
    (file,) = frozen_files(model, torch.bfloat16)
    half = file.parent.with_name(f"{file.parent.name}.tmp-1-0")
    shutil.move(file.parent, half)
    assert frozen_files(model, torch.bfloat16) == [file]
    assert not half.exists() and is_right(file, model)


def test_a_disk_without_room_is_refused(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_SPARE_BYTES", 2**62)
    with pytest.raises(MachineError) as raised:
        frozen_files(model, torch.bfloat16)
    assert raised.value.message.startswith("model.stream: the frozen weights as bfloat16 take ")
    assert "a folder on a larger disk" in raised.value.hint


def test_a_streamed_result_is_loaded_whole_where_no_file_can_be_written(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = save_result(builtin_path("builtin:starter"), Lora(rank=2), tmp_path / "adapter")
    manifest = replace(read_manifest(folder), stream="disk")
    (tmp_path / "file").write_text("no folder")
    size = manifest.preprocess.height, manifest.preprocess.width
    logits = []
    for cache in ("cache", "file"):
        model = load_result(folder, manifest, torch.bfloat16, "cpu", cache_dir=str(tmp_path / cache))
        logits.append(model(pixel_values=torch.ones(1, 3, *size)).logits)
    assert torch.equal(*logits)
    warned = [record.message for record in caplog.records if record.levelno >= logging.WARNING]
    assert [message.endswith("The weights are loaded whole.") for message in warned] == [True]


def test_a_cache_that_cannot_be_written_is_refused_and_one_that_holds_the_file_is_not(
    model: Model, own_cache: Path, tmp_path: Path
) -> None:
    occupied = tmp_path / "file"
    occupied.write_text("no folder")
    with pytest.raises(MachineError) as raised:
        frozen_files(model, torch.bfloat16, occupied)
    assert f"in {occupied / 'store'}, which cannot be written: " in raised.value.message
    assert "a checkpoint that is saved in bfloat16" in raised.value.hint
    assert frozen_files(model, torch.float32, occupied)  # nothing to write

    (file,) = frozen_files(model, torch.bfloat16)
    (own_cache / "store" / f"{file.parent.name}.lock").unlink(missing_ok=True)
    assert frozen_files(model, torch.bfloat16) == [file]
    assert not (own_cache / "store" / f"{file.parent.name}.lock").exists()
    assert json.loads((file.parent / "meta.json").read_text())["dtype"] == "torch.bfloat16"
