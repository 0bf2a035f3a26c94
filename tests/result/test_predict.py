"""`hf-finetune predict`: the pictures that training takes, at the sizes that training takes, and no others."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import hf_finetune
from hf_finetune.adapters import HeadOnly
from hf_finetune.backbones.checkpoint import builtin_path
from hf_finetune.cli import main
from hf_finetune.data.store.on_the_fly import OnTheFlyRows
from hf_finetune.data.store.views import Exact
from hf_finetune.errors import DataError
from hf_finetune.types import Row
from tests.data.store.samples import PREPROCESS, FolderReader
from tests.result.results import save_result


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_result(builtin_path("builtin:starter"), HeadOnly(), tmp_path_factory.mktemp("result") / "adapter")


def test_a_folder_is_read_as_training_reads_it(
    result: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good = [tmp_path / "photos" / name for name in ("a/1.jpg", "a/2.PNG", "b.webp")]
    bad = [tmp_path / "photos" / name for name in ("a/._1.jpg", "__MACOSX/1.jpg", ".cache/1.jpg", "notes.txt")]
    for path in (*good, *bad):
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (20, 20)).save(path.with_suffix(".png"))
        path.with_suffix(".png").rename(path)
    assert main(["predict", str(result), str(tmp_path / "photos"), "--json"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["image"] for line in lines] == sorted(map(str, good))
    (tmp_path / "photos" / "gone.jpg").symlink_to(tmp_path / "nowhere.jpg")
    assert main(["predict", str(result), str(tmp_path / "photos")]) == 2  # a link to nothing is named
    assert "gone.jpg cannot be read" in capsys.readouterr().err


def test_images_as_large_as_those_of_the_run_are_answered(result: Path, tmp_path: Path) -> None:
    large = tmp_path / "large.png"
    Image.new("1", (9000, 6000)).save(large)
    with pytest.raises(DataError, match=r"9000 × 6000 is more than 50,000,000 pixels .*\n  Allow it with --max-pixels"):
        hf_finetune.load(result).predict([large])
    assert main(["predict", str(result), str(large), "--max-pixels", "60000000"]) == 0
    manifest = result / "hf_finetune.json"
    before = manifest.read_text("utf-8")
    content = json.loads(before)
    assert content["max_pixels"] == 50_000_000
    manifest.write_text(json.dumps({**content, "max_pixels": 60_000_000}), "utf-8")  # as a run writes it
    assert main(["predict", str(result), str(large)]) == 0
    manifest.write_text(before, "utf-8")


@pytest.mark.parametrize("workers", [1, 3])
def test_pillow_s_own_limit_stops_no_image_that_ours_lets_pass(
    result: Path, tmp_path: Path, workers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 50)  # images of twice as many are refused by Pillow
    Image.new("RGB", (40, 30), (200, 9, 9)).save(tmp_path / "a.png")
    with pytest.raises(Image.DecompressionBombError):
        Image.open(tmp_path / "a.png")
    rows = OnTheFlyRows(
        [Row("a.png", 0, "a.png")] * 6,
        np.full((6, 2), 40, np.int32),
        FolderReader(str(tmp_path)),
        Exact(PREPROCESS),
        split="train",
        max_pixels=1200,
        workers=workers,
    )
    assert rows.gather(np.arange(6)).shape[0] == 6
    assert hf_finetune.load(result).predict([tmp_path / "a.png"])[0].label
    assert Image.MAX_IMAGE_PIXELS == 50  # it is the program's own again
