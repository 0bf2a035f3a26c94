"""Images that are others than they were decoded as, though their files have the same size and time."""

from __future__ import annotations

import errno
import os
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from hf_finetune.cli import main
from hf_finetune.data.config import Data
from hf_finetune.data.index.scan import scan
from hf_finetune.data.sources.source import NOW_NS, touched_ns
from hf_finetune.data.store.stored_rows import StoredRows
from hf_finetune.types import Index
from tests.data.store.conftest import Opened
from tests.ladder.test_climb import report_of, start, wait_for

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(sys.platform == "win32", reason="Windows does not say when a file was touched"),
]
SIDE = 16


def draw(path: Path, seed: int) -> None:
    """A picture without compression: all have one size. The classes differ in brightness, by the folder's name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, 120, (SIDE, SIDE, 3)) + (100 if path.parent.name == "b" else 0)
    Image.fromarray(pixels.astype(np.uint8)).save(path, "BMP")


def pictures(folder: Path) -> Path:
    for number in range(60):
        draw(folder / "ab"[number % 2] / f"{number}.bmp", number)
    return folder


def change(path: Path, seed: int) -> None:
    """Other content; size and time as they were."""
    before = path.stat()
    draw(path, seed)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    time.sleep(2 * NOW_NS / 1e9)  # a time of just now is no time
    assert (path.stat().st_size, path.stat().st_mtime_ns) == (before.st_size, before.st_mtime_ns)


def index(folder: Path) -> Index:
    return scan(Data(name=str(folder), test_share=0, validation_share=0.2), seed=0)


def rows_of(store: Any, split: str = "train") -> StoredRows:
    rows = store.rows[split]
    assert isinstance(rows, StoredRows)
    return rows


def everything(rows: StoredRows) -> np.ndarray:
    return rows.gather(np.arange(len(rows)))


def test_a_changed_image_is_decoded_again_and_told_of_once(
    tmp_path: Path, opened: Opened, caplog: pytest.LogCaptureFixture
) -> None:
    folder, cache = pictures(tmp_path / "set"), tmp_path / "cache"
    first = opened(index(folder), cache)
    before = everything(rows_of(first)).copy()
    name = rows_of(first).names[3]
    change(folder / name, 999)
    again = opened(index(folder), cache)
    told = "1 image has other content than was decoded before, though size and time are the same, such as"
    assert f"train: {told} {name}." in caplog.text
    found = everything(rows_of(again))
    assert [place for place in range(len(found)) if not np.array_equal(found[place], before[place])] == [3]
    fresh = everything(rows_of(opened(index(folder), tmp_path / "fresh")))
    assert np.array_equal(found, fresh)
    assert rows_of(again).changed_s > 0 == rows_of(first).changed_s
    caplog.clear()
    assert np.array_equal(everything(rows_of(opened(index(folder), cache))), fresh)
    assert "other content" not in caplog.text


def test_files_that_were_touched_alone_stay_what_they_are(
    tmp_path: Path, opened: Opened, caplog: pytest.LogCaptureFixture
) -> None:
    folder, cache = pictures(tmp_path / "set"), tmp_path / "cache"
    before = everything(rows_of(opened(index(folder), cache))).copy()
    for path in folder.rglob("*.bmp"):
        path.chmod(0o600)
    again = rows_of(opened(index(folder), cache))
    assert np.array_equal(everything(again), before)
    assert again.changed_s == 0
    assert "other content" not in caplog.text


def test_a_touched_image_that_cannot_be_opened_for_the_moment_stays_as_it_was(
    tmp_path: Path, opened: Opened, caplog: pytest.LogCaptureFixture
) -> None:
    folder, cache = pictures(tmp_path / "set"), tmp_path / "cache"
    first = opened(index(folder), cache)
    before, name = everything(rows_of(first)).copy(), rows_of(first).names[3]
    change(folder / name, 999)
    busy = replace(index(folder), reader=Busy(str(folder / name)))
    again = opened(busy, cache)
    assert rows_of(again).names == rows_of(first).names
    assert np.array_equal(everything(rows_of(again)), before)
    assert rows_of(again).changed_s == 0
    assert "other content" not in caplog.text
    found = everything(rows_of(opened(index(folder), cache)))  # the next run looks again
    assert [place for place in range(len(found)) if not np.array_equal(found[place], before[place])] == [3]


@dataclass(frozen=True)
class Busy:
    """Reads files, but for one that a system has too many open files to open."""

    path: str

    def read(self, locator: str | int) -> bytes:
        if locator == self.path:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        return Path(str(locator)).read_bytes()


def test_a_store_that_always_says_now_says_nothing(tmp_path: Path) -> None:
    path = tmp_path / "0.bmp"
    path.touch()
    assert touched_ns(path.stat()) == 0
    time.sleep(2 * NOW_NS / 1e9)
    assert touched_ns(path.stat()) == path.stat().st_ctime_ns


RECIPE = """
model: {{name: "builtin:starter"}}
data: {{name: "{folder}", validation_share: 0.3, test_share: 0.2, cache_dir: "{cache}"}}
ladder: {ladder}
train: {{epochs: 300, effective_batch_size: 16, decode_workers: 1, precision: fp32}}
"""


def recipe_of(tmp_path: Path, ladder: str, cache: str = "cache") -> Path:
    path = tmp_path / f"{cache}.yaml"
    path.write_text(RECIPE.format(folder=tmp_path / "set", cache=tmp_path / cache, ladder=ladder), "utf-8")
    return path


def test_features_of_changed_images_are_not_used(tmp_path: Path) -> None:
    folder = pictures(tmp_path / "set")
    recipe, fresh = recipe_of(tmp_path, "[probe]"), recipe_of(tmp_path, "[probe]", "fresh")
    assert main(["train", str(recipe), f"output.dir={tmp_path / 'one'}"]) == 0
    for number in range(0, 60, 2):
        change(folder / "a" / f"{number}.bmp", 1000 + number)
    assert main(["train", str(recipe), f"output.dir={tmp_path / 'two'}"]) == 0
    assert main(["train", str(fresh), f"output.dir={tmp_path / 'three'}"]) == 0
    weights = [(tmp_path / each / "adapter" / "adapter_model.safetensors").read_bytes() for each in ("two", "three")]
    assert weights[0] == weights[1]
    assert report_of(tmp_path / "two")["test"] == report_of(tmp_path / "three")["test"]


def test_a_run_does_not_go_on_with_other_images(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, recipe, out = pictures(tmp_path / "set"), recipe_of(tmp_path, "[probe, full]"), tmp_path / "run"
    process = start(recipe, out)
    try:
        wait_for(process, "full: about")
    finally:
        process.kill()
        process.communicate()
    change(folder / "a" / "0.bmp", 999)
    for _ in range(2):
        assert main(["train", str(recipe), f"output.dir={out}"]) == 2
        said = capsys.readouterr().err
        assert "began on other data: images are others now, though their files have the same size and time." in said
    assert main(["train", str(recipe), f"output.dir={out}", "--overwrite", "ladder=[probe]"]) == 0


def test_a_finished_run_says_what_was_touched_since(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, recipe, out = pictures(tmp_path / "set"), recipe_of(tmp_path, "[probe]"), tmp_path / "run"
    time.sleep(2 * NOW_NS / 1e9)
    assert main(["train", str(recipe), f"output.dir={out}"]) == 0
    capsys.readouterr()
    assert main(["train", str(recipe), f"output.dir={out}"]) == 0
    assert "touched" not in capsys.readouterr().err
    change(folder / "a" / "0.bmp", 999)
    change(folder / "b" / "1.bmp", 998)
    assert main(["train", str(recipe), f"output.dir={out}"]) == 0
    said = capsys.readouterr().err
    assert "Since the run began, 2 files were touched whose size and time are as before." in said
    assert "is finished; nothing to do" in said
