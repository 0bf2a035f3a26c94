"""A finished run's result is what the run wrote, or it is not used."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from hf_finetune.adapters import HeadOnly
from hf_finetune.backbones.checkpoint import builtin_path
from hf_finetune.errors import AdapterError
from hf_finetune.result.files import hashes
from hf_finetune.result.load import find_result
from tests.result.results import save_result


@pytest.fixture
def run(tmp_path: Path) -> Path:
    adapter = save_result(builtin_path("builtin:starter"), HeadOnly(), tmp_path / "run" / "adapter")
    (tmp_path / "run" / "run.json").write_text(json.dumps({"files": hashes(adapter)}))
    return tmp_path / "run"


def test_what_is_as_it_was_written_is_found_by_run_and_by_folder(run: Path) -> None:
    assert len(json.loads((run / "run.json").read_text())["files"]) > 3
    assert find_result(run) == find_result(run / "adapter") == run / "adapter"
    (run / "adapter" / "README.md").write_text("a card of one's own")  # each push writes it anew
    find_result(run)


@pytest.mark.parametrize("name", ["adapter_model.safetensors", "adapter_config.json", "hf_finetune.json"])
@pytest.mark.parametrize("damage", ["flipped", "cut", "lost"])
def test_a_damaged_file_is_named(run: Path, name: str, damage: str) -> None:
    file = run / "adapter" / name
    content = bytearray(file.read_bytes())
    content[-2] ^= 1
    file.write_bytes({"flipped": content, "cut": content[:-1], "lost": b""}[damage])
    if damage == "lost" and name != "hf_finetune.json":
        file.unlink()
    for place in (run, run / "adapter"):
        with pytest.raises(AdapterError, match=rf"is damaged: not as the run wrote it .*: {name}\.") as raised:
            find_result(place)
    assert "--overwrite" in raised.value.hint


@pytest.mark.parametrize("text", ["{", "[]", '{"files": 3}'])
def test_a_damaged_report_is_told_and_does_not_take_the_result_away(
    run: Path, text: str, caplog: pytest.LogCaptureFixture
) -> None:
    (run / "run.json").write_text(text)
    assert find_result(run) == run / "adapter"
    assert "so that its result is not checked" in caplog.text
