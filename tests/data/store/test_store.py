"""The store: what it holds, when it is reused, what becomes of bad rows, and what it never trusts."""

from __future__ import annotations

import json
import pickle
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from hf_finetune.data.store.open_views import open_views
from hf_finetune.data.store.views import Exact, Squash
from hf_finetune.errors import DataError
from hf_finetune.preprocess.pixels import open_rgb, render, squash
from hf_finetune.types import Rejected, Row
from tests.data.store.conftest import Opened
from tests.data.store.samples import (
    MAX_PIXELS,
    PREPROCESS,
    SIDE,
    SQUASHED,
    FolderReader,
    encode,
    entry_folders,
    everything,
    index_of,
    options,
    picture,
    small_index,
    write_images,
)

pytestmark = pytest.mark.e2e


def reads(log: Path) -> int:
    return log.stat().st_size if log.exists() else 0


def test_200_images_are_stored_exactly_as_they_render(opened: Opened, tmp_path: Path) -> None:
    rows = write_images(tmp_path / "images", {"train": 110, "validation": 50, "test": 40})
    store = opened(index_of(rows, FolderReader(str(tmp_path / "images"))), tmp_path / "cache", workers=2)
    assert (store.on_disk, store.built, store.rejected, store.notes) == (True, True, (), ())
    for split, decoded in store.rows.items():
        assert decoded.names == [row.name for row in rows[split]]
        assert decoded.labels.tolist() == [row.label for row in rows[split]]
        assert (decoded.labels.dtype, decoded.sizes.dtype) == (np.int64, np.int32)
        for place, row in enumerate(rows[split]):
            image = open_rgb((tmp_path / "images" / row.name).read_bytes(), MAX_PIXELS)
            expected = squash(image, SIDE, 3) if split == "train" else render(image, PREPROCESS)
            assert (decoded.gather(np.array([place]))[0] == expected).all(), row.name
            assert tuple(decoded.sizes[place]) == image.size


def test_gather_gives_fresh_rows_in_the_order_asked_for(opened: Opened, tmp_path: Path) -> None:
    rows = opened(small_index(tmp_path / "images"), tmp_path / "cache").rows["train"]
    batch = rows.gather(np.array([5, 0, 5]))
    assert batch.shape == (3, 3, SIDE, SIDE) and batch.dtype == np.uint8
    assert (batch[0] == batch[2]).all() and (batch[0] != batch[1]).any()
    batch[:] = 0
    assert rows.gather(np.array([5])).any()
    assert len(rows) == 24


def test_a_second_opening_decodes_nothing_and_gives_the_same_pixels(opened: Opened, tmp_path: Path) -> None:
    index = small_index(tmp_path / "images", log=str(tmp_path / "log"))
    seen: list[tuple[int, int]] = []
    first = opened(index, tmp_path / "cache", progress=lambda done, total: seen.append((done, total)))
    assert reads(tmp_path / "log") == 42
    assert seen == [(done, 42) for done in range(1, 43)]
    seen.clear()
    second = opened(index, tmp_path / "cache", progress=lambda done, total: seen.append((done, total)))
    assert reads(tmp_path / "log") == 42
    assert (first.built, second.built, seen) == (True, False, [])
    for split, pixels in everything(first).items():
        assert (pixels == everything(second)[split]).all()


def test_labels_come_from_the_index_and_not_from_the_cache(opened: Opened, tmp_path: Path) -> None:
    index = small_index(tmp_path / "images")
    opened(index, tmp_path / "cache")
    turned = {split: tuple(replace(row, label=2 - row.label) for row in rows) for split, rows in index.splits.items()}
    again = opened(replace(index, splits=turned), tmp_path / "cache")
    assert not again.built
    assert again.rows["train"].labels.tolist() == [row.label for row in turned["train"]]


