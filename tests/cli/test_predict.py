"""`hf-finetune predict` on what a person has: one run, every kind of input and output, and all that goes wrong."""

from __future__ import annotations

import csv
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from tests.cli.photos import CLASSES, train_probe, write_photos_and_table
from tests.result.predict.dirty import READ, UNREAD, write_dirty

pytestmark = pytest.mark.e2e
Cli = Callable[..., tuple[int, str, str]]
ENDING = re.compile(r"^(\d+) of (\d+) images? answered in [\d.]+ s(: [\d.]+ images/s, the model [\d.]+ ms an image)?"
                    r"(; (\d+) not)?$", re.M)  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Photos, and photos.csv with the class of each, one of which is really called n/a."""
    return write_photos_and_table(tmp_path_factory.mktemp("photos")).parent


@pytest.fixture(scope="module")
def trained(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A probe on three classes called n/a, 1 and grün, which knows what images like its own are."""
    return train_probe(folder / "photos.csv", tmp_path_factory.mktemp("run") / "run")


@pytest.fixture
def few(tmp_path: Path, folder: Path) -> Path:
    """A folder of two photos of each class, called after it, and a picture unlike them."""
    place = tmp_path / "few"
    place.mkdir()
    for name in CLASSES:
        for number in (0, 1):
            safe = name.replace("/", "⁄")
            (place / f"{safe} {number}.jpg").write_bytes((folder / "train" / safe / f"{number}.jpg").read_bytes())
    pixels = np.random.default_rng(0).integers(0, 2, (64, 64, 3), dtype=np.uint8) * 255
    Image.fromarray(pixels).save(place / "z.png")
    return place


