"""The doctor on folders and tables with known faults: each is found, and its table repairs the next run."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from hf_finetune.cli import main
from hf_finetune.pipeline.train import train
from hf_finetune.report.summary import render_summary
from tests.browser import DESKTOP, PHONE, opened
from tests.doctor.pictures import copy, picture

pytestmark = pytest.mark.e2e
Doctor = Callable[..., tuple[int, str, str]]
STARTER = "model.name=builtin:starter"
KINDS = ("red, dark", "<b>bright</b>")


def photo(number: int, kind: int) -> Image.Image:
    """A picture whose brightness is its class."""
    found = np.asarray(picture(number, 96)).astype(np.float64) * 0.4 + 90 * kind
    return Image.fromarray(found.astype(np.uint8))


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two classes with given splits; files 0 to 3 of train are found again in test, in four ways."""
    root = tmp_path_factory.mktemp("doctor") / "photos"
    for kind, name in enumerate(KINDS):
        for split, first, count in (("train", 0, 24), ("validation", 100, 8), ("test", 200, 8)):
            folder = root / split / name.replace("/", "⁄")
            folder.mkdir(parents=True)
            for number in range(first, first + count):
                photo(1000 * kind + number, kind).save(folder / f"{number}.png")
    dark, bright = (name.replace("/", "⁄") for name in KINDS)
    train_dark, random = root / "train" / dark, np.random.default_rng(0)
    (root / "test" / dark / "same.png").write_bytes((train_dark / "0.png").read_bytes())
    (root / "test" / bright / "contradicts.png").write_bytes((train_dark / "1.png").read_bytes())
    copy(photo(2, 0), "mirrored", random).save(root / "test" / dark / "mirrored.jpg", quality=90)
    copy(photo(3, 0), "cropped", random).save(root / "test" / dark / "cropped.jpg", quality=90)
    (root / "train" / bright / "twin.png").write_bytes((root / "train" / bright / "5.png").read_bytes())
    (train_dark / "broken.png").write_bytes((train_dark / "4.png").read_bytes()[:200])
    Image.new("RGB", (96, 96), "white").save(train_dark / "blank.png")
    photo(1500, 1).save(train_dark / "wrong.png")
    return root


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Features are found again by the next doctor."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def doctor(cache: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Doctor:
    monkeypatch.setenv("HF_FINETUNE_CACHE", str(cache))

    def run(*arguments: object) -> tuple[int, str, str]:
        code = main(["doctor", *map(str, arguments)])
        return (code, *capsys.readouterr())

    return run


def lines(path: Path) -> dict[tuple[str, str], dict[str, str]]:
    """By file name and kind."""
    with path.open(encoding="utf-8", newline="") as file:
        return {(Path(each["path"]).name, each["finding"]): each for each in csv.DictReader(file)}


def test_every_planted_fault_is_found(photos: Path, tmp_path: Path, doctor: Doctor) -> None:
    before = {path: path.read_bytes() for path in photos.rglob("*.*")}
    code, out, _ = doctor(photos, STARTER, "--out", tmp_path / "out")
    assert code == 0
    found = lines(tmp_path / "out" / "findings.csv")

    def action(name: str, kind: str) -> str:
        return found[name, kind]["action"]

    assert (action("0.png", "exact duplicate"), action("same.png", "exact duplicate")) == ("exclude", "keep")
    assert (action("1.png", "exact duplicate"), action("contradicts.png", "exact duplicate")) == ("exclude", "keep")
    assert sorted([action("5.png", "exact duplicate"), action("twin.png", "exact duplicate")]) == ["exclude", "keep"]
    for one, other in (("2.png", "mirrored.jpg"), ("3.png", "cropped.jpg")):
        assert action(one, "near duplicate") == action(other, "near duplicate") == "keep"
        assert other in found[one, "near duplicate"]["detail"]
    assert action("broken.png", "unreadable") == "exclude"
    assert action("blank.png", "placeholder") == "keep"
    assert action("wrong.png", "suspected label") == "keep"
    assert found["wrong.png", "suspected label"]["label"] == "<b>bright<⁄b>"
    assert len([kind for _, kind in found if kind in ("exact duplicate", "near duplicate")]) == 10
    assert "identical files" in out and "2 in more than one split, 1 under different labels" in " ".join(out.split())
    assert "without the 4 rows that have a copy in another split" in " ".join(out.split())
    assert {path: path.read_bytes() for path in photos.rglob("*.*")} == before
    page = (tmp_path / "out" / "doctor.html").read_text(encoding="utf-8")
    assert str(tmp_path) not in page and str(photos.parent) not in page and "data.corrections=findings.csv" in page
    assert page.count("<img") > 12 and "&lt;b&gt;bright&lt;⁄b&gt;" in page and "<b>bright" not in page


