from __future__ import annotations

import csv
from pathlib import Path

import pytest

from hf_finetune.data.config import Data
from hf_finetune.data.index.scan import scan
from hf_finetune.labels import Reading

pytestmark = pytest.mark.real


def test_trashnet_is_indexed_as_given_and_its_three_leaks_are_reported(shared_data: Path) -> None:
    found = scan(Data(name=str(shared_data / "datasets/trashnet")), seed=0)
    assert found.labels.names == ("cardboard", "glass", "metal", "paper", "plastic", "trash")
    assert {split: len(rows) for split, rows in found.splits.items()} == {"train": 1768, "validation": 328, "test": 431}
    assert found.cut == ()
    assert tuple(map(str, found.notes)) == (
        "2 files ignored that are not images by suffix: .csv 1, .txt 1",
        "2 images found byte-equal in more than one split, so that scores are not quite on unseen images: "
        "train/glass/glass176.jpg = test/plastic/plastic152.jpg (train, test); "
        "train/glass/glass389.jpg = val/plastic/plastic332.jpg (train, validation)",
        "3 images found under contradictory labels: train/glass/glass115.jpg = train/metal/metal91.jpg (glass, metal); "
        "train/glass/glass176.jpg = test/plastic/plastic152.jpg (glass, plastic); "
        "train/glass/glass389.jpg = val/plastic/plastic332.jpg (glass, plastic)",
    )


def test_hymenoptera_has_its_validation_cut_from_train(shared_data: Path) -> None:
    found = scan(Data(name=str(shared_data / "datasets/hymenoptera"), test_split="val"), seed=0)
    assert found.labels.names == ("ants", "bees")
    assert found.cut == ("validation",)
    sizes = {split: len(rows) for split, rows in found.splits.items()}
    assert sizes["test"] == 153
    assert sizes["train"] + sizes["validation"] == 245
    assert all(found.reader.read(rows[0].locator) for rows in found.splits.values())


def test_houses_are_indexed_by_a_column_of_their_table(shared_data: Path) -> None:
    table = shared_data / "datasets/houses/houses.csv"
    found = scan(Data(name=str(table), label_column="bedrooms", test_share=0, validation_share=0), seed=0)
    assert found.labels.names == ("1", "2", "3", "4", "5", "6", "7", "8", "10")
    assert len(found.splits["train"]) == 535
    assert found.splits["train"][0].name == "frontal/1_frontal.jpg"


def test_houses_of_one_zip_code_stay_on_one_side_with_their_twins(shared_data: Path) -> None:
    table = shared_data / "datasets/houses/houses.csv"
    config = Data(name=str(table), label_column="price_usd", group_column="zipcode")
    found = scan(config, seed=0, reading=Reading("numbers", log=True))
    assert "kept together: 49 groups of zipcode" in map(str, found.notes)
    zip_code = {row["image"]: row["zipcode"] for row in csv.DictReader(table.read_text("utf-8").splitlines())}
    there = {split: {zip_code[row.name] for row in rows} for split, rows in found.splits.items()}
    assert (
        not there["train"] & there["test"] | there["train"] & there["validation"] | there["test"] & there["validation"]
    )
    assert all(abs(len(found.splits[split]) - 0.15 * 535) < 5 for split in ("validation", "test"))
    train = {row.name for row in found.splits["train"]}
    for one, other in ((59, 72), (199, 214)):
        assert (f"frontal/{one}_frontal.jpg" in train) == (f"frontal/{other}_frontal.jpg" in train)