def test_other_data_geometry_or_limits_never_reuse_an_entry(opened: Opened, tmp_path: Path) -> None:
    index = small_index(tmp_path / "images")
    opened(index, tmp_path / "cache")
    reordered = {**index.splits, "train": tuple(reversed(index.splits["train"]))}
    others = [
        opened(replace(index, revision="2"), tmp_path / "cache"),
        opened(replace(index, source="elsewhere"), tmp_path / "cache"),
        opened(index, tmp_path / "cache", SQUASHED),
        opened(index, tmp_path / "cache", train_side=SIDE + 1),
        opened(index, tmp_path / "cache", max_pixels=MAX_PIXELS - 1),
        opened(replace(index, splits=reordered), tmp_path / "cache"),
    ]
    assert [store.built for store in others] == [True] * len(others)
    assert [store.rows["train"].gather(np.arange(1)).shape[-1] for store in others] == [40, 40, 40, 41, 40, 40]
    assert others[5].rows["train"].names[0] == "train-23.jpeg"


def test_normalisation_and_the_name_of_the_checkpoint_do_not_make_a_new_entry(opened: Opened, tmp_path: Path) -> None:
    index = small_index(tmp_path / "images")
    opened(index, tmp_path / "cache")
    other = replace(PREPROCESS, mean=(0.1, 0.2, 0.3), std=(0.9, 0.9, 0.9), source="another checkpoint")
    assert not opened(index, tmp_path / "cache", other).built


def test_a_view_at_any_geometry_can_be_opened_beside_the_store(opened: Opened, tmp_path: Path) -> None:
    index = small_index(tmp_path / "images")
    opened(index, tmp_path / "cache")
    wanted = [("train", Exact(PREPROCESS)), ("validation", Exact(PREPROCESS)), ("train", Squash(SIDE, 3))]
    views = open_views(index, wanted, options(tmp_path / "cache"))  # pyright: ignore[reportArgumentType]
    assert [view.built for view in views] == [True, False, False]
    image = open_rgb((tmp_path / "images" / "train-4.jpeg").read_bytes(), MAX_PIXELS)
    assert (views[0].rows.gather(np.array([4]))[0] == render(image, PREPROCESS)).all()


def test_rows_travel_to_another_process_and_find_their_file_again(opened: Opened, tmp_path: Path) -> None:
    rows = opened(small_index(tmp_path / "images"), tmp_path / "cache").rows["test"]
    body = pickle.dumps(rows)
    assert len(body) < 5000
    assert (pickle.loads(body).gather(np.arange(9)) == rows.gather(np.arange(9))).all()


# ------------------------------------------------------------------------------------------------------------- bad rows


def spoil(folder: Path, name: str, data: bytes) -> None:
    assert (folder / name).exists()
    (folder / name).write_bytes(data)


def test_bad_rows_are_named_skipped_and_remembered(opened: Opened, tmp_path: Path) -> None:
    index = small_index(tmp_path / "images", log=str(tmp_path / "log"))
    spoil(tmp_path / "images", "train-7.jpeg", b"")
    spoil(tmp_path / "images", "test-2.jpeg", encode(picture(90, 70))[:500])
    (tmp_path / "images" / "validation-0.png").unlink()
    expected = (
        Rejected("train-7.jpeg", "train", "the file is empty (0 bytes)"),
        Rejected("validation-0.png", "validation", "cannot be read: No such file or directory"),
    )
    for attempt in range(2):
        store = opened(index, tmp_path / "cache", max_bad_share=0.08)
        assert store.built == (attempt == 0)
        assert store.rejected[:2] == expected
        assert (store.rejected[2].name, store.rejected[2].reason[:19]) == ("test-2.jpeg", "cannot be decoded: ")
        train = store.rows["train"]
        assert len(train) == 23 and "train-7.jpeg" not in train.names
        assert [train.labels[place] for place in (6, 7)] == [index.splits["train"][slot].label for slot in (6, 8)]
        image = open_rgb((tmp_path / "images" / "train-8.jpeg").read_bytes(), MAX_PIXELS)
        assert (train.gather(np.array([7]))[0] == squash(image, SIDE, 3)).all()
        assert reads(tmp_path / "log") == 42 + attempt  # the second run asks for the one file that was not there


