"""Outliers, placeholders, shapes, names and groups."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from hf_finetune.data.sources.readers import FileReader
from hf_finetune.doctor import overview, plain
from hf_finetune.doctor.everything import Everything
from hf_finetune.doctor.findings import Finding, in_order, table
from hf_finetune.doctor.unlike import Directions, neighbours
from hf_finetune.doctor.words import lines, worst
from hf_finetune.errors import DataError
from hf_finetune.labels import LabelColumn, Labels, label_text
from hf_finetune.tasks.classification import ClassTarget
from hf_finetune.types import Index, Row
from tests.doctor.pictures import Rows


def everything(names: list[str], classes: list[int], splits: list[str] | None = None) -> Everything:
    """Rows of one colour: what is said by names and labels alone."""
    kinds = ("cat", "dog")
    of = splits or ["train"] * len(names)
    chosen = {split: [place for place, own in enumerate(of) if own == split] for split in dict.fromkeys(of)}
    rows = {
        split: Rows(
            np.zeros((len(its), 3, 8, 8), np.uint8), np.array([classes[at] for at in its]), [names[at] for at in its]
        )
        for split, its in chosen.items()
    }
    index = Index(
        "photos", "", None, None, Labels(kinds),
        {split: tuple(Row(names[at], classes[at], at) for at in its) for split, its in chosen.items()},  # type: ignore[misc]
        (), (), (), None,  # type: ignore[arg-type]
        columns=(LabelColumn("label", "classes", kinds),),
    )  # fmt: skip
    return Everything(index, ClassTarget(Labels(kinds)), rows, {}, {}, None, 0)  # type: ignore[arg-type]


def test_a_file_that_is_gone_since_it_was_decoded_is_told(tmp_path: Path) -> None:
    gone = str(tmp_path / "a.jpg")
    one = everything(["a.jpg"], [0])
    index = replace(one.index, reader=FileReader(), splits={"train": (Row("a.jpg", 0, gone),)})
    with pytest.raises(DataError, match=r"a\.jpg was there when images were decoded, and cannot be read now"):
        replace(one, index=index).file(0)


def test_what_is_far_from_its_neighbours_has_the_largest_distance() -> None:
    random = np.random.default_rng(0)
    features = (random.normal(0, 1, (1, 16)) + random.normal(0, 0.3, (200, 16))).astype(np.float32)
    features[:100] += 2 * random.normal(0, 1, (1, 16))
    features[150] = 4 * random.normal(0, 1, 16)
    found = neighbours(Directions.of([features[:120], features[120:]]), None).distance
    assert found.argmax() == 150
    assert np.isnan(neighbours(Directions.of([features[:10]]), None).distance).all()


def test_references_are_a_part_of_many_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hf_finetune.doctor.unlike._MOST_REFERENCES", 100)
    monkeypatch.setattr("hf_finetune.doctor.unlike._BLOCK", 64)
    random = np.random.default_rng(0)
    features = (3 + random.normal(0, 0.3, (300, 8))).astype(np.float32)
    features[:, :4] *= np.where(np.arange(300) % 2, 1, -1)[:, None]
    odd = [k for k in range(300) if k not in np.linspace(0, 299, 100).astype(int)][50]
    features[odd] = (3, -3, 3, -3, -3, 3, -3, 3)
    found = neighbours(Directions.of([features[:90], features[90:]]), None).distance
    assert found.argmax() == odd and found[odd] > 2 * np.median(found)


def test_the_nearest_of_the_class_is_no_other_class_and_not_itself() -> None:
    features = np.repeat(np.eye(4, dtype=np.float32), 2, 0) + 0.01 * np.arange(8, dtype=np.float32)[:, None]
    classes = np.array([0, 0, 1, 1, 0, 0, 1, 1])
    nearest = neighbours(Directions.of([features]), classes).nearest
    assert nearest.tolist() == [1, 0, 3, 2, 5, 4, 7, 6]
    assert neighbours(Directions.of([features[:3]]), np.array([0, 1, 1])).nearest[0] == -1


def test_a_plain_picture_is_a_placeholder_among_photos_and_not_among_drawings() -> None:
    photos, drawings = np.full(50, 6.0), np.full(50, 0.4)
    assert plain.placeholders(np.append(photos, 0.5)).tolist() == [False] * 50 + [True]
    assert not plain.placeholders(np.append(photos, 1.7)).any()
    assert plain.placeholders(np.append(drawings, [0.2, 0.0])).tolist() == [False] * 51 + [True]
    assert plain.placeholders(np.zeros(0)).tolist() == []


def test_small_images_and_strips_are_odd_where_others_are_not() -> None:
    sizes = np.tile([640, 480], (20, 1))
    sizes[3], sizes[4] = (40, 30), (2000, 300)
    found = plain.odd_shapes(sizes, 224)
    assert set(found) == {3, 4} and "480 is the usual" in found[3] and "a strip" in found[4]
    assert plain.odd_shapes(np.tile([2000, 300], (20, 1)), 224) == {}
    assert plain.odd_shapes(sizes[:0], 224) == {}


def test_a_few_grey_images_among_colours_are_told_and_the_other_way_round() -> None:
    rows, text = plain.odd_colours(np.array([30.0] * 40 + [0.5]))
    assert rows.tolist() == [40] and "grey" in text
    rows, text = plain.odd_colours(np.array([0.1] * 40 + [25.0]))
    assert rows.tolist() == [40] and "in colour" in text
    assert len(plain.odd_colours(np.array([0.1, 30.0] * 20))[0]) == 0


def test_uneven_and_small_classes_are_told() -> None:
    notes = overview.imbalance(everything([f"{n}" for n in range(63)], [0] * 60 + [1] * 3))
    assert "60 training rows of cat, 3 of dog" in notes[0].text
    assert "fewer than 5 training rows: dog" in notes[1].text
    assert overview.imbalance(everything([f"{n}" for n in range(20)], [0, 1] * 10)) == []


def test_names_that_may_mean_the_same_are_told_and_numbered_ones_are_not() -> None:
    (note,) = overview.alike_names(("Golden Retriever", "golden_retrievers", "labrador", "labradar", "pug"))
    assert "2 pairs" in note.text and "'labrador' and 'labradar'" in note.text
    assert overview.alike_names(("class 10", "class 11", "type a", "type b", "n/a", "cat", "dog")) == []


def test_names_of_patients_are_a_hint_where_their_pictures_look_alike() -> None:
    names = [
        f"{kind}/p{patient:02}_{shot}.jpg" for kind in ("cat", "dog") for patient in range(10) for shot in range(4)
    ]
    classes = [0 if name.startswith("cat") else 1 for name in names]
    splits = ["test" if name.endswith("3.jpg") else "train" for name in names]
    found = everything(names, classes, splits)
    place = {name: at for at, name in enumerate(found.names)}
    twin = np.array([place[name.replace("_0", "_1") if "_0" in name else name[:-5] + "0.jpg"] for name in found.names])
    (note,) = overview.groups(found, twin)
    assert "data.group_pattern=" in note.text and "20 are in more than one split" in note.text
    random = np.random.default_rng(0).permutation(len(names))
    assert overview.groups(found, random) == []


def test_labels_are_said_by_column() -> None:
    columns = (LabelColumn("kind", "classes", ("cat", "dog")), LabelColumn("tags", "labels", ("wet", "old")))
    assert label_text(columns, np.array([1, 1.0, 1.0])) == "dog; wet, old"
    assert label_text(columns, np.array([np.nan, 0.0, 0.0])) == "none; none"
    assert label_text((LabelColumn("price", "numbers", ("price",)),), np.array([2.5])) == "2.5"


def finding(path: str, kind: str, **more: object) -> Finding:
    return Finding(path, "train", "cat", kind, 0.5, "…", **more)  # type: ignore[arg-type]


def test_the_worst_kinds_are_told_first_and_by_images() -> None:
    findings = in_order([
        finding("x", "grey"),
        finding("a", "suspected label"),
        finding("b", "exact duplicate", group=0, others=("c",), crosses=("labels",)),
        finding("c", "exact duplicate", group=0, others=("b",), crosses=("labels",)),
        finding("d", "near duplicate", group=1, others=("e",)),
        finding("e", "near duplicate", group=1, others=("d",)),
    ])  # fmt: skip
    assert [line.about.heading for line in lines(findings)] == [
        "identical files", "near duplicates", "suspected labels", "odd colours",
    ]  # fmt: skip
    assert worst(findings, 3) == [
        "identical files: 1 image in 2 rows, 1 under different labels: b = c",
        "suspected labels: 1 row: a",
    ]
    assert table(findings).splitlines()[0] == "path,finding,score,action,label,split,given,detail"
