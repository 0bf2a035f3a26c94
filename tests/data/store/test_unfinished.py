"""A build that was ended: what of it is gone on with, what is never trusted, and how long it waits."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from filelock import FileLock

from hf_finetune.data.store.expiry import clear, make_room, unfinished
from hf_finetune.types import Index
from tests.data.store.conftest import Opened
from tests.data.store.samples import SIDE, FolderReader, entry_folders, everything, index_of, write_images

pytestmark = pytest.mark.e2e

ROWS, ENDED = 60, 33
ROW_BYTES = 3 * SIDE * SIDE


@pytest.fixture
def index(tmp_path: Path) -> Index:
    rows = write_images(tmp_path / "images", {"train": ROWS})
    return index_of(rows, FolderReader(str(tmp_path / "images"), log=str(tmp_path / "log")))


def end(opened: Opened, index: Index, cache: Path, at: int = ENDED, built: int = 0) -> Path:
    """Begins a build and ends it, as Ctrl-C does, after `at` rows; gives the folder that is left."""

    def stop(done: int, total: int) -> None:
        if done == at and total == ROWS:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        opened(index, cache, progress=stop)
    assert len(entry_folders(cache)) == built
    ((folder, _, _),) = unfinished(cache / "store")
    return folder


def reads(folder: Path) -> int:
    return (folder / "log").stat().st_size if (folder / "log").exists() else 0


def flip(file: Path, place: int) -> None:
    with file.open("rb+") as opened:
        opened.seek(place)
        old = opened.read(1)
        opened.seek(place)
        opened.write(bytes([old[0] ^ 255]))


def first_decoded(folder: Path) -> int:
    """The place in the file of pixels of a row that the journal names."""
    line = (folder / "rows.jsonl").read_text().split("[[", 1)[1]
    return int(line.split(",", 1)[0]) * ROW_BYTES


# What happens to what is left, and how many of the rows in it are decoded again then.
HARM: dict[str, tuple[Callable[[Path], object], int]] = {
    "nothing": (lambda _: None, 0),
    "a row's pixels changed": (lambda folder: flip(folder / "pixels.u8", first_decoded(folder)), 1),
    "the last line torn": (lambda folder: os.truncate(folder / "rows.jsonl", 300), ENDED),
    "a number in the journal changed": (
        lambda folder: (folder / "rows.jsonl").write_text((folder / "rows.jsonl").read_text().replace("[[", "[[9", 1)),
        ENDED,
    ),
    "a journal of other things": (lambda folder: (folder / "rows.jsonl").write_bytes(b"[1]\n\xff\n{}\nnull\n"), ENDED),
    "no journal": (lambda folder: (folder / "rows.jsonl").unlink(), ENDED),
    "pixels shorter": (lambda folder: os.truncate(folder / "pixels.u8", ROW_BYTES), ENDED),
    "no pixels": (lambda folder: (folder / "pixels.u8").unlink(), ENDED),
}


@pytest.mark.parametrize("harm", HARM)
def test_what_is_left_is_gone_on_with_as_far_as_it_is_whole(
    opened: Opened, tmp_path: Path, index: Index, harm: str
) -> None:
    folder = end(opened, index, tmp_path / "cache")
    spoil, again = HARM[harm]
    spoil(folder)
    before = reads(tmp_path)
    seen: list[tuple[int, int]] = []
    store = opened(index, tmp_path / "cache", progress=lambda done, total: seen.append((done, total)))
    assert store.built and store.on_disk
    assert reads(tmp_path) - before == ROWS - ENDED + again
    assert seen[-1] == (ROWS, ROWS) and len(seen) == ROWS - ENDED + again + (again < ENDED)
    assert not folder.exists()
    fresh = opened(replace(index, revision="2"), tmp_path / "fresh")
    assert (everything(store)["train"] == everything(fresh)["train"]).all()
    assert (store.rows["train"].sizes == fresh.rows["train"].sizes).all()
    assert not opened(index, tmp_path / "cache").built


def test_it_may_be_ended_again_and_again(opened: Opened, tmp_path: Path, index: Index) -> None:
    for at in (10, 25, 50):
        end(opened, index, tmp_path / "cache", at)
    before = reads(tmp_path)
    store = opened(index, tmp_path / "cache")
    assert reads(tmp_path) - before == ROWS - 50
    fresh = opened(index, tmp_path / "fresh")
    assert (everything(store)["train"] == everything(fresh)["train"]).all()


def test_bad_rows_are_remembered_and_what_could_not_be_opened_is_tried_again(
    opened: Opened, tmp_path: Path, index: Index
) -> None:
    empty, away = (index.splits["train"][slot].name for slot in (2, 4))
    (tmp_path / "images" / empty).write_bytes(b"")
    (tmp_path / "images" / away).rename(tmp_path / "away")
    end(opened, index, tmp_path / "cache")
    (tmp_path / "away").rename(tmp_path / "images" / away)
    before = reads(tmp_path)
    store = opened(index, tmp_path / "cache", max_bad_share=0.1)
    assert reads(tmp_path) - before == ROWS - ENDED + 1
    assert [row.name for row in store.rejected] == [empty]
    assert away in store.rows["train"].names


def test_other_images_do_not_go_on_with_it(opened: Opened, tmp_path: Path, index: Index) -> None:
    folder = end(opened, index, tmp_path / "cache")
    before = reads(tmp_path)
    assert opened(replace(index, revision="2"), tmp_path / "cache").built
    assert reads(tmp_path) - before == ROWS and folder.exists()


def test_it_waits_for_a_week_and_goes_first_where_room_is_needed(opened: Opened, tmp_path: Path, index: Index) -> None:
    root = tmp_path / "cache" / "store"
    folder = end(opened, index, tmp_path / "cache")
    for days, there in ((6, True), (8, False)):
        used = time.time() - days * 86400
        os.utime(folder / "rows.jsonl", (used, used))
        opened(replace(index, revision=f"after {days}"), tmp_path / "cache")
        assert folder.exists() == there
    folder = end(opened, replace(index, revision="2"), tmp_path / "cache", built=2)
    free = os.statvfs(root)
    everything_free = free.f_bavail * free.f_frsize
    make_room(root, 2 * everything_free, set())  # that much cannot be had, so that nothing is deleted in vain
    assert folder.exists()


@pytest.mark.skipif(not Path("/dev/shm").is_dir(), reason="needs a disk that others leave alone")
def test_it_goes_where_room_is_needed(opened: Opened, index: Index) -> None:
    with tempfile.TemporaryDirectory(dir="/dev/shm") as place:
        folder = end(opened, index, Path(place))
        (folder / "more").write_bytes(bytes(64_000_000))
        root = Path(place) / "store"
        key = folder.name.removesuffix(".part")
        needed = shutil.disk_usage(root).free + 32_000_000
        make_room(root, needed, {key})
        assert folder.exists()
        with FileLock(root / f"{key}.lock"):
            make_room(root, needed, set())
        assert folder.exists()
        make_room(root, needed, set())
        assert not folder.exists()


def test_it_is_cleared_unless_a_run_is_at_it(opened: Opened, tmp_path: Path, index: Index) -> None:
    root = tmp_path / "cache" / "store"
    folder = end(opened, index, tmp_path / "cache")
    with FileLock(root / f"{folder.name.removesuffix('.part')}.lock"):
        assert clear(root) == (0, 0) and folder.exists()
    freed, left = clear(root)
    assert freed >= ROWS * ROW_BYTES and left == 0 and not folder.exists()


def test_nothing_is_left_of_a_build_that_had_not_begun(opened: Opened, tmp_path: Path, index: Index) -> None:
    lost = replace(index, reader=_Nowhere())
    assert len(np.unique([row.name for row in lost.splits["train"]])) == ROWS
    with pytest.raises(RuntimeError, match="no reader at all"):
        opened(lost, tmp_path / "cache")
    assert unfinished(tmp_path / "cache" / "store") == []


class _Nowhere:
    """Cannot travel to a worker process."""

    def __reduce__(self) -> str:
        raise RuntimeError("no reader at all")

    def read(self, locator: str | int) -> bytes:
        raise OSError(f"nothing at {locator}")