def test_too_many_bad_rows_stop_the_run_with_their_names_and_the_remedy(opened: Opened, tmp_path: Path) -> None:
    index = small_index(tmp_path / "images")
    for number in (1, 2, 4, 5, 7, 8, 10, 11, 13, 14, 16):
        spoil(tmp_path / "images", f"train-{number}.jpeg", b"x")
    with pytest.raises(DataError) as raised:
        opened(index, tmp_path / "cache", max_bad_share=0.25)
    assert raised.value.message.startswith(
        "data.name: at most 25.00% unreadable images were expected (data.max_bad_share), 11 of 42 cannot be used "
        "(11 in train):\n    train-1.jpeg (train): not an image, or of a format that is not read"
    )
    assert raised.value.message.endswith("\n    … and 1 more")
    assert raised.value.hint == "repair or remove them, or set data.max_bad_share to 0.262"
    assert len(opened(index, tmp_path / "cache", max_bad_share=0.262).rejected) == 11


def test_a_class_that_loses_every_training_image_stops_the_run(opened: Opened, tmp_path: Path) -> None:
    rows = write_images(tmp_path / "images", {"train": 30, "validation": 3})
    lonely = Row("only.jpeg", 3, "only.jpeg")
    index = index_of(
        {**rows, "train": (*rows["train"], lonely)},
        FolderReader(str(tmp_path / "images")),
        classes=["a", "b", "c", "n/a"],
    )
    (tmp_path / "images" / "only.jpeg").write_bytes(b"")
    with pytest.raises(
        DataError, match=r"1 of 4 classes have none \('n/a'\):\n    only.jpeg \(train\): the file is empty"
    ):
        opened(index, tmp_path / "cache", max_bad_share=0.5)


def test_a_split_that_loses_every_image_stops_the_run(opened: Opened, tmp_path: Path) -> None:
    index = small_index(tmp_path / "images")
    for row in index.splits["test"]:
        spoil(tmp_path / "images", row.name, b"")
    with pytest.raises(
        DataError, match=r"a readable image in test was expected, all 9 cannot be used:\n    test-0\.png"
    ):
        opened(index, tmp_path / "cache", max_bad_share=0.5)


# ---------------------------------------------------------------------------------------------------------------- trust


def truncate(folder: Path) -> None:
    with (folder / "pixels.u8").open("rb+") as file:
        file.truncate((folder / "pixels.u8").stat().st_size - 1)


def flip(file: Path, place: int) -> None:
    body = bytearray(file.read_bytes())
    body[place] ^= 255
    file.write_bytes(body)


def flip_a_byte(folder: Path) -> None:
    flip(folder / "pixels.u8", 10)


def change_meta(folder: Path) -> None:
    meta = json.loads((folder / "meta.json").read_text())
    (folder / "meta.json").write_text(json.dumps({**meta, "rows": meta["rows"] + 1}))


def swap_tables(folder: Path) -> None:
    np.save(folder / "sizes.npy", np.load(folder / "sizes.npy")[::-1])


