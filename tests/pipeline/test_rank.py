"""Comparing backbones without training them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from hf_finetune.cli import main
from hf_finetune.labels import Labels
from hf_finetune.pipeline.rank import some_of
from hf_finetune.types import Index, Row
from tests.cli.photos import write_photos
from tests.training.rows import save_tiny_vit

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_photos(tmp_path_factory.mktemp("photos"))


def test_backbones_are_ranked_and_those_that_cannot_be_used_come_last(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good = save_tiny_vit(tmp_path / "good")
    blind = save_tiny_vit(tmp_path / "blind")
    from safetensors.torch import load_file, save_file

    weights = load_file(blind / "model.safetensors")
    for name, weight in weights.items():
        if "patch_embeddings.projection" in name:
            weights[name] = torch.zeros_like(weight)  # it sees nothing of an image
    save_file(weights, blind / "model.safetensors", metadata={"format": "pt"})
    assert main(["rank", str(blind), str(tmp_path / "none"), str(good), "--data", str(photos), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [Path(each["model"]).name for each in found] == ["good", "blind", "none"]
    assert found[0]["score"] > 0.9
    assert found[1]["score"] < 0.5
    assert found[2]["score"] is None
    assert "none" in found[2]["problem"]
    assert found[0]["images"] == 60
    assert found[0]["megabytes"] > 0.1
    assert main(["rank", str(good), "--data", str(photos), "--images", "30"]) == 0
    assert "Leave-one-out on 30 images" in capsys.readouterr().out


def test_wrong_data_are_said_once_and_not_for_each_backbone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["rank", "any", "other", "--data", str(tmp_path / "none.csv")]) == 2
    out, err = capsys.readouterr()
    assert "data.name: " in err
    assert not out


def test_too_few_images_are_refused(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["rank", "any", "--data", str(photos), "--images", "1"]) == 2
    assert "--images: at least 2 are expected, found 1." in capsys.readouterr().err


def test_a_part_of_the_rows_is_taken_evenly_from_all_classes() -> None:
    rows = tuple(Row(f"{number}", int(number >= 90), number) for number in range(100))
    index = Index("memory", "1", None, None, Labels(("a", "b")), {"train": rows, "test": rows}, (), (), (), reader=None)  # pyright: ignore[reportArgumentType]
    part = some_of(index, 20)
    assert list(part.splits) == ["train"]
    assert len(part.splits["train"]) == 20
    assert sum(row.label for row in part.splits["train"]) == 2
    assert some_of(index, 1000).splits["train"] == rows


def test_without_a_cache_nothing_is_found_and_nothing_left(photos: Path, tmp_path: Path, own_cache: Path) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(
        f"model: {{name: {save_tiny_vit(tmp_path / 'tiny')}}}\n"
        f"data: {{name: {photos}, validation_share: 0.2}}\nladder: [probe]\ntrain: {{decode_workers: 1}}\n"
    )
    assert main(["train", str(recipe), f"output.dir={tmp_path / 'first'}"]) == 0
    entries = sorted((own_cache / "store").iterdir())
    assert main(["train", str(recipe), f"output.dir={tmp_path / 'second'}", "--no-cache"]) == 0
    assert sorted((own_cache / "store").iterdir()) == entries
    assert not (tmp_path / "second.cache").exists()
    report = json.loads((tmp_path / "second" / "run.json").read_text("utf-8"))
    assert "from the cache" not in report["rungs"][0]["note"]
    assert main(["train", str(recipe), f"output.dir={tmp_path / 'third'}"]) == 0
    assert "from the cache" in json.loads((tmp_path / "third" / "run.json").read_text("utf-8"))["rungs"][0]["note"]