def test_its_page_opens_in_a_browser(chromium: Any, photos: Path, tmp_path: Path, doctor: Doctor) -> None:
    doctor(photos, STARTER, "--out", tmp_path)
    for width in (PHONE, DESKTOP):
        for scheme in ("light", "dark"):
            with opened(chromium, tmp_path / "doctor.html", width=width, scheme=scheme) as seen:
                content, window = seen.widths()
                assert content <= window
                assert (seen.said, len(seen.asked), seen.violations()) == ([], 1, [])


def test_its_table_repairs_the_next_run(photos: Path, tmp_path: Path, doctor: Doctor) -> None:
    code, out, _ = doctor(
        photos, STARTER, "--out", tmp_path / "out", "--apply", tmp_path / "fix.csv", "--labels", "drop"
    )
    assert code == 0 and f"data.corrections={tmp_path / 'fix.csv'}" in out
    assert {each["action"] for each in lines(tmp_path / "fix.csv").values()} == {"exclude"}
    assert ("wrong.png", "suspected label") in lines(tmp_path / "fix.csv")
    recipe = {
        "model": {"name": "builtin:starter"},
        "data": {"name": str(photos), "corrections": str(tmp_path / "fix.csv")},
        "ladder": ["probe"],
        "output": {"dir": str(tmp_path / "run")},
    }
    report = train(recipe).report
    dropped = len({each["path"] for each in lines(tmp_path / "fix.csv").values()})
    assert report["data"]["counts"]["train"] == 24 + 24 + 3 + 1 - dropped
    assert report["data"]["rejected"] == []
    notes = [str(note) for note in report["data"]["notes"]]
    assert any("corrections: " in note for note in notes) and not any("byte-equal" in note for note in notes)


def test_a_run_tells_the_worst_and_scores_without_what_leaked(photos: Path, tmp_path: Path) -> None:
    data = {"name": str(photos), "max_bad_share": 0.1}
    recipe = {"model": {"name": "builtin:starter"}, "data": data, "ladder": ["probe"]}
    run = train({**recipe, "output": {"dir": str(tmp_path / "run")}})
    found = run.report["findings"]
    assert [each.partition(":")[0] for each in found["worst"]] == [
        "identical files", "near duplicates", "suspected labels",
    ]  # fmt: skip
    assert found["without_leaks"]["leaked"] == 4
    assert found["without_leaks"]["rows"] == run.report["test"]["rows"] - 4
    said = render_summary(run.report, run.folder.path)
    assert "without the 4 rows that have a copy in another split" in " ".join(said.split())
    assert "wrong.png" in said
    scarce = {**data, "store_limit": "1KB", "cache_dir": str(tmp_path / "cache")}
    limited = {**recipe, "data": scarce, "output": {"dir": str(tmp_path / "limited")}}
    assert train(limited).report["findings"] == {}  # each image would be decoded once more


def test_json_has_what_the_table_has(photos: Path, tmp_path: Path, doctor: Doctor) -> None:
    code, out, _ = doctor(photos, STARTER, "--out", tmp_path, "--copies", "drop", "--json")
    found = json.loads(out)
    assert code == 0 and found["score"]["measure"] == "accuracy" and found["score"]["test_without_leaks"] is not None
    dropped = {Path(each["path"]).name for each in found["findings"] if each["action"] == "exclude"}
    assert {"2.png", "3.png"} <= dropped and "mirrored.jpg" not in dropped
    assert len(found["findings"]) == len(lines(Path(found["files"]["table"])))


