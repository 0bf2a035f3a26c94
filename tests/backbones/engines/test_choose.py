"""The choice of an engine: by speed and likeness on images, with a sentence for whatever keeps it from the faster."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

from hf_finetune.backbones.engines import available, graph
from hf_finetune.backbones.engines.available import EXTRA, unavailable
from hf_finetune.backbones.engines.choose import LARGEST_ERROR, SAMPLE, Offer, agreement, choose, pays
from hf_finetune.backbones.engines.eager import Eager
from hf_finetune.errors import ModelError, RecipeError
from hf_finetune.recipe.recipe import load_recipe
from tests.backbones.engines.nets import Broken, Slow, images, tiny

MANY = 10**6


def moved(eager: Eager, share: float) -> Eager:
    """The same network, its last norm's output moved by about `share` of itself."""
    norm = eager.model.get_submodule("vit.layernorm")
    with torch.no_grad():
        norm.weight.mul_(1 + share)  # pyright: ignore[reportOperatorIssue, reportCallIssue]
    return eager


def test_the_faster_engine_that_gives_the_same_runs_the_pass(tmp_path: Path) -> None:
    slow, other = tiny(tmp_path / "tiny", kind=Slow), moved(tiny(tmp_path / "tiny"), 0.01)
    choice = choose("auto", "frozen pass", slow, Offer(other, seconds=1.5), MANY, images)
    assert choice.engine is other and choice.sample is not None
    assert choice.text.startswith("frozen pass by the torch model: ") and "differ by 1.0 %" in choice.text
    assert choice.figures["features_differ_by"] == pytest.approx(0.01, rel=0.05)
    assert (choice.figures["images"], choice.figures["conversion_s"]) == (SAMPLE, 1.5)
    assert choice.figures["times_as_fast"] > 1.05
    expected, found = choice.sample
    assert agreement(expected.logits, expected.logits) == (SAMPLE, 0, 0.0)
    assert agreement(expected.logits, -found.logits)[1] > 0


def test_an_engine_that_errs_is_refused(tmp_path: Path) -> None:
    slow, other = tiny(tmp_path / "tiny", kind=Slow), moved(tiny(tmp_path / "tiny"), 2 * LARGEST_ERROR)
    choice = choose("auto", "frozen pass", slow, Offer(other), MANY, images)
    assert choice.engine is slow and choice.sample is None
    assert "differs from it by 6.0 %, more than 3 %" in choice.text
    with pytest.raises(ModelError, match=r"model.engine: graph is expected to run the frozen pass, but .* by 6.0 %"):
        choose("graph", "frozen pass", slow, Offer(other), MANY, images)


@pytest.mark.parametrize("count", [MANY, 40])
def test_nothing_is_gained_by_a_slower_engine_or_on_few_images(tmp_path: Path, count: int) -> None:
    eager, slow = tiny(tmp_path / "tiny"), tiny(tmp_path / "tiny", kind=Slow)
    one, other = (eager, slow) if count == MANY else (slow, eager)
    choice = choose("auto", "frozen pass", one, Offer(other), count, images)
    assert choice.engine is one
    assert (" × its time" if count == MANY else "40 images are too few") in choice.text
    insisted = choose("graph", "frozen pass", one, Offer(other), count, images)
    assert insisted.engine is other and insisted.sample is not None


def test_what_fails_is_said(tmp_path: Path) -> None:
    eager = tiny(tmp_path / "tiny")
    choice = choose("auto", "frozen pass", eager, Offer(tiny(tmp_path / "tiny", kind=Broken)), MANY, images)
    assert choice.engine is eager
    assert choice.text == "frozen pass by the torch model: a broken engine failed (no kernel for 3 images)"
    choice = choose("auto", "frozen pass", eager, Offer(reason="the moon is full"), MANY, images)
    assert choice.text == "frozen pass by the torch model: the moon is full"
    with pytest.raises(ModelError, match=r"but the moon is full\.\n.*Leave model.engine out"):
        choose("graph", "frozen pass", eager, Offer(reason="the moon is full"), MANY, images)


def test_where_there_can_be_no_graph(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "on cuda" in str(unavailable("cuda", 1, "none"))
    assert "2 processes" in str(unavailable("cpu", 2, "none"))
    assert "int8 layers" in str(unavailable("cpu", 1, "int8"))
    monkeypatch.setattr(available, "find_spec", lambda _: None)
    assert unavailable("cpu", 1, "none") == f"OpenVINO is not installed ({EXTRA})"
    monkeypatch.setattr(available, "find_spec", lambda name: name)
    assert unavailable("cpu", 1, "none") is None


def test_a_conversion_needs_a_long_pass() -> None:
    assert pays(2000, 0.01, 5_000_000) and not pays(200, 0.01, 5_000_000)
    assert pays(200, 0.1, 86_000_000) and not pays(100, 0.1, 86_000_000)


@pytest.mark.parametrize(("engine", "kind"), [("int8", "none"), ("int8", "nf4"), ("graph", "int8"), ("graph", "nf4")])
def test_an_engine_that_cannot_run_the_layers_is_refused_at_once(engine: str, kind: str) -> None:
    with pytest.raises(RecipeError, match=rf"model.engine: {engine} .*found.*{kind}"):
        load_recipe({"data": {"name": "photos"}, "model": {"engine": engine}, "quantization": {"kind": kind}})


def test_openvino_is_imported_without_the_package_that_reports_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Packages of these names as OpenVINO 2026.4 has them: it imports the other where it can."""
    (tmp_path / "openvino_telemetry.py").write_text("raise RuntimeError('it was asked')")
    (tmp_path / "openvino.py").write_text(
        "try:\n    import openvino_telemetry\nexcept ImportError:\n    stand_in = True\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    for name in [name for name in sys.modules if name.partition(".")[0] in ("openvino", "openvino_telemetry")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "openvino", None)  # so that monkeypatch takes away what is imported below
    monkeypatch.delitem(sys.modules, "openvino")
    assert graph.import_openvino().stand_in
    assert "openvino_telemetry" not in sys.modules
