"""A whole run with streamed blocks answers as one without, and its result streams again."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

import hf_finetune
from hf_finetune.backbones.streaming import ahead

pytestmark = pytest.mark.e2e

Cli = Callable[..., tuple[int, str, str]]
SETTINGS = (
    "model.stream=disk",
    "train.precision=bf16",
    "adapter.kind=lora",
    "train.epochs=2",
    "output.existing=overwrite",
)


def test_a_streamed_run_its_result_and_its_cache(
    recipe: Path, photos: Path, own_cache: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    streamed: list[str] = []
    monkeypatch.setattr(ahead.logger, "debug", lambda _text, size: streamed.append(size))
    run = recipe.parent / "run"
    reports = []
    for stream in ("off", "disk"):
        assert cli("train", recipe, *SETTINGS, f"model.stream={stream}")[0] == 0
        reports.append(json.loads((run / "run.json").read_text(encoding="utf-8")))
    whole, own = reports
    assert len(streamed) == 3  # to train, to verify, to score the test in float32
    assert own["plan"]["stream"] == {"value": "disk", "reason": "as the recipe says"}
    assert [rung["validation"] for rung in own["rungs"]] == [rung["validation"] for rung in whole["rungs"]]
    assert own["test"] == whole["test"]
    assert json.loads((run / "adapter" / "hf_finetune.json").read_text(encoding="utf-8"))["stream"] == "disk"

    (converted,) = own_cache.glob("store/*/model.safetensors")
    assert cli("evaluate", run)[0] == 0
    picture = next(photos.rglob("*.jpg"))
    assert cli("predict", run, picture)[0] == 0
    assert len(streamed) == 5
    assert json.loads(cli("cache", "--json")[1])["bytes"] > converted.stat().st_size
    cli("cache", "clear")
    assert not converted.exists()
    assert hf_finetune.load(run).predict(picture)[0].label  # float32 needs no converted file


def test_a_recipe_that_cannot_be_streamed_is_refused_before_a_run_folder_is_made(recipe: Path, cli: Cli) -> None:
    code, _, err = cli("train", recipe, "model.stream=disk", "adapter.kind=full")
    assert code != 0 and "model.stream is disk: frozen weights are expected" in err
    assert not (recipe.parent / "run").exists()
