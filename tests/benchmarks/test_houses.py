"""What the benchmark of numbers says of predictions, and how its pairs of photos are made."""

from __future__ import annotations

import csv
import math
import sys
from pathlib import Path

import pytest
from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "benchmarks"))  # as `python benchmarks/houses.py` has it

from houses import prices, tables  # noqa: E402
from pairs import SIDE, stitch  # noqa: E402


def test_prices_are_scored_by_their_logarithms_and_their_error_in_dollars() -> None:
    true = {"a": math.exp(1.0), "b": math.exp(2.0), "c": math.exp(3.0)}
    scored = prices({"c": math.exp(3.0), "a": math.exp(1.0), "b": math.exp(3.0)}, true)
    assert scored["test_rows"] == 3
    assert scored["r2"] == pytest.approx(0.5)  # 1 - 1 / (1 + 0 + 1)
    assert scored["mae"] == pytest.approx((math.exp(3.0) - math.exp(2.0)) / 3)
    with pytest.raises(KeyError):
        prices({"a": 1.0}, true)


def test_the_table_has_the_mean_and_each_seed() -> None:
    ours = {"part": "price", "way": "probe", "validation": {"r2": 0.4}, "test": {"covered": 0.9}, "seconds": 12.3}
    theirs = {"part": "autogluon", "way": "full", "validation": {"r2": 0.3}, "r2": 0.25, "mae": 7.0, "seconds": 99.0}
    rows = [{**ours, "seed": 0, "r2": 0.5}, {**ours, "seed": 1, "r2": 0.7}, {**theirs, "seed": 0}]
    assert tables(rows).splitlines()[2:] == [
        "| price | probe | r2 | 0.600 (0.500 0.700) | 12, 12 |",
        "| price | probe | validation r2 | 0.400 (0.400 0.400) | 12, 12 |",
        "| price | probe | covered | 0.900 (0.900 0.900) | 12, 12 |",
        "| autogluon | full | r2 | 0.250 (0.250) | 99 |",
        "| autogluon | full | validation r2 | 0.300 (0.300) | 99 |",
        "| autogluon | full | mae | 7 (7) | 99 |",
    ]


def test_pairs_are_of_one_split_and_two_classes_and_as_many_as_photos(tmp_path: Path) -> None:
    colours = {"glass": (0, 0, 200), "metal": (0, 200, 0), "paper": (200, 0, 0)}
    for split, count in (("train", 3), ("val", 1), ("test", 2)):
        for name, colour in colours.items():
            folder = tmp_path / "photos" / split / name
            folder.mkdir(parents=True)
            for number in range(count):
                Image.new("RGB", (64, 48), colour).save(folder / f"{number}.png")
    stitch(tmp_path / "photos", tmp_path / "pairs")
    with (tmp_path / "pairs" / "pairs.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    counts = {split: sum(row["split"] == split for row in rows) for split in ("train", "validation", "test")}
    assert counts == {"train": 9, "validation": 3, "test": 6}
    for row in rows:
        with Image.open(tmp_path / "pairs" / row["image"]) as image:
            assert image.size == (SIDE, SIDE)
            seen = [image.getpixel((x, SIDE // 2)) for x in (SIDE // 4, 3 * SIDE // 4)]
        named = row["labels"].split(";")
        assert len(set(named)) == 2
        names = [("paper", "metal", "glass")[colour.index(max(colour))] for colour in seen]
        assert sorted(names) == named
