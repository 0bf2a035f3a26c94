"""Runs on tar shards from the command line: trained, killed while images are decoded, scored again, moved."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.data.sources.shards.tars import write_tar

pytestmark = pytest.mark.e2e

Cli = Callable[..., tuple[int, str, str]]


def shards_of(photos: Path, folder: Path, copies: int = 1) -> Path:
    """The photos of every class in two shards a split; `copies` differ in what stands behind the JPEG's end."""
    for split in ("train", "test"):
        files: list[list[tuple[str, bytes]]] = [[], []]
        for number, photo in enumerate(sorted((photos / split).rglob("*.jpg"))):
            for copy in range(copies):
                key = f"{number:04d}-{copy:02d}"
                data = photo.read_bytes() + b"%d" % copy
                files[number % 2] += [(f"{key}.jpg", data), (f"{key}.cls", photo.parent.name.encode())]
        for number, each in enumerate(files):
            write_tar(folder / f"{split}-{number:06d}.tar", each)
    return folder


def test_a_run_on_shards_is_scored_again_after_they_were_moved(
    recipe: Path, photos: Path, tmp_path: Path, own_cache: Path, cli: Cli
) -> None:
    shards = shards_of(photos, tmp_path / "shards")
    out = cli("check", recipe, f"data.name={shards}/{{train,test}}-{{000000..000001}}.tar")[1]
    assert "4 tar shards: images from 'jpg', labels from 'cls'" in out
    starter = "model.name=builtin:starter"
    for pattern, run in (("train-{000000..000001}.tar", "train"), ("{train,test}-{000000..000001}.tar", "shards")):
        assert f"\n  dir: runs/{run}\n" in cli("check", f"{shards}/{pattern}", starter)[1]
    code, _, err = cli("train", recipe, f"data.name={shards}", "ladder=[probe]")
    assert code == 0, err
    report = json.loads((tmp_path / "run/run.json").read_text())
    assert report["test"]["accuracy"] > 0.9
    assert len(list((own_cache / "store").glob("*/meta.json"))) > 2
    (tmp_path / "elsewhere").mkdir()
    shards.rename(tmp_path / "elsewhere/shards")
    for shard in (tmp_path / "elsewhere/shards").iterdir():
        os.utime(shard, (1, 1))  # as a copy has another time
    code, out, err = cli("evaluate", tmp_path / "run", f"data.name={tmp_path}/elsewhere/shards", "--json")
    assert code == 0, err
    assert json.loads(out)["accuracy"] == pytest.approx(report["test"]["accuracy"])


def test_a_run_that_is_killed_while_it_decodes_goes_on(recipe: Path, photos: Path, tmp_path: Path) -> None:
    shards = shards_of(photos, tmp_path / "shards", copies=40)  # 2,400 of train
    cache = tmp_path / "cache"
    command = [sys.executable, "-m", "hf_finetune", "train", str(recipe), f"data.name={shards}", "ladder=[probe]",
               f"data.cache_dir={cache}", "train.decode_workers=1"]  # fmt: skip
    with (tmp_path / "log").open("wb") as log, subprocess.Popen(command, stdout=log, stderr=log) as process:
        end = time.monotonic() + 120
        while not (journals := [each for each in cache.glob("store/*.part/rows.jsonl") if each.stat().st_size > 5000]):
            assert process.poll() is None and time.monotonic() < end, (tmp_path / "log").read_text()
            time.sleep(0.005)
        process.kill()
    lines = [json.loads(line) for line in journals[0].read_text().splitlines() if line.endswith("}")]
    known = sum(len(line["decoded"]) for line in lines)
    assert known >= 256
    shown = subprocess.run([*command[:3], "cache", "--dir", str(cache)], capture_output=True, text=True).stdout
    assert "\nNot finished: 1, " in shown and "; a run on the same images goes on with it.\n" in shown
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    assert f"{known} of " in done.stderr and "images lie decoded from a run that did not finish" in done.stderr
    assert not list(cache.glob("store/*.part"))
