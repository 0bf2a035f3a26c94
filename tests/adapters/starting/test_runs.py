"""Whole runs that start from another's adapter: its score first, its features in the pass, its result as any other."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file

import hf_finetune
from hf_finetune.cli import main
from hf_finetune.ladder.probe.feature_cache import identity_of
from hf_finetune.ladder.probe.feature_pass import FeaturePlace, extract_features
from hf_finetune.pipeline.images import cache_of, open_images
from hf_finetune.pipeline.model import build_model, describe
from hf_finetune.pipeline.prepare import prepare_run
from hf_finetune.recipe.recipe import load_recipe
from tests.adapters.starting.foreign import edit_weights, former, give_labels, rename, save_foreign, stock_logits

# As the data module orders the folders of tests/cli/photos.py.
NAMES = ("1", "grün", "n⁄a")
# 2026-11-23: peft 0.21.2 reads a property that transformers 5.23 calls deprecated.
pytestmark = [
    pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning"),
    pytest.mark.e2e,
]


@pytest.fixture
def adapter(base: Path, tmp_path: Path) -> Path:
    """Someone's adapter, in the names of transformers 4."""
    made = rename(save_foreign(base, tmp_path / "adapter"), former, ["query", "value"])
    return give_labels(made, NAMES)


def train(recipe: Path, out: Path, *overrides: str) -> dict[str, Any]:
    assert main(["train", str(recipe), f"output.dir={out}", *overrides]) == 0
    return json.loads((out / "run.json").read_text("utf-8"))


def rungs(report: dict[str, Any]) -> list[str]:
    return [rung["rung"] for rung in report["rungs"]]


