from __future__ import annotations

import contextlib
import os
import socket
from pathlib import Path

import pytest

from hf_finetune.data.config import Data
from hf_finetune.data.index.scan import scan
from hf_finetune.errors import DataError
from hf_finetune.types import Index
from tests.data.pictures import class_folders, jpeg, put
from tests.data.sources.scanning import index, refusal


def names(found: Index, split: str) -> list[str]:
    return [row.name for row in found.splits[split]]  # type: ignore[index]


def test_class_folders_without_splits_are_cut(tmp_path: Path) -> None:
    found = index(class_folders(tmp_path, {"dog": 20, "cat": 20}))
    assert found.labels.names == ("cat", "dog")
    assert {split: len(rows) for split, rows in found.splits.items()} == {"train": 28, "validation": 6, "test": 6}
    assert found.cut == ("validation", "test")
    assert found.commit is None
    assert sorted(found.splits) == ["test", "train", "validation"]
    for split in found.splits:
        for row in found.splits[split]:
            assert row.name.split("/")[0] == found.labels.names[row.label]
            assert found.reader.read(row.locator) == (tmp_path / row.name).read_bytes()


@pytest.mark.parametrize(
    ("train", "validation", "test"),
    [
        ("train", "validation", "test"),
        ("Training", "val", "TESTING"),
        ("train", "valid", "test"),
        ("TRAIN", "dev", "Test"),
        ("train", "Eval", "testing"),
    ],
)
def test_split_folders_are_known_by_their_usual_names(tmp_path: Path, train: str, validation: str, test: str) -> None:
    root = class_folders(tmp_path, {f"{train}/a": 3, f"{train}/b": 2, f"{validation}/a": 1, f"{validation}/b": 1,
                                    f"{test}/b": 2, f"{test}/a": 1})  # fmt: skip
    found = index(root)
    assert names(found, "train") == [f"{train}/a/0.jpg", f"{train}/a/1.jpg", f"{train}/a/2.jpg", f"{train}/b/3.jpg",
                                     f"{train}/b/4.jpg"]  # fmt: skip
    assert len(found.splits["validation"]) == 2
    assert len(found.splits["test"]) == 3
    assert found.cut == ()


def test_a_named_test_split_leaves_validation_to_be_cut(tmp_path: Path) -> None:
    root = class_folders(tmp_path, {"train/a": 10, "train/b": 10, "val/a": 4, "val/b": 4})
    found = index(root, test_split="VAL")
    assert found.cut == ("validation",)
    assert len(found.splits["test"]) == 8
    assert len(found.splits["validation"]) == 3
    assert all(name.startswith("train/") for name in names(found, "validation"))


def test_folders_of_any_name_can_be_named_as_splits(tmp_path: Path) -> None:
    root = class_folders(tmp_path, {"fold1/a": 5, "fold1/b": 5, "fold2/a": 2, "fold2/b": 2, "fold3/a": 1})
    found = index(root, train_split="fold1", test_split="fold2", validation_share=0.2)
    assert {split: len(rows) for split, rows in found.splits.items()} == {"train": 8, "validation": 2, "test": 4}
    assert "images ignored that are in no split folder: fold3 (1 image)" in tuple(map(str, found.notes))


def test_a_class_may_be_called_train(tmp_path: Path) -> None:
    found = index(class_folders(tmp_path, {"bus": 5, "car": 5, "train": 5}))
    assert found.labels.names == ("bus", "car", "train")


def test_folders_below_a_class_folder_belong_to_the_class(tmp_path: Path) -> None:
    found = index(class_folders(tmp_path, {"a/2023/may": 3, "a/2024": 3, "b": 4}), test_share=0, validation_share=0)
    assert found.labels.names == ("a", "b")
    assert next(row.name for row in found.splits["train"] if row.label == 0) == "a/2023/may/0.jpg"
    assert len(found.splits["train"]) == 10


