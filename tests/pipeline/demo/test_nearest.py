"""The training images beside a picture: found where the run's data are, and else a line that says why not."""

from __future__ import annotations

import json
import shutil
import threading
from pathlib import Path

import numpy as np
import pytest

import hf_finetune
from hf_finetune.pipeline.demo import nearest
from hf_finetune.pipeline.demo.nearest import SHOWN, Nearest
from hf_finetune.result.classifier import Classifier
from tests.pipeline.demo.conftest import NAMED, wait_until

pytestmark = pytest.mark.e2e


@pytest.fixture
def copied(trained: Path, tmp_path: Path) -> Path:
    """The run in a folder of its own, to be changed."""
    return Path(shutil.copytree(trained, tmp_path / "copy"))


def looked(run: Path) -> tuple[Classifier, Nearest]:
    """Of a run, when it is known what is there."""
    classifier = hf_finetune.load(run)
    found = Nearest(classifier, threading.Lock())
    found.start()
    wait_until(lambda: not found.waiting)
    return classifier, found


def pixels_of(classifier: Classifier, picture: Path) -> np.ndarray:
    return classifier._pixels(picture)[0]


def test_the_nearest_to_a_training_image_is_itself(trained: Path, folder: Path) -> None:
    names = json.loads((trained / "splits.json").read_text("utf-8"))["names"]["train"]
    classifier, found = looked(trained)
    assert found.ready and found.line == "Nearest training images, by what the model makes of them."
    for name in names[::40]:
        near = found.of(pixels_of(classifier, folder / name))
        assert len(near) == SHOWN and len({each.name for each in near}) == SHOWN
        assert (near[0].name, near[0].label) == (name, NAMED[Path(name).parent.name.replace("⁄", "/")])
        assert near[0].picture.startswith("data:image/jpeg;base64,")
        assert all(each.name in names for each in near)  # none of validation or test


def test_of_many_some_are_drawn_from_all_classes(trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nearest, "MOST", 12)
    classifier, found = looked(trained)
    assert found.line.startswith("Nearest training images, by what the model makes of them, of 12 drawn evenly from 1")
    assert {each.label for each in found._known} == set(NAMED.values())
    assert len(found._known) == 12
    assert len(classifier.labels.names) == 3


def test_images_that_are_gone_or_broken_since_are_left_out(folder: Path, copied: Path) -> None:
    place = Path(shutil.copytree(folder, copied.parent / "moved"))
    record = json.loads((copied / "splits.json").read_text("utf-8"))
    record["place"] = str(place / "photos.csv")
    (copied / "splits.json").write_text(json.dumps(record), "utf-8")
    recipe = copied / "adapter" / "recipe.yaml"
    recipe.write_text(recipe.read_text("utf-8").replace(str(folder), str(place)), "utf-8")
    train = record["names"]["train"]
    for name in train[5:]:
        (place / name).unlink()
    (place / train[0]).write_bytes(b"\xff\xd8\xff no image any more")
    classifier, found = looked(copied)
    assert found.line.endswith("; 1 could not be read.")
    assert {each.name for each in found.of(pixels_of(classifier, folder / train[1]))} == set(train[1:5])
    shutil.rmtree(place)
    _, found = looked(copied)
    assert not found.ready and found.of(np.zeros((3, 8, 8), np.uint8)) == []
    assert found.line.startswith("Nearest training images are not shown: ") and str(place) in found.line
    assert "\n" not in found.line


def test_a_dataset_of_the_hub_is_not_asked_for(copied: Path) -> None:
    record = json.loads((copied / "splits.json").read_text("utf-8"))
    (copied / "splits.json").write_text(json.dumps({**record, "place": None}), "utf-8")
    recipe = copied / "adapter" / "recipe.yaml"
    lines = recipe.read_text("utf-8").splitlines()
    (at,) = [number for number, line in enumerate(lines) if "photos.csv" in line]
    lines[at] = f"{lines[at].partition('name:')[0]}name: some/beans"
    recipe.write_text("\n".join(lines), "utf-8")
    _, found = looked(copied)
    assert found.line == (
        "Nearest training images are not shown: they are some/beans on the Hub, which this page does not ask."
    )


def test_it_ends_when_it_is_told_to(trained: Path) -> None:
    found = Nearest(hf_finetune.load(trained), model := threading.Lock())
    with model:  # a picture is at work
        found.start()
        found._ended.set()
    wait_until(lambda: not found.waiting)
    assert not found.ready