def table(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_every_format_says_the_same_of_the_same_images(trained: Path, few: Path, cli: Cli, tmp_path: Path) -> None:
    code, text, err = cli("predict", trained, few, "--top", 2)
    assert code == 0
    assert ENDING.fullmatch(err.strip().splitlines()[-1])
    lines = text.splitlines()
    assert len(lines) == 7 and lines[-1].endswith("  (unlike the training images)")
    code, said, _ = cli("predict", trained, few, "--top", 2, "--json")
    records = [json.loads(line) for line in said.splitlines()]
    assert code == 0 and said == cli("predict", trained, few, "--top", 2, "--format", "jsonl")[1]
    for name in ("a.csv", "a.parquet", "a.jsonl"):
        code, out, _ = cli("predict", trained, few, "--top", 2, "--out", tmp_path / name)
        assert (code, out) == (0, "")
    rows = table(tmp_path / "a.csv")
    assert list(rows[0]) == ["path", "label", "probability", "label_2", "probability_2", "among", "unlike", "distance",
                             "error"]  # fmt: skip
    typed = pq.read_table(tmp_path / "a.parquet").to_pylist()
    again = [json.loads(line) for line in (tmp_path / "a.jsonl").read_text("utf-8").splitlines()]
    for line, record, row, typed_row, other in zip(lines, records, rows, typed, again, strict=True):
        assert record == other
        assert [row["path"], row["label"]] == [record["image"], record["predictions"][0]["label"]]
        assert float(row["probability_2"]) == typed_row["probability_2"] == record["predictions"][1]["probability"]
        assert json.loads(row["among"]) == record["among"]
        assert (row["unlike"] == "true") == typed_row["unlike"] == record["unlike"]
        assert float(row["distance"]) == typed_row["distance"] == record["distance"]
        assert line.startswith(f"{record['image']}  {row['label']} ")
    assert [row["label"] for row in rows[:-1]] == [Path(row["path"]).stem[:-2].replace("⁄", "/") for row in rows[:-1]]


def test_a_mixture_of_inputs_is_answered_in_its_order_and_accounted_for(
    trained: Path, few: Path, cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dirty = write_dirty(tmp_path / "dirty")
    monkeypatch.chdir(tmp_path)
    Path("list.csv").write_text("file,remark\nfew/1 1.jpg,x\nfew/gone.jpg,y\n", "utf-8")
    arguments = ["few/1 0.jpg", "dirty", "few/*.jpg", "list.csv", "gone.jpg", "few/*.gif"]
    code, out, err = cli("predict", trained, *arguments, "--out", "answers.csv", "--batch", 4)
    assert code == 2 and out == ""
    rows = table(Path("answers.csv"))
    in_folders = sorted(str(Path("dirty") / name) for name in (*READ, *UNREAD))
    matched = sorted(str(path.relative_to(tmp_path)) for path in few.glob("*.jpg"))
    assert [row["path"] for row in rows] == [
        "few/1 0.jpg", *in_folders, *matched, "few/1 1.jpg", "few/gone.jpg", "gone.jpg", "few/*.gif",
    ]  # fmt: skip
    # 16-bit images: no image of the run was one
    bad = {str(Path("dirty") / name) for name in (*UNREAD, "16bit.png")} | {"few/gone.jpg", "gone.jpg", "few/*.gif"}
    assert {row["path"] for row in rows if row["error"]} == bad
    assert all((row["label"] == "") == bool(row["error"]) for row in rows)
    for name in bad:
        assert f"hf-finetune: {name}" in err
    found = ENDING.search(err)
    assert found is not None
    assert [int(found[place]) for place in (1, 2, 5)] == [len(rows) - len(bad), len(rows), len(bad)]
    assert dirty.is_dir() and not Path("answers.csv.partial").exists()


def test_names_come_from_standard_input_and_pictures_from_addresses(trained: Path, few: Path, tmp_path: Path) -> None:
    handler = partial(SimpleHTTPRequestHandler, directory=str(few))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}"
        lines = f"{few / '1 0.jpg'}\n{address}/1%201.jpg\n{address}/none.jpg\nfile:///etc/hostname\n"
        command = [sys.executable, "-m", "hf_finetune", "predict", str(trained), "-", "--json"]
        command += ["--sort-into", str(tmp_path / "sorted")]
        done = subprocess.run(command, input=lines, capture_output=True, text=True, timeout=120)
        server.shutdown()
    assert done.returncode == 2
    records = [json.loads(line) for line in done.stdout.splitlines()]
    assert [record["image"] for record in records] == lines.splitlines()
    assert [record["predictions"][0]["label"] for record in records[:2]] == ["1", "1"]
    assert [record["error"] for record in records[2:]] == [
        "the server answered 404", "it is a file: address; images are fetched by http and https alone",
    ]  # fmt: skip
    # redirected, nothing but problems and the last line is on standard error
    assert len(done.stderr.splitlines()) == 3 and ENDING.search(done.stderr)
    copies = sorted(path.relative_to(tmp_path / "sorted").as_posix() for path in (tmp_path / "sorted").rglob("*.jpg"))
    assert copies == ["1/1 0.jpg", "1/1 1.jpg"]
    assert (tmp_path / "sorted" / "1" / "1 1.jpg").read_bytes() == (few / "1 1.jpg").read_bytes()


def test_images_are_copied_into_folders_of_their_class(trained: Path, few: Path, cli: Cli, tmp_path: Path) -> None:
    place = tmp_path / "sorted"
    (few / "bad.jpg").write_text("no image", "utf-8")
    assert cli("predict", trained, few, "--sort-into", place)[0] == 2
    names = [name.replace("/", "_") for name in CLASSES]
    copies = {path.relative_to(place).as_posix() for path in place.rglob("*.*")}
    expected = {f"{safe}/{name.replace('/', '⁄')} {number}.jpg" for safe, name in zip(names, CLASSES, strict=True)
                for number in (0, 1)}  # fmt: skip
    assert copies - {f"{safe}/z.png" for safe in names} == expected and len(copies) == 7
    assert len(list(few.iterdir())) == 8  # nothing was moved
    assert cli("predict", trained, few / "z.png", few / "1 0.jpg", "--sort-into", place, "--sort-unlike")[0] == 0
    assert (place / "unlike" / "z.png").is_file() and (place / "1" / "1 0_2.jpg").is_file()
    code, _, err = cli("predict", trained, few, "--sort-into", few / "sorted")
    assert code == 2 and "lies in" in err and not (few / "sorted").exists()
    code, _, err = cli("predict", trained, few, "--sort-unlike")
    assert code == 2 and "--sort-unlike: a folder to sort into is expected" in err


def test_a_copy_that_cannot_be_made_leaves_the_answers_so_far(
    trained: Path, few: Path, cli: Cli, tmp_path: Path
) -> None:
    (tmp_path / "sorted").mkdir()
    (tmp_path / "sorted" / "grün").write_text("a file where a folder is wanted", "utf-8")
    code, out, err = cli("predict", trained, few / "1 0.jpg", few / "grün 0.jpg", "--sort-into", tmp_path / "sorted")
    assert code == 2 and "cannot be written" in err
    assert [Path(line.split("  ")[0]).name for line in out.splitlines()] == ["1 0.jpg", "grün 0.jpg"]
    assert (tmp_path / "sorted" / "1" / "1 0.jpg").is_file()


def test_a_picture_shows_what_the_model_looked_at(trained: Path, few: Path, cli: Cli, tmp_path: Path) -> None:
    (few / "bad.jpg").write_text("no image", "utf-8")
    code, out, _ = cli("predict", trained, few, "--explain", tmp_path / "seen", "--json")
    records = [json.loads(line) for line in out.splitlines()]
    assert code == 2 and len(records) == 8
    for record in records:
        if "error" in record:
            assert "explained" not in record
            continue
        picture = Path(record["explained"])
        assert picture.stem == Path(record["image"]).stem
        with Image.open(picture) as image:
            assert image.format == "PNG" and image.size == (448, 224)
    assert len(list((tmp_path / "seen").iterdir())) == 7
    cli("predict", trained, few / "z.png", "--explain", tmp_path / "seen", "--out", tmp_path / "a.csv")
    assert table(tmp_path / "a.csv")[0]["explained"] == str(tmp_path / "seen" / "z_2.png")


def test_mirror_images_are_averaged_in_predict_and_evaluate(trained: Path, few: Path, cli: Cli) -> None:
    for level in range(50, 110, 2):  # between two classes, and darker on the left
        lopsided = np.repeat(np.linspace(level - 40, level + 40, 40)[None], 30, axis=0)[..., None].repeat(3, axis=2)
        Image.fromarray(lopsided.astype(np.uint8)).save(few / f"z{level}.png")
    plain, mirrored = (
        [json.loads(line)["predictions"][0] for line in cli("predict", trained, few, "--json", *more)[1].splitlines()]
        for more in ([], ["--tta"])
    )
    assert [each["label"] for each in plain[:6]] == [each["label"] for each in mirrored[:6]]
    assert plain != mirrored
    code, out, _ = cli("evaluate", trained, "--tta", "--json")
    metrics: dict[str, Any] = json.loads(out)
    assert code == 0 and "the mean of each image's logits and those of its mirror image" in metrics["notes"]
    assert "in_training" not in metrics and metrics["accuracy"] > 0.9 and metrics["images_s"] > 0
    code, out, _ = cli("evaluate", trained)
    assert re.search(r"^speed +[\d.,]+ images/s, [\d.]+ ms an image, decoded before$", out, re.M)
    assert cli("evaluate", trained, "--folds", 3, "--tta")[0] == 2


def test_what_is_asked_wrongly_is_said_before_anything_runs(trained: Path, few: Path, cli: Cli, tmp_path: Path) -> None:
    for arguments, said in (
        (["--batch", "0"], "--batch: a number from 1 up is expected, found 0"),
        (["--json", "--format", "csv"], "--json is --format jsonl, found --format csv too"),
        (["--format", "parquet"], "--format parquet: a file is expected"),
        (["--out", str(tmp_path / "a.xlsx")], "--out: a file that ends in"),
        (["--out", str(tmp_path / "none" / "a.csv")], "cannot be written"),
        (["data.label_column=x"], "data.label_column: to predict, data.image_column and data.image_folder"),
    ):
        code, out, err = cli("predict", trained, few, *arguments)
        assert code == 2 and said in err
        assert out == "" or ("--json" in arguments and said in json.loads(out)["error"]["message"])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["few"]


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGINT for one process")
def test_ctrl_c_keeps_what_was_answered_so_far(trained: Path, few: Path, tmp_path: Path) -> None:
    out = tmp_path / "answers.csv"
    command = [sys.executable, "-m", "hf_finetune", "predict", str(trained), "-", "--out", str(out)]
    process = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # Jobs in the background of a shell inherit an ignored SIGINT.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL) and None,
    )
    assert process.stdin is not None
    process.stdin.write(f"{few / '1 0.jpg'}\n{few / '1 1.jpg'}\n")
    process.stdin.flush()  # the list does not end
    partial_file = Path(f"{out}.partial")
    end = time.monotonic() + 180
    while not (partial_file.exists() and len(partial_file.read_text("utf-8").splitlines()) == 3):
        assert time.monotonic() < end
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert err.strip() == f"hf-finetune: interrupted; 2 answers are in {partial_file}."
    assert not out.exists() and len(table(partial_file)) == 2
    code = subprocess.run([*command[:5], str(few), *command[6:]], capture_output=True, text=True)
    assert code.returncode == 2 and "answers.csv.partial is there already" in code.stderr


def test_names_that_would_move_the_terminal_are_written_out(trained: Path, few: Path, cli: Cli, tmp_path: Path) -> None:
    odd = tmp_path / "odd"
    odd.mkdir()
    (odd / "a\x1b[2Jb\n.jpg").write_bytes((few / "1 0.jpg").read_bytes())
    (odd / "c\x1b[2Jd.jpg").write_text("no image", "utf-8")
    code, out, err = cli("predict", trained, odd)
    assert code == 2 and "\x1b" not in out + err
    assert "a\\x1b[2Jb\\n.jpg  1 " in out and "c\\x1b[2Jd.jpg cannot be read" in err
    cli("predict", trained, odd, "--out", tmp_path / "a.csv")
    assert {Path(row["path"]).name for row in table(tmp_path / "a.csv")} == {path.name for path in odd.iterdir()}