def test_a_run_climbs_from_another_adapter(
    recipe: Path, adapter: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    report = train(recipe, out, f"adapter.from={adapter}")
    assert rungs(report) == ["start", "probe", "cached", "full"]
    assert report["test"]["accuracy"] > 0.8
    said = capsys.readouterr().err
    assert f"Starting from {adapter} (rank 4); its head is kept: its labels are the run's." in said
    # what was left open is the adapter's, in the report, in the result and in its own recipe
    assert {key: report["recipe"]["adapter"][key] for key in ("from", "rank", "alpha", "targets")} == {
        "from": str(adapter),
        "rank": 4,
        "alpha": 12,
        "targets": ["attention.q_proj", "attention.v_proj"],
    }
    start = report["model"]["start"]
    assert (start["name"], start["commit"], start["head"]) == (
        str(adapter),
        None,
        "kept: its labels are the run's",
    )
    saved = yaml.safe_load((out / "adapter" / "recipe.yaml").read_text("utf-8"))["adapter"]
    assert saved == report["recipe"]["adapter"]
    assert load_recipe(out / "adapter" / "recipe.yaml").adapter.model_dump(mode="json") == saved
    card = (out / "adapter" / "README.md").read_text("utf-8")
    assert f"Started from adapter, whose files have the sha256 `{start['digest']}`" in card
    assert str(tmp_path) not in card
    # it loads, and a second call changes nothing
    photo = next(Path(report["data"]["name"]).rglob("*.jpg"))
    assert hf_finetune.load(out).predict([photo])[0].label in NAMES
    assert main(["train", str(recipe), f"output.dir={out}", f"adapter.from={adapter}"]) == 0
    assert "is finished; nothing to do" in capsys.readouterr().err


def test_the_run_starts_at_the_adapters_own_score(recipe: Path, base: Path, adapter: Path, tmp_path: Path) -> None:
    """The candidate `start` is the foreign adapter, image for image, by stock libraries."""
    overrides = [f"adapter.from={adapter}", f"output.dir={tmp_path / 'run'}", "train.precision=fp32"]
    context = prepare_run(load_recipe(recipe, overrides))
    images = open_images(context)
    rows = images.rows["validation"]
    pixels = torch.from_numpy(rows.gather(np.arange(len(rows)))).float() / 255 * 2 - 1
    stock = stock_logits(base, rename_back(adapter, tmp_path / "now"), pixels)
    accuracy = float((stock.argmax(-1).numpy() == np.asarray(rows.labels)).mean())
    loss = float(torch.nn.functional.cross_entropy(stock, torch.from_numpy(np.asarray(rows.labels))))
    assert context.index.labels.names == NAMES
    report = train(recipe, tmp_path / "run", f"adapter.from={adapter}", "train.precision=fp32", "ladder=[probe]")
    assert report["rungs"][0]["rung"] == "start"
    assert report["rungs"][0]["validation"]["accuracy"] == pytest.approx(accuracy)
    assert report["rungs"][0]["validation"]["loss"] == pytest.approx(loss, rel=1e-4)


def rename_back(adapter: Path, folder: Path) -> Path:
    """The same adapter under the names of transformers 5."""
    shutil.copytree(adapter, folder)
    table = {
        former(name): name
        for layer in range(2)
        for name in (f"vit.layers.{layer}.attention.{part}" for part in ("q_proj", "v_proj"))
    }
    return rename(folder, lambda name: table.get(name, name), ["q_proj", "v_proj"])


def test_features_and_states_are_of_the_adapted_model(recipe: Path, adapter: Path, tmp_path: Path) -> None:
    seen = {}
    for what in (f"adapter.from={adapter}", "adapter.rank=4"):
        overrides = [what, f"output.dir={tmp_path / 'run'}", "train.precision=fp32"]
        context = prepare_run(load_recipe(recipe, overrides))
        images = open_images(context)
        model = build_model(context).eval()
        identity = identity_of(describe(context), context.plan, context.start_digest)
        assert images.probe_rows is not None
        rows = {"train": images.probe_rows}
        passed = extract_features(
            model, context, rows, FeaturePlace(cache_of(context), identity), None, announce=lambda *_: None
        )
        kept: list[torch.Tensor] = []
        head = model.get_base_model().classifier  # pyright: ignore[reportCallIssue]
        handle = head.register_forward_pre_hook(lambda _, args, kept=kept: kept.append(args[0]))
        with torch.no_grad():
            model(pixel_values=passed.inputs)
        handle.remove()
        np.testing.assert_allclose(passed.features, kept[0].cpu().numpy(), rtol=1e-3, atol=1e-4)
        assert not passed.found
        seen[what] = (np.array(passed.own["train"].features), identity)
    (one, first), (two, second) = seen.values()
    assert first != second
    assert np.abs(one - two).max() > 0.05


def test_another_adapter_is_another_cache(recipe: Path, adapter: Path, tmp_path: Path) -> None:
    def note(name: str) -> str:
        (probe,) = (
            rung
            for rung in train(recipe, tmp_path / name, f"adapter.from={adapter}", "ladder=[probe]")["rungs"]
            if rung["rung"] == "probe"
        )
        return probe["note"]

    assert "from the cache" not in note("first")
    assert "from the cache" in note("again")
    edit_weights(adapter, lambda tensors: [tensor.mul_(1.5) for key, tensor in tensors.items() if "lora_B" in key])
    assert "from the cache" not in note("changed")


def test_an_unfinished_run_is_not_continued_from_a_changed_adapter(
    recipe: Path, adapter: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    train(recipe, out, f"adapter.from={adapter}", "ladder=[probe]")
    (out / "run.json").unlink()
    edit_weights(adapter, lambda tensors: [tensor.mul_(1.5) for tensor in tensors.values()])
    assert main(["train", str(recipe), f"output.dir={out}", f"adapter.from={adapter}", "ladder=[probe]"]) == 2
    assert capsys.readouterr().err.endswith(
        f"output.dir: the unfinished run in {out} began on another state of the adapter that adapter.from names.\n"
        "  Choose another output.dir, name that commit (adapter.from=user/adapter@commit), or remove that folder.\n"
    )
    assert main(["train", str(recipe), f"output.dir={out}", "ladder=[probe]"]) == 2
    assert "different there: adapter.alpha (None, now None)" not in capsys.readouterr().err


def test_an_interrupted_run_goes_on(
    recipe: Path, adapter: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """kill -9 after the first checkpoint of `full`; the same command ends as an undisturbed run does."""
    more = [f"adapter.from={adapter}", "ladder=[probe,full]", "train.epochs=12", "train.evaluations=12"]
    whole = train(recipe, tmp_path / "calm", *more)
    out = tmp_path / "run"
    command = [sys.executable, "-m", "hf_finetune", "train", str(recipe), f"output.dir={out}", *more]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while process.poll() is None and not list(out.glob("checkpoints/*/sealed.json")):
        time.sleep(0.05)
    process.kill()
    process.wait()
    assert not (out / "run.json").exists()
    again = train(recipe, out, *more)
    assert "Going on from" in capsys.readouterr().err
    assert rungs(again) == rungs(whole) == ["start", "probe", "full"]
    files = [(path / "adapter" / "adapter_model.safetensors").read_bytes() for path in (out, tmp_path / "calm")]
    assert files[0] == files[1]


@pytest.mark.parametrize("kind", ["int8", "nf4"])
def test_a_quantized_base_takes_it_too(recipe: Path, adapter: Path, tmp_path: Path, kind: str) -> None:
    report = train(recipe, tmp_path / "run", f"adapter.from={adapter}", f"quantization.kind={kind}", "train.epochs=1")
    assert rungs(report)[0] == "start"
    assert report["test"]["accuracy"] > 0.5


def test_one_run_starts_from_another(recipe: Path, tmp_path: Path) -> None:
    """Ours carry their labels and the fingerprint of their base; a run folder stands for its adapter."""
    first = train(recipe, tmp_path / "first", "adapter.rank=2", "adapter.targets=[attention]", "ladder=[probe,cached]")
    second = train(recipe, tmp_path / "second", f"adapter.from={tmp_path / 'first'}", "ladder=[probe,cached]")
    assert second["recipe"]["adapter"]["rank"] == 2
    assert second["recipe"]["adapter"]["alpha"] == 4
    score = second["rungs"][0]
    assert score["rung"] == "start"
    assert score["validation"]["accuracy"] == pytest.approx(first["validation"]["accuracy"], abs=1e-6)
    assert second["validation"]["accuracy"] >= first["validation"]["accuracy"] - 1e-6


def test_ours_are_refused_on_other_weights(
    recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], base: Path
) -> None:
    train(recipe, tmp_path / "first", "ladder=[probe]")
    other = tmp_path / "other"
    shutil.copytree(base, other)
    tensors = {name: tensor + 0.01 for name, tensor in load_file(base / "model.safetensors").items()}
    save_file(tensors, other / "model.safetensors", metadata={"format": "pt"})
    more = [f"adapter.from={tmp_path / 'first'}", f"model.name={other}", f"output.dir={tmp_path / 'second'}"]
    assert main(["train", str(recipe), *more]) == 2
    said = capsys.readouterr().err
    assert f"adapter.from: {str(tmp_path / 'first')!r} was trained on other weights than {str(other)!r} holds" in said
    assert "give the base model that it was trained on as model.name, at the same revision" in said


def test_the_plan_counts_what_trains(recipe: Path, adapter: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert main(["plan", str(recipe), f"adapter.from={adapter}", "--json"]) == 0
    plan = json.loads(capsys.readouterr().out)
    assert plan["trainable_parameters"]["value"] == 2 * 2 * 4 * (64 + 64) + 3 * 65


def test_images_that_the_adapter_was_trained_on_are_told_of(
    recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cut = ("data.validation_split=test", "ladder=[probe]")  # so that the test is cut from train
    first = train(recipe, tmp_path / "first", *cut, "train.seed=1")
    capsys.readouterr()
    told = "are among those that the adapter of adapter.from was trained on"
    again = train(recipe, tmp_path / "same", *cut, "train.seed=1", f"adapter.from={tmp_path / 'first'}")
    assert told not in capsys.readouterr().err
    other = train(recipe, tmp_path / "other", *cut, "train.seed=2", f"adapter.from={tmp_path / 'first' / 'adapter'}")
    said = re.search(rf"(\d+) of (\d+) test images {told}", capsys.readouterr().err)
    trained = set(json.loads((tmp_path / "first" / "splits.json").read_text())["names"]["train"])
    test = json.loads((tmp_path / "other" / "splits.json").read_text())["names"]["test"]
    assert said is not None
    assert (int(said[1]), int(said[2])) == (sum(name in trained for name in test), len(test))
    notes = [[str(note) for note in report["data"]["notes"]] for report in (first, again, other)]
    assert [any(told in note for note in each) for each in notes] == [False, False, True]
