"""The comparison of settings: what it trains on and holds out, and what its table says."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from pathlib import Path

import pytest
import timm
import torch
from timm.models import save_for_hf

from tests.benchmarks.layout import write_hymenoptera

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "benchmarks"))  # as `python benchmarks/settings.py` has it

from cases import by_class  # noqa: E402
from settings import cut_anew, table  # noqa: E402


def photo_names(folder: Path) -> set[str]:
    return {f"{path.parent.name}/{path.name}" for path in folder.glob("*/*")}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    write_hymenoptera(tmp_path / "data", train=10)
    return tmp_path / "data"


def test_a_cut_holds_out_training_and_validation_photos_alone_and_follows_its_number(
    data: Path, tmp_path: Path
) -> None:
    cuts = [cut_anew("hymenoptera-all", number, data, tmp_path / "out") for number in (0, 1)]
    pool = photo_names(data / "datasets" / "hymenoptera" / "train")
    held_out = []
    for photos in cuts:
        train, validation = photo_names(photos / "train"), photo_names(photos / "validation")
        assert train | validation == pool and not train & validation
        assert len(validation) == 4 and {name.split("/")[0] for name in validation} == {"ants", "bees"}
        held_out.append(validation)
    assert held_out[0] != held_out[1]
    assert cut_anew("hymenoptera-all", 0, data, tmp_path / "again") != cuts[0]
    assert photo_names(tmp_path / "again" / "cuts" / "hymenoptera-all-0" / "photos" / "validation") == held_out[0]


def test_a_cut_by_class_takes_one_photo_of_the_rarest_and_does_not_care_for_the_order() -> None:
    photos = [("rare", "0.jpg", b""), *(("common", f"{number}.jpg", b"") for number in range(20))]
    taken, rest = by_class(photos, 0.1, seed=3)
    assert sorted(label for label, *_ in taken) == ["common", "common", "rare"]
    assert sorted(taken + rest) == sorted(photos)
    random.Random(1).shuffle(photos)
    assert by_class(photos, 0.1, seed=3) == (taken, rest)


def test_the_table_has_a_mean_over_cuts_for_each_setting_and_over_data_sets_behind_them() -> None:
    rows = [
        {"data": data, "cut": cut, "setting": setting, "accuracy": accuracy}
        for data, setting, cut, accuracy in (
            ("a", "start", 0, 0.5),
            ("a", "start", 1, 0.7),
            ("b", "start", 0, 0.8),
            ("a", "batch=32", 0, 0.9),
            ("b", "batch=32", 0, 1.0),
        )
    ]
    assert table(rows).splitlines()[2:] == ["| start | 0.600 | 0.800 | 0.700 |", "| batch=32 | 0.900 | 1.000 | 0.950 |"]


@pytest.mark.e2e
@pytest.mark.parametrize("rung", ["cached", "full"])
def test_each_setting_trains_from_the_rung_before_and_is_scored_on_what_is_held_out(
    data: Path, tmp_path: Path, rung: str
) -> None:
    torch.manual_seed(0)
    save_for_hf(timm.create_model("test_vit"), data / "weights" / "tiny", safe_serialization=True)
    command = [sys.executable, str(ROOT / "benchmarks" / "settings.py"), str(data), str(tmp_path / "out"), rung]
    command += ["--only", "hymenoptera", "--cuts", "0", "--model", "tiny"]
    command += ["--settings", "epochs=2", "epochs=2,rate=1e-9", "epochs=1,batch=4,keep=0.5"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    rows = {row["setting"]: row for row in json.loads((tmp_path / "out" / "settings.json").read_text("utf-8"))}
    assert list(rows) == ["start", "epochs=2", "epochs=2,rate=1e-9", "epochs=1,batch=4,keep=0.5"]
    # The rung before scored kept features, this one whole images, in the processor's precision: one of the four rows
    # may lie so near the border that it falls otherwise.
    assert abs(rows["epochs=2,rate=1e-9"]["accuracy"] - rows["start"]["accuracy"]) <= 1 / 4
    assert all(row["accuracy"] * 4 in range(5) and row["rung"] == rung for row in rows.values())