DAMAGE = {
    "pixels shorter": truncate,
    "a pixel changed": flip_a_byte,
    "another description": change_meta,
    "sizes of other rows": swap_tables,
    "no pixels": lambda folder: (folder / "pixels.u8").unlink(),
    "meta cut": lambda folder: (folder / "meta.json").write_text('{"format"'),
    "meta of another kind": lambda folder: (folder / "meta.json").write_text("[1, 2]"),
    "meta empty": lambda folder: (folder / "meta.json").write_text(""),
    "tables foreign": lambda folder: (folder / "crc.npy").write_bytes(b"PK\x03\x04 not numpy"),
    "a table's head damaged": lambda folder: flip(folder / "sizes.npy", 20),
    "a reason changed": lambda folder: (folder / "meta.json").write_text(
        (folder / "meta.json").read_text().replace('"rejected": []', '"rejected": [[1, "", false]]')
    ),
    "a folder of someone else": lambda folder: (shutil.rmtree(folder), folder.mkdir(), (folder / "x").touch()),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_or_foreign_entry_is_built_again(opened: Opened, tmp_path: Path, damage: str) -> None:
    rows = write_images(tmp_path / "images", {"train": 5})
    index = index_of(rows, FolderReader(str(tmp_path / "images")))
    before = everything(opened(index, tmp_path / "cache"))
    (folder,) = entry_folders(tmp_path / "cache")
    DAMAGE[damage](folder)
    again = opened(index, tmp_path / "cache")
    assert again.built and again.on_disk
    assert (everything(again)["train"] == before["train"]).all()
    assert not opened(index, tmp_path / "cache").built


ROWS, PLACE = 60, 21  # of 60 rows 16 are looked at as the entry is opened, 21 not among them


def test_a_damaged_row_is_drawn_again_when_it_is_read(
    opened: Opened, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    index = index_of(write_images(tmp_path / "images", {"train": ROWS}), FolderReader(str(tmp_path / "images")))
    before = everything(opened(index, tmp_path / "cache"))["train"]
    (folder,) = entry_folders(tmp_path / "cache")
    flip(folder / "pixels.u8", PLACE * 3 * SIDE * SIDE + 5)
    again = opened(index, tmp_path / "cache")
    assert not again.built
    assert (everything(again)["train"] == before).all()
    name = index.splits["train"][PLACE].name
    assert f"the image store holds {name} damaged; it is drawn again" in caplog.text
    caplog.clear()
    assert (everything(opened(index, tmp_path / "cache"))["train"] == before).all()
    assert not caplog.records  # the file was put right


def test_a_damaged_row_whose_image_is_another_now_is_refused(opened: Opened, tmp_path: Path) -> None:
    index = index_of(write_images(tmp_path / "images", {"train": ROWS}), FolderReader(str(tmp_path / "images")))
    opened(index, tmp_path / "cache")
    (folder,) = entry_folders(tmp_path / "cache")
    flip(folder / "pixels.u8", PLACE * 3 * SIDE * SIDE + 5)
    name = index.splits["train"][PLACE].name
    spoil(tmp_path / "images", name, encode(picture(90, 70, seed=999)))
    rows = opened(index, tmp_path / "cache").rows["train"]
    rows.gather(np.array([0, PLACE - 1]))
    with pytest.raises(DataError, match=rf"holds {name} damaged, and the image is not what it was") as raised:
        rows.gather(np.array([PLACE]))
    assert "--no-cache" in str(raised.value.hint)


def test_an_image_that_could_not_be_opened_for_a_moment_is_there_in_the_next_run(
    opened: Opened, tmp_path: Path
) -> None:
    index = index_of(write_images(tmp_path / "images", {"train": 20}), FolderReader(str(tmp_path / "images")))
    name = index.splits["train"][7].name
    (tmp_path / "images" / name).rename(tmp_path / "away")
    spoil(tmp_path / "images", index.splits["train"][8].name, b"")
    first = opened(index, tmp_path / "cache", max_bad_share=0.2)
    assert [row.name for row in first.rejected] == [name, index.splits["train"][8].name]
    (tmp_path / "away").rename(tmp_path / "images" / name)
    for _ in range(2):
        again = opened(index, tmp_path / "cache", max_bad_share=0.2)
        assert not again.built
        assert [row.name for row in again.rejected] == [index.splits["train"][8].name]  # it was opened, and is empty
        image = open_rgb((tmp_path / "images" / name).read_bytes(), MAX_PIXELS)
        assert (again.rows["train"].gather(np.array([7]))[0] == squash(image, SIDE, 3)).all()
        assert tuple(again.rows["train"].sizes[7]) == image.size


def test_an_empty_split_is_no_error(opened: Opened, tmp_path: Path) -> None:
    rows = write_images(tmp_path / "images", {"train": 5})
    store = opened(index_of({**rows, "test": ()}, FolderReader(str(tmp_path / "images"))), tmp_path / "cache")
    assert len(store.rows["test"]) == 0
    assert store.rows["test"].gather(np.arange(0)).shape == (0, 3, 32, 32)


@pytest.mark.real
def test_real_photos_are_stored_exactly_as_they_render(opened: Opened, shared_data: Path, tmp_path: Path) -> None:
    root = shared_data / "datasets" / "hymenoptera"
    files = sorted(path for path in (root / "val").glob("*/*") if path.is_file())
    names = sorted({path.parent.name for path in files})
    rows = tuple(Row(str(path.relative_to(root)), names.index(path.parent.name), str(path)) for path in files)
    index = index_of({"test": rows}, FolderReader("/"), classes=names)
    store = opened(index, tmp_path / "cache", workers=2)
    assert len(store.rows["test"]) == 153
    for place, path in enumerate(files):
        expected = render(open_rgb(path.read_bytes(), MAX_PIXELS), PREPROCESS)
        assert (store.rows["test"].gather(np.array([place]))[0] == expected).all(), path.name
