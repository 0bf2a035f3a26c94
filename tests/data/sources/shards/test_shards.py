"""Datasets in tar shards: which images, labels and splits are read out of them, and what of them cannot be used."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import pytest

from hf_finetune.data.config import Data
from hf_finetune.data.index.scan import scan, scan_split
from hf_finetune.labels import Reading
from tests.data.pictures import class_folders, jpeg, put, read_all
from tests.data.sources.scanning import WHOLE, index, notes, refusal, sizes
from tests.data.sources.shards.tars import described, samples, write_tar


def three_splits(root: Path) -> Path:
    write_tar(root / "train-000000.tar", samples(8))
    write_tar(root / "train-000001.tar", samples(6, first=100))
    write_tar(root / "val-000000.tar", samples(4, first=200))
    write_tar(root / "test-000000.tar", samples(2, first=300))
    return root


def test_splits_come_of_the_shards_names_and_images_stay_in_place(tmp_path: Path) -> None:
    found = index(three_splits(tmp_path))
    assert sizes(found) == {"train": 14, "validation": 4, "test": 2}
    assert found.layout == "4 tar shards: images from 'jpg', labels from 'cls'"
    assert (found.labels.names, found.notes, found.rejected) == (("0", "1"), (), ())
    assert found.own_names == {"train": "train", "validation": "val", "test": "test"}
    # The same key stands in every shard, as webdataset numbers them: each is an image of its own.
    rows = found.splits["train"]
    assert [row.name for row in rows[7:9]] == ["train-000000.tar/0007.jpg", "train-000001.tar/0000.jpg"]
    assert [row.label for row in rows[:4]] == [0, 1, 0, 1]
    reader = pickle.loads(pickle.dumps(found.reader))
    assert read_all(reader, rows) == [jpeg(number) for number in (*range(8), *range(100, 106))]
    assert len(pickle.dumps(found.reader)) < 1000  # a worker is sent no table of places


@pytest.mark.parametrize(
    "names",
    [
        ("train/000.tar", "validation/000.tar", "test/000.tar"),
        ("data/imagenet-train-0.tar", "data/imagenet-val-0.tar", "data/imagenet-test-0.tar"),
        ("train-00000-of-00001.tar", "dev-00000-of-00001.tar", "test-00000-of-00001.tar"),
        ("train.tar", "val.tar", "test.tar"),
    ],
)
def test_usual_names_of_shards_and_folders(tmp_path: Path, names: tuple[str, ...]) -> None:
    for number, name in enumerate(names):
        write_tar(tmp_path / name, samples(4, first=10 * number))
    assert sizes(index(tmp_path)) == {"train": 4, "validation": 4, "test": 4}


def test_a_shard_a_pattern_and_a_folder(tmp_path: Path) -> None:
    for number in range(3):
        write_tar(tmp_path / f"part-{number:03d}.tar", samples(4, first=10 * number))
    assert sizes(index(tmp_path / "part-001.tar", **WHOLE)) == {"train": 4}
    assert sizes(index(tmp_path, **WHOLE)) == {"train": 12}
    assert sizes(index(tmp_path / "part-{000..001}.tar", **WHOLE)) == {"train": 8}
    assert sizes(index(tmp_path / "part-{000,002}.tar", **WHOLE)) == {"train": 8}
    three_splits(tmp_path / "more")
    assert sizes(index(tmp_path / "more/{train,val,test}-00000{0..0}.tar")) == {"train": 8, "validation": 4, "test": 2}


def test_a_shard_alone_is_scored_whatever_its_name(tmp_path: Path) -> None:
    three_splits(tmp_path)
    found = scan_split(Data(name=str(tmp_path / "test-000000.tar")), "test")
    assert sizes(found) == {"test": 2}
    assert sizes(scan_split(Data(name=str(tmp_path)), "validation")) == {"validation": 4}


def test_patterns_that_name_what_is_not_there(tmp_path: Path) -> None:
    write_tar(tmp_path / "a-0.tar", samples(4))
    assert refusal(tmp_path / "a-{0..3}.tar") == (
        "data.name: the 4 shards of ROOT are expected, found 1 of them; not there: "
        f"{tmp_path}/a-1.tar, {tmp_path}/a-2.tar, {tmp_path}/a-3.tar\n"
        "  change the range in the braces, or get the others"
    )
    for inside in ("3..0", "x", "0..999999999999", ""):
        assert refusal(tmp_path / f"a-{{{inside}}}.tar").startswith(
            "data.name: a range or a choice in braces is expected in ROOT, found "
        )
    assert refusal(tmp_path / "b.tar") == (
        "data.name: a folder, table file, tar shard or Hub id is expected, found nothing at ROOT\n"
        f"  did you mean {tmp_path}/a-0.tar?"
    )
    write_tar(tmp_path / "a-1.tar", samples(4, first=9))
    assert refusal(tmp_path / "a-{0..1}.tar", revision="main").startswith("data.revision: ROOT has no revision")
    assert refusal(tmp_path / "a-0.tar", class_level=2).startswith("data.class_level: ROOT (tar shards) has no class")


# --------------------------------------------------------------------------------------------------------------- labels


def test_classes_have_the_names_of_a_list_beside_the_shards(tmp_path: Path) -> None:
    write_tar(tmp_path / "data/a.tar", samples(9, classes=4))
    (tmp_path / "classnames.txt").write_text("cat\ndog\nemu\n")
    found = index(tmp_path, max_bad_share=0.5, **WHOLE)
    assert found.labels.names == ("cat", "dog", "emu")
    assert [row.label for row in found.splits["train"]] == [0, 1, 2, 0, 1, 2, 0]
    assert [(row.name, row.reason) for row in found.rejected] == [
        (f"data/a.tar/000{number}.jpg", "label 3 is outside the 3 classes of the dataset") for number in (3, 7)
    ]
    (tmp_path / "classnames.txt").write_text("cat\ndog\ncat\n")
    assert refusal(tmp_path) == (
        "data.name: names of classes are expected once each in ROOT/classnames.txt, found 'cat' twice\n"
        "  give each line a name of its own"
    )


def test_classes_have_the_names_that_the_card_or_dataset_info_gives(tmp_path: Path) -> None:
    write_tar(tmp_path / "a.tar", samples(4))
    names = ["no", "yes"]
    info = {"features": {"cls": {"names": names, "_type": "ClassLabel"}}}
    (tmp_path / "dataset_info.json").write_text(json.dumps(info))
    assert index(tmp_path, **WHOLE).labels.names == ("no", "yes")
    (tmp_path / "dataset_info.json").write_text("{")
    (tmp_path / "README.md").write_text(
        "---\ndataset_info:\n  features:\n  - name: cls\n    dtype:\n      class_label:\n        names:\n"
        "          '0': shut\n          '1': open\n---\n"
    )
    assert index(tmp_path, **WHOLE).labels.names == ("shut", "open")


def test_a_class_may_be_a_name_and_a_text(tmp_path: Path) -> None:
    files = [
        (f"{n}.{end}", data)
        for n in range(4)
        for end, data in (("png", jpeg(n)), ("cls", b"cat\n" if n % 2 else b" dog "))
    ]
    assert index(write_tar(tmp_path / "a.tar", files), **WHOLE).labels.names == ("cat", "dog")
    texts = [(name.replace("cls", "txt"), data) for name, data in files]
    found = index(write_tar(tmp_path / "b.tar", texts), **WHOLE)
    assert found.labels.names == ("cat", "dog") and found.layout.endswith("labels from 'txt'")


def test_the_class_goes_before_captions_and_the_recipe_before_both(tmp_path: Path) -> None:
    files = samples(6)
    files += [(f"{n:04d}.txt", b"a photo %d" % n) for n in range(6)]
    files += [(f"{n:04d}.json", json.dumps({"kind": "ab"[n // 3], "width": n}).encode()) for n in range(6)]
    path = write_tar(tmp_path / "a.tar", sorted(files))
    assert index(path, **WHOLE).layout.endswith("labels from 'cls'")
    named = index(path, label_column="kind", **WHOLE)
    assert named.labels.names == ("a", "b")
    assert refusal(path, label_column="sort") == (
        "data.label_column: ROOT has no column 'sort', found jpg (image), cls (whole number), kind (text), "
        "width (whole number), txt (text)\n  set data.label_column to one of these"
    )


def test_json_gives_labels_splits_groups_and_several_targets(tmp_path: Path) -> None:
    path = write_tar(
        tmp_path / "a.tar",
        described(
            12,
            label=lambda n: "xy"[n % 2],
            split=lambda n: "test" if n > 8 else "train",
            house=lambda n: n // 3,
            price=lambda n: 1.5 * n,
            tags=lambda n: ["old"] if n % 3 else ["old", "red"],
        ),
    )
    found = index(path, group_column="house", validation_share=0)
    assert sizes(found) == {"train": 9, "test": 3}
    assert found.layout == (
        "1 tar shard: images from 'jpg', labels from 'label', splits from 'split', groups from 'house'"
    )
    assert len({row.unit for row in found.splits["train"]}) == 3
    price = index(path, label_column="price", validation_share=0)
    assert price.columns[0].kind == "numbers" and price.splits["train"][3].label == (4.5,)
    tags = index(path, label_column="tags", validation_share=0)
    assert tags.columns[0].kind == "labels" and tags.labels.names == ("old", "red")
    both = Reading(columns={"label": Reading("classes"), "price": Reading("numbers")})
    several = scan(Data(name=str(path), validation_share=0), seed=0, reading=both)
    assert several.splits["train"][3].label == (1.0, 4.5)


def test_shards_without_labels_say_what_to_do(tmp_path: Path) -> None:
    path = write_tar(
        tmp_path / "a.tar", [(f"pets/{kind}/{n}.jpg", jpeg(n)) for kind in ("cat", "dog") for n in range(2)]
    )
    assert refusal(path) == (
        "data.label_column: a label beside each image is expected in the shards of ROOT (a member .cls, .txt or .json "
        "of the image's name), found images alone, in folders pets/cat, pets/dog\n"
        "  if the folders are the classes, unpack the shards into one folder and set data.name to it"
    )
    assert "found images alone\n  write the shards with labels" in refusal(
        write_tar(tmp_path / "b.tar", [("1.jpg", jpeg(1))])
    )
    assert refusal(write_tar(tmp_path / "c.tar", [("1.wav", b"1"), ("1.cls", b"1")])).startswith(
        "data.name: images are expected in the shards of ROOT, found members ending in .wav, .cls\n"
    )
    assert "found no sample\n" in refusal(write_tar(tmp_path / "d.tar", []))


def test_a_folder_of_images_or_parquet_goes_before_a_tar_beside_them(tmp_path: Path) -> None:
    class_folders(tmp_path, {"a": 4, "b": 4})
    write_tar(tmp_path / "old.tar", samples(4))
    assert index(tmp_path).layout == "class folders"
    write_tar(tmp_path / "other/a.tar", samples(4))
    put(tmp_path / "other/x.jpg", 1)
    assert refusal(tmp_path / "other").startswith("data.name: ")


def test_equal_images_in_two_shards_are_kept_together(tmp_path: Path) -> None:
    write_tar(tmp_path / "train-0.tar", samples(10))
    write_tar(tmp_path / "test-0.tar", samples(10, first=9))
    assert "1 image found byte-equal in more than one split" in notes(index(tmp_path))


def test_left_out_splits_and_changed_shards(tmp_path: Path) -> None:
    three_splits(tmp_path)
    found = index(tmp_path, ignore_splits=["test"], test_share=0)
    assert sizes(found) == {"train": 14, "validation": 4}
    assert "splits not used: test (2 rows), by data.ignore_splits" in notes(found)
    before = index(tmp_path).revision
    assert index(tmp_path).revision == before
    write_tar(tmp_path / "train-000001.tar", samples(6, first=110))
    assert index(tmp_path).revision != before


def test_a_shard_that_cannot_be_opened_is_named(tmp_path: Path) -> None:
    write_tar(tmp_path / "train-0.tar", samples(4))
    (tmp_path / "train-1.tar").symlink_to(tmp_path / "gone.tar")
    assert refusal(tmp_path) == (
        "data.name: tar shards that can be read are expected in ROOT, found ROOT/train-1.tar: No such file or "
        "directory\n  check its permissions and the disk, or get it again"
    )
