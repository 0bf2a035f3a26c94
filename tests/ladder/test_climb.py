"""The ladder through the command line: rungs in order, budgets, interruptions, kills."""

from __future__ import annotations

import gc
import json
import os
import re
import signal
import subprocess
import sys
import time
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
from timm.models import save_for_hf
from torch import nn

import hf_finetune
from hf_finetune.cli import main
from hf_finetune.errors import RecipeError
from hf_finetune.ladder.candidates import Climbed
from hf_finetune.pipeline.finish import score_saved
from hf_finetune.pipeline.images import Images
from hf_finetune.pipeline.typical import features_of, typical_of
from hf_finetune.plan.context import RunContext
from hf_finetune.recipe.recipe import load_recipe
from tests.cli.photos import write_photos
from tests.matrix.architectures import write_transformers
from tests.training.rows import save_tiny_vit

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ladder")
    path = folder / "recipe.yaml"
    path.write_text(
        f"model: {{name: {save_tiny_vit(folder / 'tiny')}}}\n"
        f"data: {{name: {write_photos(folder / 'photos')}, validation_share: 0.2}}\n"
        "train: {epochs: 2, effective_batch_size: 16, learning_rate: 0.003, evaluations: 2, decode_workers: 1}\n",
        encoding="utf-8",
    )
    return path


def report_of(out: Path) -> dict[str, Any]:
    return json.loads((out / "run.json").read_text("utf-8"))


def train(recipe: Path, out: Path, *overrides: str) -> dict[str, Any]:
    assert main(["train", str(recipe), f"output.dir={out}", *overrides]) == 0
    return report_of(out)


def rungs(report: dict[str, Any]) -> list[str]:
    return [rung["rung"] for rung in report["rungs"]]