def test_every_recognised_suffix_counts_and_other_files_are_one_note(tmp_path: Path) -> None:
    suffixes = ["jpg", "jpeg", "jpe", "png", "bmp", "gif", "webp", "tif", "tiff", "ppm", "pgm", "jfif", "avif", "JPG"]
    for number, suffix in enumerate(suffixes):
        put(tmp_path / "a" / f"{number}.{suffix}", number)
        put(tmp_path / "b" / f"{number}.{suffix}", 100 + number)
    for ignored in ("a/.hidden.jpg", "__MACOSX/a/1.jpg", ".git/x/1.jpg", "a/Thumbs.db", "a/._1.jpg"):
        put(tmp_path / ignored, 999)
    for other in ("readme.txt", "a/notes.txt", "a/LICENSE", "b/clip.mp4"):
        (tmp_path / other).write_text("x")
    found = index(tmp_path, test_share=0, validation_share=0)
    assert len(found.splits["train"]) == 28
    assert tuple(map(str, found.notes)) == (
        "4 files ignored that are not images by suffix: .mp4 1, .txt 2, no suffix 1",
    )


def test_stray_images_beside_class_folders_are_reported(tmp_path: Path) -> None:
    class_folders(tmp_path, {"a": 5, "b": 5, "": 2}, first=1)
    assert "2 images ignored that are in no class folder: 11.jpg, 12.jpg" in map(str, index(tmp_path).notes)


def test_a_split_folder_without_class_folders_is_unlabelled(tmp_path: Path) -> None:
    class_folders(tmp_path, {"train/a": 10, "train/b": 10, "test": 7})
    found = index(tmp_path)
    assert found.cut == ("validation", "test")
    assert "split test is not used: none of its 7 rows has a label" in tuple(map(str, found.notes))
    assert refusal(tmp_path, test_split="test") == (
        "data.test_split: labelled rows are expected, found 7 rows without a label in 'test'\n"
        "  name a split with labels, or set data.test_split to null"
    )


def test_an_empty_class_folder_is_refused_in_train_and_noted_elsewhere(tmp_path: Path) -> None:
    class_folders(tmp_path, {"train/a": 3, "train/b": 3, "test/a": 2, "val/a": 1, "val/b": 1})
    (tmp_path / "test/b").mkdir()
    notes = tuple(map(str, index(tmp_path).notes))
    assert "1 folder without an image: test/b" in notes
    assert "test has no row of 1 class: b" in notes
    (tmp_path / "train/c").mkdir()
    assert refusal(tmp_path) == (
        "data.name: every class folder of train must hold an image, found none in train/c\n"
        "  add images to it, or remove the folder"
    )


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    assert refusal(tmp_path).startswith(
        "data.name: images are expected below ROOT, found nothing\n  recognised are .avif,"
    )
    (tmp_path / "a.txt").write_text("x")
    assert refusal(tmp_path).startswith("data.name: images are expected below ROOT, found 1 other file\n")


def test_images_without_class_folders_are_refused(tmp_path: Path) -> None:
    class_folders(tmp_path, {"": 3})
    assert refusal(tmp_path) == (
        "data.name: a folder for each class is expected below ROOT, found 3 images and no class folder\n"
        "  put the images of each class into a folder of its own, or name a table with a label column in data.name"
    )


def test_a_folder_one_level_too_high_names_the_right_one(tmp_path: Path) -> None:
    class_folders(tmp_path, {"pets/cat": 3, "pets/dog": 3})
    assert refusal(tmp_path) == (
        "data.name: at least two class folders are expected below ROOT, found only pets\n"
        "  it holds cat, dog: did you mean data.name=ROOT/pets?"
    )


def test_one_class_is_refused(tmp_path: Path) -> None:
    class_folders(tmp_path, {"cat": 3})
    assert refusal(tmp_path) == (
        "data.name: at least two class folders are expected below ROOT, found only cat\n"
        "  put the images of each class into a folder of its own, or name a table with a label column in data.name"
    )
    class_folders(tmp_path / "given", {"train/cat": 3, "test/cat": 2}, first=9)
    with pytest.raises(DataError, match=r"two classes are needed in the training split of .*, found only 'cat'"):
        index(tmp_path / "given")


def test_split_folders_of_bare_images_are_no_classes(tmp_path: Path) -> None:
    class_folders(tmp_path, {"train": 5, "test": 5})
    assert refusal(tmp_path).startswith(
        "data.name: class folders are expected in test, train of ROOT, found images only\n  put"
    )
    (tmp_path / "train.csv").write_text("id,label\n")
    assert refusal(tmp_path).endswith("\n  did you mean the table data.name=ROOT/train.csv?")
    (tmp_path / "train.csv").rename(tmp_path / "test.csv")
    assert "test.csv" not in refusal(tmp_path)