def test_a_table_that_was_edited_is_kept(photos: Path, tmp_path: Path, doctor: Doctor) -> None:
    for _ in range(2):
        doctor(photos, STARTER, "--out", tmp_path)
    assert [path.name for path in tmp_path.glob("*.csv")] == ["findings.csv"]
    edited = (tmp_path / "findings.csv").read_text(encoding="utf-8").replace("keep", "exclude")
    (tmp_path / "findings.csv").write_text(edited, encoding="utf-8")
    _, out, _ = doctor(photos, STARTER, "--out", tmp_path)
    assert (tmp_path / "findings.csv").read_text(encoding="utf-8") == edited
    assert "findings-2.csv" in out and (tmp_path / "findings-2.csv").is_file()


def test_what_cannot_be_written_is_told_before_anything_is_done(photos: Path, tmp_path: Path, doctor: Doctor) -> None:
    table = tmp_path / "mine.csv"
    table.write_text("image,label\n", encoding="utf-8")
    code, _, err = doctor(photos, STARTER, "--apply", table, "--out", tmp_path)
    assert code == 2 and "a new file is expected" in err and table.read_text(encoding="utf-8") == "image,label\n"
    code, _, err = doctor(photos, STARTER, "--apply", tmp_path / "none" / "fix.csv", "--out", tmp_path)
    assert code == 2 and "a folder is expected" in err
    code, _, err = doctor(photos, STARTER, "--out", table)
    assert code == 2 and "--out: a folder that can be written is expected" in err


def test_one_class_and_no_readable_image_are_told(tmp_path: Path, doctor: Doctor) -> None:
    for name in ("a", "b"):
        (tmp_path / "broken" / name).mkdir(parents=True)
        for number in range(12):
            (tmp_path / "broken" / name / f"{number}.jpg").write_bytes(b"no image %d" % number)
    code, _, err = doctor(tmp_path / "broken", STARTER, "--out", tmp_path)
    assert code == 2 and "no training image" in err
    (tmp_path / "one" / "a").mkdir(parents=True)
    for number in range(8):
        photo(number, 0).save(tmp_path / "one" / "a" / f"{number}.png")
    code, _, err = doctor(tmp_path / "one", STARTER, "--out", tmp_path)
    assert code == 2 and "at least two class folders are expected" in err


def test_images_that_are_all_the_same_are_found_where_no_split_can_be_cut(tmp_path: Path, doctor: Doctor) -> None:
    for kind in "ab":
        (tmp_path / "photos" / kind).mkdir(parents=True)
        for number in range(6):
            photo(1, 0).save(tmp_path / "photos" / kind / f"{number}.png")
    code, out, _ = doctor(tmp_path / "photos", STARTER, "--out", tmp_path / "out")
    assert code == 0 and "1 image in 12 rows, 1 under different labels" in " ".join(out.split())


def test_a_test_without_labels_is_left_out_and_said(tmp_path: Path, doctor: Doctor) -> None:
    rows = []
    for number in range(48):
        photo(1000 * (number % 2) + number, number % 2).save(tmp_path / f"{number}.png")
        rows.append(f"{number}.png,{'ab'[number % 2] if number < 40 else ''},{'train' if number < 40 else 'test'}")
    (tmp_path / "data.csv").write_text("image,label,split\n" + "\n".join(rows) + "\n", encoding="utf-8")
    code, out, _ = doctor(tmp_path / "data.csv", STARTER, "--out", tmp_path / "out")
    assert code == 0 and "none of its 8 rows has a label" in " ".join(out.split())


def test_numbers_that_are_far_off_are_suspected(tmp_path: Path, doctor: Doctor) -> None:
    random, rows = np.random.default_rng(0), []
    for number in range(80):
        level = float(random.uniform(0, 1))
        pixels = np.asarray(picture(number, 64)).astype(np.float64) * 0.2 + 180 * level
        Image.fromarray(pixels.astype(np.uint8)).save(tmp_path / f"{number}.png")
        rows.append(f"{number}.png,{level * (50 if number == 17 else 1):.4f}")
    (tmp_path / "data.csv").write_text("image,level\n" + "\n".join(rows) + "\n", encoding="utf-8")
    code, _, _ = doctor(
        tmp_path / "data.csv",
        STARTER,
        "data.validation_share=0.1",
        "data.test_share=0",
        "train.seed=1",
        "--out",
        tmp_path,
    )
    assert code == 0 and ("17.png", "suspected label") in lines(tmp_path / "findings.csv")
