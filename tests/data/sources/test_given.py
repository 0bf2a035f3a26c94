"""What is given to be predicted: every kind of argument, in order, each accounted for."""

from __future__ import annotations

import io
import json
import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from hf_finetune.data.config import Data
from hf_finetune.data.sources.given import AllGiven, Given, config_of
from hf_finetune.errors import DataError


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """photos/{b/2,b/10,a}.jpg and what is no image, seen from the folder that holds photos."""
    monkeypatch.chdir(tmp_path)
    for name in ("b/2.jpg", "b/10.jpg", "a.JPG", "notes.txt", ".hidden.jpg", "__MACOSX/a.jpg", "x[1].jpg"):
        path = tmp_path / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (4, 4)).save(path, format="PNG")
    return Path("photos")


def names(*arguments: object, config: Data | None = None, lines: bytes = b"") -> list[str]:
    given = AllGiven([str(each) for each in arguments], config or Data(), io.BytesIO(lines))
    return [each.name for each in given]


def test_the_order_is_that_of_the_arguments_and_folders_are_read_as_training_reads_them(photos: Path) -> None:
    given = AllGiven(["photos/b/2.jpg", "photos", "https://host/c.jpg", "photos/notes.txt"], Data())
    assert given.total == 7 and given.folders == [photos]
    in_folder = [str(photos / name) for name in ("a.JPG", "b/10.jpg", "b/2.jpg", "x[1].jpg")]
    assert [each.name for each in given] == ["photos/b/2.jpg", *in_folder, "https://host/c.jpg", "photos/notes.txt"]
    assert all(not each.error for each in given)


def test_patterns_that_the_shell_did_not_expand_are_expanded(photos: Path) -> None:
    assert names("photos/*/*.jpg") == names("photos/**/[0-9]*.jpg") == ["photos/b/10.jpg", "photos/b/2.jpg"]
    assert names("photos/**/*") == ["photos/a.JPG", "photos/b/10.jpg", "photos/b/2.jpg", "photos/x[1].jpg"]
    assert names("photos/x[1].jpg") == ["photos/x[1].jpg"]  # a file of that name is no pattern
    (nothing,) = [each for each in AllGiven(["photos/*.gif", str(photos)], Data()) if each.error]
    assert nothing == Given("photos/*.gif", "photos/*.gif", "no file matches it")
    (text,) = AllGiven(["photos/*.txt"], Data())
    assert text.error == "none of the 1 files that match it is an image by its name"


def write_table(path: Path, rows: list[dict[str, str]]) -> Path:
    if path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    elif path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    else:
        lines = [",".join(rows[0]), *(",".join(row.values()) for row in rows)]
        path.write_text("\n".join(lines), "utf-8")
    return path


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_a_table_gives_its_cells_in_its_order(photos: Path, suffix: str) -> None:
    cells = ["b/2.jpg", "https://host/x.jpg", "gone.jpg", "", "a.JPG"]
    table = write_table(photos / f"list{suffix}", [{"file": cell, "note": "x"} for cell in cells])
    given = list(AllGiven([str(table)], Data()))
    blank = given.pop(3)
    assert blank.name.startswith(f"{table} line ") and blank.error == "no path"
    assert [each.name for each in given] == [cell for cell in cells if cell]  # as written: to be joined with the table
    assert [each.locator for each in given[:2]] == [str(photos / "b" / "2.jpg"), "https://host/x.jpg"]


def test_the_column_and_the_folder_of_a_table_can_be_named(photos: Path) -> None:
    (photos.parent / "lists").mkdir()
    rows = [{"front": "2.jpg", "back": "10.jpg"}]
    table = write_table(Path("lists/both.csv"), rows)
    with pytest.raises(DataError, match=r"one image column is expected in lists/both.csv, found front and back"):
        AllGiven([str(table)], Data())
    config = config_of(["data.image_column=back", "data.image_folder=photos/b"])
    assert [Path(each.locator) for each in AllGiven([str(table)], config)] == [Path.cwd() / "photos" / "b" / "10.jpg"]
    with pytest.raises(DataError, match=r"data.shots: to predict, data.image_column and data.image_folder"):
        config_of(["data.shots=3"])


def test_a_table_of_one_column_and_ragged_lines_are_read(photos: Path) -> None:
    (photos / "one.csv").write_text("image\nb/2.jpg\na.JPG,7\nb/10.jpg\n", "utf-8")
    given = list(AllGiven([str(photos / "one.csv")], Data()))
    assert [each.error for each in given] == ["", "1 values are expected, found 2", ""]
    assert given[1].name == f"{photos / 'one.csv'} line 3"


def test_a_table_that_holds_images_is_refused(photos: Path) -> None:
    rows = pa.table({"image": pa.array([b"abc"], pa.binary()), "label": [1]})
    pq.write_table(rows, photos / "inside.parquet")
    with pytest.raises(DataError, match=r"inside.parquet holds images themselves; a table with a column of paths"):
        AllGiven([str(photos / "inside.parquet")], Data())


def test_standard_input_is_a_stream_of_names_in_its_place(photos: Path) -> None:
    odd = b"caf\xe9.jpg"  # no UTF-8
    lines = b"photos/b/10.jpg\r\n\nhttp://host/a.jpg\nphotos/b\n" + odd
    given = AllGiven(["photos/a.JPG", "-", "photos/x[1].jpg", "-"], Data(), io.BytesIO(lines))
    assert given.total is None
    in_folder = [str(photos / "b" / "10.jpg"), str(photos / "b" / "2.jpg")]
    assert [each.name for each in given] == ["photos/a.JPG", "photos/b/10.jpg", "http://host/a.jpg", *in_folder,
                                             os.fsdecode(odd), "photos/x[1].jpg"]  # fmt: skip


def test_nothing_at_all_is_refused_and_an_empty_folder_among_others_is_named(photos: Path) -> None:
    (photos.parent / "empty").mkdir()
    with pytest.raises(DataError, match="No image found in empty, nothing/\\*"):
        AllGiven(["empty", "nothing/*"], Data())
    first, second = AllGiven(["empty", "photos/b/2.jpg"], Data())
    assert first == Given("empty", "empty", "no image in this folder") and not second.error
