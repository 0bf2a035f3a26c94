"""`hf-finetune export`, after a real run on the built-in backbone: one folder, which needs neither base nor adapter."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

import hf_finetune
from hf_finetune.adapters import Lora
from hf_finetune.backbones.checkpoint import builtin_path
from hf_finetune.cli import main
from hf_finetune.result.manifest import read_manifest, write_manifest
from tests.cli.photos import write_photos
from tests.result.results import save_result, stock_answers

# 2026-11-23: peft 0.21.2 reads a property that transformers 5.23 calls deprecated.
pytestmark = [
    pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning"),
    pytest.mark.e2e,
]


def test_a_quantized_base_that_this_machine_cannot_run_is_not_compared(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """nf4 on a CPU needs widths of whole blocks of 64; a GPU, where such a result comes from, does not."""
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    result = save_result(builtin_path("builtin:starter"), Lora(rank=4), tmp_path / "result")
    manifest = read_manifest(result)
    write_manifest(result, replace(manifest, quantization="nf4"))
    assert main(["export", str(result), str(tmp_path / "whole")]) == 0
    assert "Not compared with the quantized base that it was trained on" in capsys.readouterr().out
    assert (tmp_path / "whole" / "model.safetensors").is_file()


def test_a_run_becomes_one_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    photos = write_photos(tmp_path / "photos")
    run = tmp_path / "run"
    settings = [f"data.name={photos}", f"output.dir={run}", "train.epochs=2", "train.decode_workers=1"]
    assert main(["train", "quickstart", *settings]) == 0
    capsys.readouterr()
    images = sorted((photos / "test").rglob("*.jpg"))[::20]
    expected = hf_finetune.load(run).predict(images)

    assert main(["export", str(run), str(tmp_path / "whole")]) == 0
    out = capsys.readouterr().out.splitlines()
    assert out[0].startswith(f"{tmp_path / 'whole'}  ")
    assert out[1].startswith("Logits differ from the result's by at most ")
    written = [file for folder in (run, tmp_path / "whole") for file in folder.rglob("*") if file.is_file()]
    (plain := tmp_path / "plain").touch()
    assert {file.stat().st_mode for file in written} == {plain.stat().st_mode}  # the umask's, for weights too
    (run / "adapter").rename(tmp_path / "gone")
    answers = stock_answers(images, [tmp_path / "whole"], tmp_path)[str(tmp_path / "whole")]
    for answer, prediction in zip((each["pipeline"] for each in answers), expected, strict=True):
        # Pipelines choose torchvision's resize, which differs by a grey level here and there.
        assert answer[prediction.label] == pytest.approx(prediction.probability, abs=0.02)
        assert max(answer.values()) == pytest.approx(prediction.probability, abs=0.02)

    assert main(["export", str(run), str(tmp_path / "whole")]) == 2
    assert "is a finished run whose result is gone" in capsys.readouterr().err
