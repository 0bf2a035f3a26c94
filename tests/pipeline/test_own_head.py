"""Runs on a whole model that answers the labels already: its own head is the first candidate, and stays."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from safetensors.torch import load_file, save_file

from hf_finetune.cli import main
from tests.backbones.small import edit_config
from tests.cli.photos import write_photos
from tests.training.rows import save_tiny_vit

pytestmark = pytest.mark.e2e
LABELS = ["1", "grün", "n⁄a"]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that `export` wrote, for three brightness levels."""
    folder = tmp_path_factory.mktemp("whole")
    vit, photos = save_tiny_vit(folder / "vit"), write_photos(folder / "photos")
    train(folder / "run", vit, photos)
    assert main(["export", str(folder / "run"), str(folder / "model")]) == 0
    return folder / "model"


@pytest.fixture(scope="module")
def few(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three photos a class to train on, of which one class is validation's, and twenty to test with."""
    folder = write_photos(tmp_path_factory.mktemp("few"), per_class=3, splits=("train",))
    return write_photos(folder, splits=("test",))


def train(out: Path, model: Path, photos: Path, *overrides: str) -> dict[str, Any]:
    recipe = out.parent / f"{out.name}.yaml"
    recipe.write_text(
        f"model: {{name: {model}}}\ndata: {{name: {photos}, validation_share: 0.34}}\n"
        f"output: {{dir: {out}}}\ntrain: {{decode_workers: 1, epochs: 2, evaluations: 1}}\n",
        encoding="utf-8",
    )
    assert main(["train", str(recipe), *(overrides or ("budget.time=0",))]) == 0
    return json.loads((out / "run.json").read_text("utf-8"))


def reordered(model: Path, target: Path, order: list[int], names: list[str]) -> Path:
    """The model with its outputs in another order, or fewer of them."""
    target.mkdir()
    for file in model.iterdir():
        (target / file.name).write_bytes(file.read_bytes())
    weights = load_file(model / "model.safetensors")
    for name in ("classifier.weight", "classifier.bias"):
        weights[name] = weights[name][order].clone()
    save_file(weights, target / "model.safetensors", metadata={"format": "pt"})
    edit_config(target, id2label=dict(enumerate(names)), label2id={name: n for n, name in enumerate(names)})
    return target


@pytest.mark.parametrize(
    "overrides",
    [
        ["budget.time=0"],
        ["budget.time=0", "quantization.kind=int8"],
        ["ladder=[full]", "adapter={kind: full}"],
        ["ladder=[probe,full]", "adapter={kind: head_only}"],
    ],
    ids=" ".join,
)
def test_it_is_the_first_candidate_of_every_ladder(
    whole: Path, few: Path, tmp_path: Path, overrides: list[str]
) -> None:
    report = train(tmp_path / "run", whole, few, *overrides)
    start = report["rungs"][0]
    assert (start["rung"], start["note"]) == ("start", "the base's own head: its labels are the run's")
    assert report["plan"]["head"]["value"] == "the base's own"
    assert report["model"]["head"] == "kept: its labels are the run's"
    assert start["validation"]["accuracy"] == 1  # the closed form of the twenty, not of these three
    assert report["test"]["accuracy"] > 0.95
    result = next(tmp_path.glob("run/*/README.md")).read_text("utf-8")
    assert "- Head: the base model's own, kept: its labels are the run's." in result


def test_its_outputs_follow_the_runs_order(whole: Path, few: Path, tmp_path: Path) -> None:
    turned = reordered(whole, tmp_path / "turned", [2, 0, 1], [LABELS[2], LABELS[0], LABELS[1]])
    report = train(tmp_path / "run", turned, few)
    assert report["rungs"][0]["validation"]["accuracy"] == 1
    assert report["rungs"][0]["note"].endswith("its labels are the run's, in another order")


def test_a_head_for_some_of_the_labels_keeps_those_outputs(
    whole: Path, few: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    part = reordered(whole, tmp_path / "part", [2, 0], [LABELS[2], LABELS[0]])
    report = train(tmp_path / "run", part, few)
    assert [rung["rung"] for rung in report["rungs"]] == ["probe"]
    assert "2 of 3 outputs as in the base's own head" in report["rungs"][0]["note"]
    assert "it answers 2 of the run's 3 labels, but not grün; those outputs are kept" in capsys.readouterr().err
    head = load_file(tmp_path / "run" / "adapter" / "adapter_model.safetensors")["base_model.model.classifier.weight"]
    own = load_file(whole / "model.safetensors")["classifier.weight"]
    assert (head[0] - own[0]).abs().max() == 0 == (head[2] - own[2]).abs().max()
    assert report["test"]["accuracy"] > 0.8


def test_rank_counts_what_the_head_answers_already(
    whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photos = tmp_path / "photos"  # whose classes all but touch, so that none can be left out
    for level, name in enumerate(("n⁄a", "1", "grün")):
        for offset in (-33, 0, 33):
            (photos / name).mkdir(parents=True, exist_ok=True)
            gray = Image.new("RGB", (40, 30), (40 + 80 * level + offset,) * 3)
            gray.save(photos / name / f"{offset}.png")
    unnamed = reordered(whole, tmp_path / "unnamed", [0, 1, 2], ["LABEL_0", "LABEL_1", "LABEL_2"])
    assert main(["rank", str(unnamed), str(whole), "--data", str(photos), "--json"]) == 0
    first, second = json.loads(capsys.readouterr().out)
    assert (first["model"], first["own_head"]) == (str(whole), True)
    assert (second["own_head"], second["images"]) == (False, 9)
    assert second["score"] < first["score"]


def test_the_plan_says_it_before_any_weight_is_read(
    whole: Path, few: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(f"model: {{name: {whole}}}\ndata: {{name: {few}}}\n", encoding="utf-8")
    assert main(["plan", str(recipe), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["head"]["value"] == "the base's own"