def test_a_train_folder_that_may_be_a_class_needs_a_word(tmp_path: Path) -> None:
    class_folders(tmp_path, {"bus": 3, "car": 3, "train/2023": 3, "train/2024": 3})
    assert refusal(tmp_path) == (
        "data.train_split: classes in train or classes beside it are expected, found both: train holds folders "
        "of images, "
        "and beside it are bus, car\n"
        "  if train is the train split, set data.train_split=train; if train is a class, set data.class_level=1"
    )
    assert index(tmp_path, class_level=1).labels.names == ("bus", "car", "train")
    found = index(tmp_path, train_split="train")
    assert found.labels.names == ("2023", "2024")
    assert "images ignored that are in no split folder: bus (3 images), car (3 images)" in tuple(map(str, found.notes))


def test_a_split_that_is_not_there_is_refused_with_those_that_are(tmp_path: Path) -> None:
    class_folders(tmp_path, {"train/a": 3, "train/b": 3, "val/a": 1, "val/b": 1})
    assert refusal(tmp_path, test_split="tset") == (
        "data.test_split: ROOT has no split 'tset', found train, val\n  set data.test_split to one of these, or to null"
    )


def test_a_folder_without_train_is_refused(tmp_path: Path) -> None:
    class_folders(tmp_path, {"val/a": 3, "val/b": 3, "test/a": 1, "test/b": 1})
    assert refusal(tmp_path) == (
        "data.train_split: a training split is expected in ROOT, found test, val\n"
        "  give the folder or table that holds the training split, too"
    )


def test_two_folders_for_one_split_are_refused(tmp_path: Path) -> None:
    class_folders(tmp_path, {"train/a": 3, "train/b": 3, "val/a": 1, "valid/b": 1})
    assert refusal(tmp_path) == (
        "data.validation_split: one split called validation or val or valid is expected in ROOT, found val, valid\n"
        "  set data.validation_split to the one to use"
    )


@pytest.mark.parametrize(
    ("field", "value", "text"),
    [("revision", "main", "data.revision: ROOT has no revision, found 'main'\n  leave data.revision out, or set "
                          "it to null"),
     ("config", "x", "data.config: ROOT has no config, found 'x'\n  leave data.config out, or set it to null"),
     ("label_column", "x", "data.label_column: the folder of class folders ROOT has no label column, found 'x'\n"
      "  leave data.label_column out, or set it to null")],
)  # fmt: skip
def test_a_field_that_means_nothing_here_is_refused(tmp_path: Path, field: str, value: str, text: str) -> None:
    class_folders(tmp_path, {"a": 3, "b": 3})
    assert refusal(tmp_path, **{field: value}) == text


def test_a_link_to_nothing_is_a_rejected_row(tmp_path: Path) -> None:
    class_folders(tmp_path, {"a": 5, "b": 5})
    (tmp_path / "a/gone.jpg").symlink_to(tmp_path / "nowhere.jpg")
    (tmp_path / "a/circle.txt").symlink_to(tmp_path / "a/circle.txt")
    (tmp_path / "b/circle.jpg").symlink_to(tmp_path / "b/circle.jpg")
    found = index(tmp_path, max_bad_share=0.2)
    assert [(row.name, row.split, row.reason) for row in found.rejected] == [
        ("a/gone.jpg", "train", "a link to a file that does not exist"),
        ("b/circle.jpg", "train", "a link in a circle"),
    ]
    assert refusal(tmp_path) == (
        "data.max_bad_share: at most 1.0% of the rows of ROOT may be unusable, found 2 of 12: a/gone.jpg: a link to a "
        "file that does not exist; b/circle.jpg: a link in a circle\n  mend these rows, or raise data.max_bad_share to "
        "skip them"
    )


@pytest.mark.skipif(os.name == "nt", reason="pipes have no paths there")
def test_what_is_no_file_is_called_what_it_is(tmp_path: Path) -> None:
    class_folders(tmp_path, {"a": 50, "b": 50})
    os.mkfifo(tmp_path / "a/pipe.jpg")
    (tmp_path / "a/zero.jpg").symlink_to("/dev/zero")
    (tmp_path / "b/linked.jpg").symlink_to(tmp_path / "a/pipe.jpg")
    with socket.socket(socket.AF_UNIX) as listener, contextlib.chdir(tmp_path):
        listener.bind("b/socket.jpg")
    (tmp_path / "b/folder.jpg").mkdir()  # holds nothing, and is none of the images
    assert {row.name: row.reason for row in index(tmp_path, max_bad_share=0.2).rejected} == {
        "a/pipe.jpg": "a named pipe",
        "a/zero.jpg": "a link to a device",
        "b/linked.jpg": "a link to a named pipe",
        "b/socket.jpg": "a socket",
    }


