"""Which folders are splits and which are classes, as people name them; what is a question."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.data.pictures import class_folders
from tests.data.sources.scanning import WHOLE, index, notes, refusal, sizes


@pytest.mark.parametrize(
    ("train", "test"),
    [
        ("training_set", "test_set"),
        ("train_images", "test_images"),
        ("TrainSet", "TestSet"),
        ("train2017", "test2017"),
        ("pets_train", "pets_test"),
        ("train", "test_data"),
        ("train/train", "test/test"),
        ("training_set/training_set", "test_set/test_set"),
    ],
)
def test_split_folders_under_names_that_read_like_splits(tmp_path: Path, train: str, test: str) -> None:
    root = class_folders(tmp_path, {f"{train}/cats": 5, f"{train}/dogs": 5, f"{test}/cats": 2, f"{test}/dogs": 3})
    found = index(root, validation_share=0)
    assert found.labels.names == ("cats", "dogs")
    assert sizes(found) == {"train": 10, "test": 5}
    assert all(row.name.startswith(train.partition("/")[0]) for row in found.splits["train"])


def test_a_split_of_bare_images_beside_split_folders_is_not_used(tmp_path: Path) -> None:
    root = class_folders(tmp_path, {"seg_train/seg_train/sea": 5, "seg_train/seg_train/street": 5,
                                    "seg_test/seg_test/sea": 2, "seg_test/seg_test/street": 2,
                                    "seg_pred/seg_pred": 4})  # fmt: skip
    found = index(root, validation_share=0)
    assert sizes(found) == {"train": 10, "test": 4}
    assert "images ignored that are in no split folder: seg_pred (4 images)" in notes(found)


def test_splits_inside_the_class_folders(tmp_path: Path) -> None:
    root = class_folders(tmp_path, {"cats/train": 6, "cats/test": 2, "dogs/train": 5, "dogs/test": 3})
    found = index(root, validation_share=0)
    assert found.labels.names == ("cats", "dogs")
    assert sizes(found) == {"train": 11, "test": 5}


@pytest.mark.parametrize("names", [("fold_1", "fold_2", "fold_3"), ("site_a", "site_b"), ("cats", "dogs")])
def test_shared_folders_under_other_names_are_a_question_with_answers(tmp_path: Path, names: tuple[str, ...]) -> None:
    root = class_folders(tmp_path, {f"{top}/{sub}": 5 for top in names for sub in ("left", "right")})
    text = refusal(root)
    assert text == (
        f"data.class_level: folders that tell the classes are expected below ROOT, found {', '.join(names)}, which "
        "hold folders of the same names: left, right\n"
        f"  set data.class_level=1 if the classes are {', '.join(names)}; or data.class_level=2 if the classes are "
        f"left, right; or data.train_split={names[0]} data.test_split={names[1]} if {names[0]} and {names[1]} are "
        "splits"
    )
    assert index(root, class_level=1).labels.names == names
    joined = index(root, class_level=2, **WHOLE)
    assert joined.labels.names == ("left", "right")
    assert sizes(joined) == {"train": 10 * len(names)}
    given = index(root, train_split=names[0], test_split=names[1], validation_share=0)
    assert sizes(given) == {"train": 10, "test": 10}


def test_a_question_never_proposes_to_train_on_the_test(tmp_path: Path) -> None:
    root = class_folders(tmp_path / "a", {f"{top}/{sub}": 2 for top in ("holdout_test", "site") for sub in "xy"})
    assert "data.train_split=site data.test_split=holdout_test" in refusal(root)
    only = class_folders(tmp_path / "b", {"test_set/x": 2, "test_set/y": 2}, first=50)
    assert "did you mean data.name=ROOT/test_set" not in refusal(only)
    beside = class_folders(tmp_path / "c", {"cats": 2, "dogs": 2, "test/cats": 2, "test/dogs": 2}, first=90)
    assert "data.train_split=test" not in refusal(beside)
    assert "data.ignore_splits=[test] to leave it out" in refusal(beside)
    assert sizes(index(beside, ignore_splits=("test",), **WHOLE)) == {"train": 4}


def test_one_shared_folder_leaves_the_classes(tmp_path: Path) -> None:
    root = class_folders(tmp_path, {"cats/images": 5, "dogs/images": 5})
    assert index(root).labels.names == ("cats", "dogs")


def test_a_test_folder_is_kept_apart_where_other_folders_are_joined(tmp_path: Path) -> None:
    root = class_folders(tmp_path, {f"{top}/{sub}": 4 for top in ("fold_1", "fold_2", "test") for sub in "xy"})
    found = index(root, class_level=2, validation_share=0)
    assert sizes(found) == {"train": 16, "test": 8}


def test_a_level_that_is_too_deep_is_refused(tmp_path: Path) -> None:
    root = class_folders(tmp_path, {"a": 3, "b": 3})
    assert refusal(root, class_level=3) == (
        "data.class_level: images in folders at least 3 levels below ROOT are expected, found images at most 1 level "
        "below it\n  set data.class_level to 1 at most, or to null"
    )


def test_a_given_split_can_be_left_out(tmp_path: Path) -> None:
    root = class_folders(tmp_path, {"train/a": 10, "train/b": 10, "test/a": 2, "test/b": 2})
    found = index(root, ignore_splits=("Test",), validation_share=0, test_share=0.2)
    assert sizes(found) == {"train": 16, "test": 4}
    assert all(row.name.startswith("train/") for row in found.splits["test"])
    assert "splits not used: test (4 rows), by data.ignore_splits" in notes(found)
    assert refusal(root, ignore_splits=("tset",)).startswith("data.ignore_splits: ROOT has no split 'tset', found")
    assert refusal(root, ignore_splits=("test",), test_split="test").startswith(
        "data.ignore_splits: splits that no other key names are expected, found 'test', which data.test_split names"
    )


def test_an_ignored_split_may_be_named_by_its_own_name(tmp_path: Path) -> None:
    root = class_folders(tmp_path, {"training_set/a": 5, "training_set/b": 5, "test_set/a": 2, "test_set/b": 2})
    found = index(root, ignore_splits=("test_set",), **WHOLE)
    assert found.labels.names == ("a", "b")
    assert sizes(found) == {"train": 10}
    assert sizes(index(root, ignore_splits="test", **WHOLE)) == {"train": 10}


def test_the_folders_at_the_top_are_classes_whatever_they_are_called_if_asked(tmp_path: Path) -> None:
    root = class_folders(tmp_path, {"training_set/a": 5, "test_set/a": 4})
    assert index(root, class_level=1).labels.names == ("test_set", "training_set")


def test_folds_with_splits_inside_offer_one_of_them(tmp_path: Path) -> None:
    folds = {f"fold{n}/{split}/{label}": 2 for n in range(2) for split in ("train", "test") for label in "ab"}
    root = class_folders(tmp_path, folds)
    assert "set data.name=ROOT/fold0 to take one of them; or data.class_level=1" in refusal(root)
    assert sizes(index(root / "fold0", validation_share=0)) == {"train": 4, "test": 4}


def test_shared_folders_below_a_split_are_a_question_too(tmp_path: Path) -> None:
    root = class_folders(tmp_path, {f"{s}/part_{n}/{c}": 3 for s in ("train", "test") for n in (1, 2) for c in "ab"})
    assert refusal(root) == (
        "data.class_level: folders that tell the classes are expected in ROOT/test, found part_1, part_2, which hold "
        "folders of the same names: a, b\n"
        "  set data.class_level=2 if the classes are part_1, part_2; or data.class_level=3 if the classes are a, b"
    )
    found = index(root, class_level=3, validation_share=0)
    assert found.labels.names == ("a", "b")
    assert sizes(found) == {"train": 12, "test": 12}


@pytest.mark.parametrize("beside", [{}, {"docs": 2}])
def test_a_dataset_in_a_folder_of_its_own_is_named(tmp_path: Path, beside: dict[str, int]) -> None:
    root = class_folders(tmp_path, {"archive/train/a": 4, "archive/train/b": 4, "archive/test/a": 2, **beside})
    assert "set data.name=ROOT/archive" in refusal(root)
    if beside:
        assert index(root, class_level=1).labels.names == ("archive", "docs")


def test_a_class_called_train_among_classes_of_one_folder(tmp_path: Path) -> None:
    root = class_folders(tmp_path, {"train/images": 4, "bus/images": 4, "car/images": 4})
    assert index(root).labels.names == ("bus", "car", "train")


def test_a_folder_of_nothing_but_a_test_is_not_proposed_to_train_on(tmp_path: Path) -> None:
    root = class_folders(tmp_path, {"test/a": 4, "test/b": 4})
    assert "data.train_split" not in refusal(root).splitlines()[1]
