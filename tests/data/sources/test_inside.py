"""Rows whose file lies elsewhere, by a path or a link, are told of or refused; what is no file is never waited for."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from hf_finetune.data.sources.inside import OUTSIDE
from hf_finetune.data.sources.regular import read_regular
from tests.data.sources.scanning import WHOLE, index, notes, pictures, sizes, table

pytestmark = pytest.mark.skipif(os.name == "nt", reason="links and pipes are made in other ways there")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A folder of 2 × 4 images with a table beside them, and an image beside it that is somebody else's."""
    pictures(tmp_path / "set", {"a": 4, "b": 4})
    shutil.copy(sorted((tmp_path / "set" / "a").iterdir())[0], tmp_path / "private.jpg")
    return tmp_path / "set"


def with_table(root: Path, *paths: str) -> Path:
    own = [(path.relative_to(root).as_posix(), path.parent.name) for path in sorted(root.rglob("*.jpg"))]
    return table(root / "labels.csv", [("image", "label"), *own, *((path, "a") for path in paths)])


@pytest.mark.parametrize("way", ["absolute", "above", "link", "folder"])
def test_a_file_elsewhere_is_told_of_and_refused_where_that_is_wanted(root: Path, way: str) -> None:
    private = root.parent / "private.jpg"
    paths = {"absolute": str(private), "above": "../private.jpg", "link": "link.jpg", "folder": "way/private.jpg"}
    csv = with_table(root, paths[way])
    if way == "link":
        (root / "link.jpg").symlink_to(private)
    if way == "folder":
        (root / "way").symlink_to(private.parent)
    told = index(csv, **WHOLE)
    assert sizes(told) == {"train": 9}
    assert "1 image outside of the dataset's folder, by paths or links that lead there: " in notes(told)
    held = index(csv, inside=True, max_bad_share=0.5, **WHOLE)
    assert sizes(held) == {"train": 8}
    assert [row.reason for row in held.rejected] == [OUTSIDE]
    assert "outside" not in notes(held)


def test_what_lies_inside_by_any_way_is_no_news(root: Path) -> None:
    first = sorted((root / "a").iterdir())[0]
    (root / "b" / "again.jpg").symlink_to(first)
    csv = with_table(root, str(first), "b/../a/" + first.name, "b/again.jpg")
    assert "outside" not in notes(index(csv, **WHOLE))
    (root.parent / "link").symlink_to(root)  # the dataset itself is named by a link
    found = index(root.parent / "link" / "labels.csv", inside=True, **WHOLE)
    assert not found.rejected


def test_links_among_class_folders_are_held_to_the_same(root: Path) -> None:
    (root / "a" / "link.jpg").symlink_to(root.parent / "private.jpg")
    assert "1 image outside of the dataset's folder" in notes(index(root, **WHOLE))
    assert sizes(index(root, inside=True, max_bad_share=0.5, **WHOLE)) == {"train": 8}


def test_the_folder_that_a_person_names_for_the_images_is_inside(root: Path) -> None:
    elsewhere = table(root.parent / "tables.csv", [("image", "label"), ("a/0.jpg", "a")])
    rows = [(path.relative_to(root).as_posix(), path.parent.name) for path in sorted(root.rglob("*.jpg"))]
    table(elsewhere, [("image", "label"), *rows])
    assert not index(elsewhere, image_folder=str(root), inside=True, **WHOLE).rejected


def test_what_is_no_file_is_not_waited_for(root: Path) -> None:
    csv = with_table(root, "pipe.jpg")
    os.mkfifo(root / "pipe.jpg")
    found = index(csv, **WHOLE)
    (row,) = [row for row in found.splits["train"] if row.name.endswith("pipe.jpg")]
    with pytest.raises(OSError, match="no file, but a named pipe"):
        found.reader.read(row.locator)
    for path, said in ((os.devnull, "a device"), (str(root), "a folder")):
        with pytest.raises(OSError, match=f"{said}|Is a directory"):
            read_regular(path)
