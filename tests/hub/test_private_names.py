"""What the owner's files and folders are called stays with the owner: no published file says it."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest

from hf_finetune.hub.stage import finished_run, stage_run
from hf_finetune.pipeline.train import train
from tests.data.pictures import class_folders, jpeg, put

pytestmark = pytest.mark.e2e

# Each stands for something else that is noted: a stray image, an empty class, a split that is not used, a file that is
# no image, two equal images over two splits and under two labels, and a row that cannot be read.
PRIVATE = ("passport_scan", "divorce", "clinic", "diary", "jane", "john", "tumour")


def photos(root: Path) -> Path:
    sizes = {"train/a": 12, "train/b": 12, "val/a": 6, "val/b": 6, "test/a": 6, "test/b": 6, "test_clinic/a": 1}
    class_folders(root, sizes)
    put(root / "val" / "passport_scan.jpg", 500)
    put(root / "test" / "divorce" / "x.jpg", 501).unlink()
    (root / "x.diary").write_text("dear", encoding="utf-8")
    put(root / "train" / "a" / "jane.jpg", 502)
    put(root / "test" / "b" / "john.jpg", 502)
    (root / "train" / "b" / "tumour.jpg").write_bytes(jpeg(503)[:300])
    return root


@pytest.mark.filterwarnings("ignore")
def test_names_of_files_and_folders_are_in_the_log_and_run_json_and_in_nothing_that_is_published(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    table = tmp_path / "grandma.csv"
    table.write_text("path,action\ntrain/a/jane.jpg,keep\n", encoding="utf-8")
    place = {"name": str(photos(tmp_path / "photos")), "cache_dir": str(tmp_path / "cache")}
    recipe = {
        "data": {**place, "max_bad_share": 0.1, "corrections": str(table)},
        "ladder": ["probe"],
        "train": {"decode_workers": 1},
        "output": {"dir": str(tmp_path / "run")},
    }
    with caplog.at_level(logging.INFO, logger="hf_finetune"):
        run = train(recipe)
    kept = json.dumps(json.loads((tmp_path / "run" / "run.json").read_text(encoding="utf-8"))["data"])
    assert [name for name in PRIVATE if name not in kept] == []
    assert [name for name in PRIVATE if name not in caplog.text and name != "tumour"] == []

    published = tmp_path / "published"
    published.mkdir()
    stage_run(finished_run(run.folder.path), published, "user/model")
    texts = {path.name: path.read_bytes().lower() for path in published.rglob("*") if path.is_file()}
    assert {"README.md", "recipe.yaml", "metrics.json", "config.json", "hf_finetune.json"} <= set(texts)
    assert [
        (file, name) for file, text in texts.items() for name in (*PRIVATE, "grandma") if name.encode() in text
    ] == []
    card = texts["README.md"].decode()
    for line in ("1 image ignored that are in no class folder", "1 folder without an image", "left out because"):
        assert line in card