@pytest.fixture(scope="module")
def uninterrupted(recipe: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The report of a run of the recipe as it is."""
    folder = tmp_path_factory.mktemp("uninterrupted")
    return train(recipe, folder / "run", f"data.cache_dir={folder / 'cache'}")


def test_the_result_is_the_rung_that_was_kept_last(uninterrupted: dict[str, Any]) -> None:
    report = uninterrupted
    assert rungs(report) == ["probe", "cached", "full"]
    *_, best = [rung for rung in report["rungs"] if rung["kept"]]
    assert report["validation"]["accuracy"] == pytest.approx(best["validation"]["accuracy"], abs=1e-6)
    assert report["validation"]["loss"] == pytest.approx(best["validation"]["loss"], abs=1e-4)


def test_a_rung_that_is_kept_is_saved_at_once(uninterrupted: dict[str, Any]) -> None:
    for rung in uninterrupted["rungs"]:
        assert (rung["saved_at_s"] is not None) == rung["kept"]
    assert uninterrupted["rungs"][0]["saved_at_s"] < uninterrupted["rungs"][1]["at_s"]


def test_a_budget_of_nothing_is_the_probe_alone(recipe: Path, tmp_path: Path) -> None:
    report = train(recipe, tmp_path / "run", "budget.time=0")
    assert rungs(report) == ["probe"]
    assert report["test"]["accuracy"] > 0.5
    assert (tmp_path / "run" / "adapter" / "adapter_model.safetensors").is_file()


def test_a_budget_that_the_probe_alone_exceeds_is_said_and_the_probe_is_all_that_runs(
    recipe: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    report = train(recipe, tmp_path / "run", "budget.time=1s", f"data.cache_dir={tmp_path / 'cache'}")
    assert rungs(report) == ["probe"]
    said = re.search(
        r"probe: the pass over (\d+) images alone takes about .*, more than the budget; it is all",
        capfd.readouterr().err,
    )
    assert said is not None
    assert int(said[1]) == report["data"]["counts"]["train"] + report["data"]["counts"]["validation"]
    assert report["test"]["accuracy"] > 0.5


def test_the_cached_rung_has_a_learning_rate_of_its_own(recipe: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    train(recipe, out, "ladder=[probe,cached]", "train.learning_rate=auto")
    plan = json.loads((out / "plan.json").read_text("utf-8"))
    rates = [
        json.loads(line).get("learning_rate", 0)
        for line in (out / "metrics.jsonl").read_text("utf-8").split("\n")
        if line
    ]
    wanted = plan["suffix_learning_rate"]["value"]
    assert plan["learning_rate"]["value"] < wanted
    assert 0.5 * wanted < max(rates) <= wanted


def test_a_share_of_the_patches_that_the_recipe_names_holds_on_both_rungs(recipe: Path, tmp_path: Path) -> None:
    vit = tmp_path / "vit"  # of 100 patches, the fewest of which any are left out
    save_for_hf(timm.create_model("test_vit"), vit, safe_serialization=True)
    report = train(recipe, tmp_path / "run", f"model.name={vit}", "train.patches_kept=0.5", "train.epochs=1")
    assert rungs(report) == ["probe", "cached", "full"]
    assert all("50% of the patches" in rung["note"] for rung in report["rungs"][1:])


def test_in_a_notebook_a_budget_counts_from_the_call(recipe: Path, tmp_path: Path) -> None:
    began = time.monotonic()
    overrides = [f"output.dir={tmp_path / 'run'}", "ladder=[probe,cached]", "budget.time=10m"]
    run = hf_finetune.train(load_recipe(recipe, overrides))
    assert run.report["seconds"]["total"] <= time.monotonic() - began
    assert rungs(dict(run.report)) == ["probe", "cached"]


def test_what_images_are_like_to_the_last_blocks_is_what_they_are_to_the_whole_model_which_is_then_let_go(
    recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compared: list[tuple[np.ndarray, np.ndarray]] = []
    models: list[weakref.ref[nn.Module]] = []
    left: list[nn.Module | None] = []

    def compare(context: RunContext, climbed: Climbed, model: nn.Module, images: Images) -> Any:
        rows = np.arange(0, len(images.rows["validation"]), 2)
        assert climbed.best.rung == "cached"
        assert climbed.suffix_features is not None
        whole = features_of(context, model, images.rows["validation"], rows, 4)
        compared.append((climbed.suffix_features("validation", rows), whole))
        models.append(weakref.ref(model))
        return typical_of(context, climbed, model, images)

    def score(*args: Any) -> Any:  # with a second model, which is to find the first one's memory free
        gc.collect()
        left.extend(model() for model in models)
        return score_saved(*args)

    monkeypatch.setattr("hf_finetune.pipeline.train.typical_of", compare)
    monkeypatch.setattr("hf_finetune.pipeline.train.score_saved", score)
    train(recipe, tmp_path / "run", "ladder=[probe,cached]", "train.best_by=loss")
    ((suffix, whole),) = compared
    assert suffix.shape == whole.shape
    # States are kept in bfloat16, 8 bits of mantissa.
    np.testing.assert_allclose(suffix, whole, atol=0.02 * float(np.abs(whole).max()))
    assert np.abs(suffix - suffix.mean(0)).max() > 0.1
    assert left == [None]


def test_training_rows_are_decoded_where_full_is_begun(recipe: Path, tmp_path: Path) -> None:
    def squashed(*overrides: str) -> bool:
        cache = tmp_path / str(len(overrides))
        report = train(recipe, tmp_path / f"run{len(overrides)}", f"data.cache_dir={cache}", *overrides)
        assert report["test"]["rows"] > 0
        return any("squash" in path.read_text("utf-8") for path in cache.rglob("meta.json"))

    assert not squashed("budget.time=0")
    assert not squashed("ladder=[probe,cached]", "train.epochs=1")
    assert squashed("ladder=[probe,full]", "budget.time=10h", "train.epochs=1")


def test_the_second_run_on_the_same_data_finds_the_features(recipe: Path, tmp_path: Path) -> None:
    first = train(recipe, tmp_path / "first", "ladder=[probe]")
    again = train(recipe, tmp_path / "again", "ladder=[probe]")
    assert "from the cache" not in first["rungs"][0]["note"]
    assert "from the cache" in again["rungs"][0]["note"]
    assert again["test"]["accuracy"] == first["test"]["accuracy"]


def test_a_backbone_that_cannot_be_cut_goes_on_to_full(recipe: Path, tmp_path: Path) -> None:
    report = train(recipe, tmp_path / "run", "data.store_limit=100kB", "train.epochs=1")
    assert rungs(report) == ["probe", "full"]


def test_a_backbone_that_no_rung_can_take_is_said(
    recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_transformers("perceiver", tmp_path / "perceiver", 3)  # its head takes more than a vector
    overrides = [f"model.name={tmp_path / 'perceiver'}", f"output.dir={tmp_path / 'run'}"]
    assert main(["train", str(recipe), *overrides, "ladder=[probe,cached]"]) == 2
    assert "none of the rungs is for this backbone: probe: the head takes" in capsys.readouterr().err
    assert rungs(train(recipe, tmp_path / "full", overrides[0])) == ["full"]


@pytest.mark.parametrize("kind", ["head_only", "full"])
def test_other_adapters_start_from_the_probe_too(recipe: Path, tmp_path: Path, kind: str) -> None:
    report = train(recipe, tmp_path / "run", f"adapter={{kind: {kind}}}", "train.epochs=1")
    assert rungs(report) == ["probe", "full"]


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["ladder=[full, probe]"], "each once and in this order"),
        (["ladder=[cached, full]"], "name probe before it"),
        (["ladder=[full]", "budget.time=0"], "add probe to ladder"),
    ],
)
def test_ladders_that_cannot_be_climbed_are_refused(recipe: Path, overrides: list[str], said: str) -> None:
    with pytest.raises(RecipeError, match=said):
        load_recipe(recipe, overrides)


def start(recipe: Path, out: Path, *overrides: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "hf_finetune", "train", str(recipe), f"output.dir={out}", *overrides],
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        # Jobs in the background of a shell inherit an ignored SIGINT.
        preexec_fn=None if os.name == "nt" else lambda: signal.signal(signal.SIGINT, signal.SIG_DFL) and None,
    )


def wait_for(process: subprocess.Popen[str], said: str) -> str:
    """Read the log until it says something (a pattern)."""
    assert process.stderr is not None
    seen = ""
    end = time.monotonic() + 120
    while not re.search(said, seen):
        letter = process.stderr.read(1)
        assert letter, seen[-3000:]
        assert time.monotonic() < end, seen[-3000:]
        seen += letter
    return seen


@pytest.mark.skipif(os.name == "nt", reason="signals are sent in other ways there")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interruption_leaves_the_best_rung_saved(recipe: Path, tmp_path: Path, number: signal.Signals) -> None:
    out = tmp_path / "run"
    process = start(recipe, out, "train.epochs=2000", "train.evaluations=1")
    try:
        wait_for(process, r"cached [01]\.\d+ validation")
        process.send_signal(number)
        _, rest = process.communicate(timeout=120)
    finally:
        process.kill()
    assert process.returncode == 130, rest[-3000:]
    assert "is saved in" in rest
    assert "Traceback" not in rest
    assert not (out / "run.json").exists()
    from hf_finetune import load

    photo = next((recipe.parent / "photos").rglob("*.jpg"))
    assert 0 < load(out).predict([photo])[0].probability <= 1


def test_a_kill_leaves_what_can_be_used(recipe: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    process = start(recipe, out, "train.epochs=2000", "train.evaluations=1")
    try:
        seen = wait_for(process, "Usable from now on")
    finally:
        process.kill()
        process.communicate()
    assert not re.search(r"(cached|full) +[01]\.\d+ validation", seen)
    assert not (out / "run.json").exists()
    from hf_finetune import load

    photo = next((recipe.parent / "photos").rglob("*.jpg"))
    assert 0 < load(out).predict([photo])[0].probability <= 1


def test_what_cannot_be_saved_meanwhile_is_saved_at_the_end(recipe: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    process = start(recipe, out, "train.epochs=60", "train.evaluations=1")
    try:
        wait_for(process, "more settings")
        in_the_way = out / "adapter.staged"
        in_the_way.touch()
        seen = wait_for(process, "could not be written to: .* The result is saved at the end")
        in_the_way.unlink()
        _, rest = process.communicate(timeout=120)
    finally:
        process.kill()
    assert process.returncode == 0, rest[-3000:]
    assert "Usable" not in seen
    assert report_of(out)["rungs"][0]["saved_at_s"] is None
    from hf_finetune import load

    photo = next((recipe.parent / "photos").rglob("*.jpg"))
    assert 0 < load(out).predict([photo])[0].probability <= 1


@pytest.mark.skipif(os.name == "nt", reason="signals are sent in other ways there")
@pytest.mark.parametrize("said", ["Reading data", r"probe  [01]\.\d+ validation", r"cached [01]\.\d+ validation"])
def test_after_a_kill_the_same_command_ends_with_the_same_result(
    recipe: Path, uninterrupted: dict[str, Any], tmp_path: Path, said: str
) -> None:
    process = start(recipe, tmp_path / "run")
    try:
        wait_for(process, said)
    finally:
        process.kill()
        process.communicate()
    report = train(recipe, tmp_path / "run")
    assert rungs(report) == ["probe", "cached", "full"]
    assert report["test"]["accuracy"] == pytest.approx(uninterrupted["test"]["accuracy"], abs=0.05)
