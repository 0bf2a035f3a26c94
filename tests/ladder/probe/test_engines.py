"""The engine of a run's pass: fixed for the run, its features kept apart, compared with the torch model's."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from hf_finetune.backbones.engines.choose import Offer
from hf_finetune.backbones.engines.eager import Eager
from hf_finetune.ladder.probe.engine_ahead import engine_ahead
from hf_finetune.ladder.probe.feature_pass import FeaturePlace, PassResult, entry_of, extract_features, watch_of
from hf_finetune.ladder.probe.heads import Head
from hf_finetune.pipeline.images import open_and_build
from hf_finetune.pipeline.model import build_model
from hf_finetune.pipeline.prepare import prepare_run
from hf_finetune.recipe.recipe import load_recipe
from hf_finetune.run.clock import Clock
from hf_finetune.run.folder import RunFolder
from tests.cli.photos import write_photos
from tests.training.rows import MemoryRows, save_tiny_vit


class Other(Eager):
    """The torch model under another name."""

    name, identity = "another engine", "other 1"


def test_a_run_keeps_to_the_engine_that_it_began_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("hf_finetune.ladder.probe.feature_pass.graph_identity", lambda _: Other.identity)
    monkeypatch.setattr("hf_finetune.plan.arithmetic.unavailable", lambda *_: None)
    caplog.set_level(logging.INFO)
    recipe = {
        "model": {"name": str(save_tiny_vit(tmp_path / "tiny")), "engine": "graph"},
        "data": {"name": str(write_photos(tmp_path / "photos")), "validation_share": 0.2},
        "train": {"effective_batch_size": 16, "decode_workers": 1},
        "output": {"dir": str(tmp_path / "run")},
    }
    context = prepare_run(load_recipe(recipe))
    rows = MemoryRows(80, context.facts.preprocess.height)
    place = FeaturePlace(tmp_path / "cache", "of this test", tmp_path / "engine.json")
    model = build_model(context)

    def passed(*, offered: bool) -> PassResult:
        other = Other(model, watch_of(model, context.facts.head, entry_of(context)))
        offer = Offer(other if offered else None)
        found = extract_features(model, context, {"train": rows}, place, None, announce=lambda *_: None, offer=offer)
        assert offer.engine is None  # it would hold its weights until the run ends
        return found

    first = passed(offered=True)
    assert (first.engine.identity, first.found) == ("other 1", False)
    assert json.loads((tmp_path / "engine.json").read_text())["engine"] == "other 1"
    assert first.image_s == first.engine.eager_s  # of the sample: a first batch alone may be slow for other reasons
    classes, width = 3, first.features.shape[1]
    torch.manual_seed(0)
    figures = first.engine.compare_answers(Head(torch.randn(classes, width), torch.zeros(classes)))
    assert figures["answers_compared"] >= 64 and figures["answers_that_differ"] == 0
    assert "the head answers 0 otherwise" in caplog.text

    again = passed(offered=False)  # its features are there: nothing has to be converted for them
    assert (again.engine.identity, again.found) == ("other 1", True)
    assert again.engine.eager_s and again.image_s == again.engine.eager_s
    assert "features that other 1 left in an earlier run; they differ by 0.0 %" in caplog.text

    (tmp_path / "engine.json").write_text(json.dumps({"engine": ""}))  # another run, which the torch model began
    third = passed(offered=True)
    assert (third.engine.identity, third.found) == ("", False)

    assert RunFolder(tmp_path / "run").engine in RunFolder(tmp_path / "run").files


@pytest.mark.e2e
def test_what_makes_an_engine_ready_is_no_time_that_loading_takes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = {
        "model": {"name": str(save_tiny_vit(tmp_path / "tiny"))},
        "data": {"name": str(write_photos(tmp_path / "photos")), "validation_share": 0.2, "cache_dir": str(tmp_path)},
        "train": {"decode_workers": 1},
        "output": {"dir": str(tmp_path / "run")},
    }
    context, stages = prepare_run(load_recipe(recipe)), []

    class Told(Clock):
        """Knows which stage the main thread is in."""

        @contextmanager
        def stage(self, name: str) -> Iterator[None]:
            with super().stage(name):
                if threading.current_thread() is threading.main_thread():
                    stages.append(name)
                yield

    def ahead(*_: object) -> Offer:
        assert stages[-1] == "engine"  # of "model" the end of a run reserves as much again, for loading
        return Offer(reason="asked")

    monkeypatch.setattr("hf_finetune.ladder.probe.engine_ahead.engine_ahead", ahead)
    _, _, offer = open_and_build(context, RunFolder(tmp_path / "run"), Told())
    assert offer.reason == "asked" and stages == ["model", "engine"]


def test_an_extra_that_is_not_installed_costs_no_forward_pass(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hf_finetune.ladder.probe.engine_ahead.unavailable", lambda *_: "it is not installed")
    recipe = {
        "model": {"name": str(save_tiny_vit(tmp_path / "tiny"))},
        "data": {"name": str(write_photos(tmp_path / "photos")), "validation_share": 0.2},
        "train": {"decode_workers": 1},
    }
    context = prepare_run(load_recipe(recipe))
    place = FeaturePlace(tmp_path / "cache", "of this test", tmp_path / "engine.json")
    nothing = torch.nn.Identity()  # whoever calls it, or looks for its head, fails
    assert engine_ahead(nothing, context, place, ["train"]) == Offer()
    slow = replace(context, facts=replace(context.facts, forward_flops=1e15))
    assert engine_ahead(nothing, slow, place, ["train"]) == Offer(reason="it is not installed")
