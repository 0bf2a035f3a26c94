"""The comparison of ladders: real runs on a cut in three, and what its table says."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
from pathlib import Path

import pytest
import timm
import torch
from timm.models import save_for_hf

from tests.benchmarks.layout import write_hymenoptera

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "benchmarks"))  # as `python benchmarks/ladders.py` has it

from ladders import cut_in_three, table  # noqa: E402


def test_a_cut_takes_no_test_photo_and_each_photo_once(tmp_path: Path) -> None:
    write_hymenoptera(tmp_path / "data", train=20)
    photos = cut_in_three("hymenoptera", 10, 0, tmp_path / "data", tmp_path / "out")
    splits = {
        split: [f"{path.parent.name}/{path.name}" for path in (photos / split).glob("*/*")]
        for split in ("train", "validation", "test")
    }
    assert {split: len(names) for split, names in splits.items()} == {"train": 10, "validation": 8, "test": 22}
    assert sorted(itertools.chain(*splits.values())) == sorted(
        f"{name}/train{number}.png" for name in ("ants", "bees") for number in range(20)
    )


@pytest.mark.e2e
@pytest.mark.slow
def test_ladders_are_run_and_scored_on_what_is_held_out(tmp_path: Path) -> None:
    write_hymenoptera(tmp_path / "data", train=20)
    torch.manual_seed(0)
    save_for_hf(timm.create_model("test_vit"), tmp_path / "data" / "weights" / "tiny", safe_serialization=True)
    command = [sys.executable, str(ROOT / "benchmarks" / "ladders.py"), str(tmp_path / "data"), str(tmp_path / "out")]
    command += ["--only", "hymenoptera", "--size", "10", "--cuts", "1", "--model", "tiny", "--ladders", "probe,cached"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    rows = json.loads((tmp_path / "out" / "ladders.json").read_text("utf-8"))
    assert [(row["ladder"], list(row["rungs"])) for row in rows] == [
        ("probe", ["probe"]),
        ("probe,cached in 60s", ["probe", "cached"]),
    ]
    assert rows[0]["accuracy"] == 1.0  # two colours
    assert done.stdout.splitlines()[-1].startswith("| probe,cached in 60s | ")


def test_the_table_has_a_mean_and_each_cut_of_every_ladder() -> None:
    rows = [
        {"data": data, "ladder": ladder, "accuracy": accuracy}
        for data, ladder, accuracy in (
            ("a", "probe", 0.5),
            ("a", "probe", 0.7),
            ("b", "probe", 0.8),
            ("b", "full", 1.0),
        )
    ]
    assert table(rows).splitlines()[2:] == [
        "| probe | 0.600 (0.500 0.700) | 0.800 (0.800) |",
        "| full |  | 1.000 (1.000) |",
    ]