@pytest.mark.skipif(os.name == "nt", reason="pipes have no paths there")
def test_a_pipe_as_the_dataset_is_called_so(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "photos")
    (tmp_path / "photos.csv").symlink_to(tmp_path / "nowhere")
    remedy = "\n  give a folder or a file that is there"
    expected = "data.name: a folder, table file, tar shard or Hub id is expected, found"
    assert refusal(tmp_path / "photos") == f"{expected} a named pipe at ROOT{remedy}"
    assert refusal(tmp_path / "photos.csv") == f"{expected} a link to a file that does not exist at ROOT{remedy}"


def test_linked_folders_are_followed_once(tmp_path: Path) -> None:
    class_folders(tmp_path / "data", {"a": 5})
    class_folders(tmp_path / "elsewhere", {"": 5}, first=50)
    (tmp_path / "data/b").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    (tmp_path / "data/a/loop").symlink_to(tmp_path / "data", target_is_directory=True)
    found = index(tmp_path / "data", test_share=0, validation_share=0)
    assert len(found.splits["train"]) == 10


def test_names_are_equal_however_they_were_typed(tmp_path: Path) -> None:
    composed, decomposed = "caf\u00e9", "cafe\u0301"
    class_folders(tmp_path, {f"train/{composed}": 3, "train/日本": 3, f"test/{decomposed}": 2, "test/日本": 1,
                             f"val/{composed}": 1, "val/日本": 1})  # fmt: skip
    found = index(tmp_path)
    assert found.labels.names == (composed, "日本")
    row = next(row for row in found.splits["test"] if row.label == 0)
    assert row.name.startswith(f"test/{composed}/")
    assert found.reader.read(row.locator) == jpeg(6)


def test_a_file_name_that_is_not_utf8_can_be_printed_and_read(tmp_path: Path) -> None:
    class_folders(tmp_path, {"a": 3, "b": 3})
    (tmp_path / "a" / os.fsdecode(b"caf\xe9.jpg")).write_bytes(jpeg(77))
    found = index(tmp_path, test_share=0, validation_share=0)
    row = next(row for row in found.splits["train"] if "caf" in row.name)
    assert row.name == "a/caf\\udce9.jpg"
    assert found.reader.read(row.locator) == jpeg(77)


def test_a_class_of_another_case_in_test_is_refused(tmp_path: Path) -> None:
    class_folders(tmp_path, {"train/Cat": 3, "train/dog": 3, "test/cat": 2, "test/dog": 1})
    assert refusal(tmp_path) == (
        "data.test_split: every class of test must be in train, found 1 class that train lacks: 'cat'\n"
        "  these differ only in case or blanks from a class of train: 'cat' ('Cat'); set data.join_alike=true to join "
        "them, or make label names equal in every split, or set data.test_split to another split"
    )


def test_a_folder_that_may_not_be_read_is_named(tmp_path: Path) -> None:
    class_folders(tmp_path, {"a": 3, "b": 3})
    (tmp_path / "b").chmod(0)
    for folder in (tmp_path, *tmp_path.parents[:3]):
        folder.chmod(folder.stat().st_mode | 0o055)
    is_root = os.geteuid() == 0
    if is_root:
        os.seteuid(65534)  # root may read everything
    try:
        text = refusal(tmp_path)
    finally:
        if is_root:
            os.seteuid(0)
        (tmp_path / "b").chmod(0o755)
    assert text == "data.name: no permission to read ROOT/b\n  change its permissions, or move it away"


def test_the_revision_follows_bytes_labels_and_names_and_nothing_else(tmp_path: Path) -> None:
    class_folders(tmp_path, {"a": 5, "b": 5})
    first = index(tmp_path).revision
    assert index(tmp_path).revision == first
    assert scan(Data(name=str(tmp_path)), seed=1).revision == first
    os.utime(tmp_path / "a/0.jpg", ns=(1, 1))
    touched = index(tmp_path).revision
    (tmp_path / "a/1.jpg").rename(tmp_path / "a/x.jpg")
    renamed = index(tmp_path).revision
    (tmp_path / "a/x.jpg").rename(tmp_path / "b/x.jpg")
    assert len({first, touched, renamed, index(tmp_path).revision}) == 4
