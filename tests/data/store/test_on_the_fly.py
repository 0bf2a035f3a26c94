"""What a dataset too large for its disk gets, and a cache that cannot be written: the same pixels, and the reason."""

from __future__ import annotations

import errno
import json
import os
import pickle
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from hf_finetune.data.store.decode import CannotWrite, Job, Task, decode
from hf_finetune.data.store.on_the_fly import OnTheFlyRows
from hf_finetune.data.store.pool import WorkerPool
from hf_finetune.data.store.stored_rows import StoredRows
from hf_finetune.data.store.views import Squash
from hf_finetune.errors import DataError, MachineError
from hf_finetune.preprocess.describe import read_preprocess
from tests.data.store.conftest import Opened
from tests.data.store.samples import (
    SIDE,
    FolderReader,
    encode,
    entry_folders,
    everything,
    picture,
    small_index,
    write_images,
)

pytestmark = pytest.mark.e2e

TRAIN_BYTES = 24 * 3 * SIDE * SIDE
EVALUATION_BYTES = 9 * 3 * 32 * 32


@pytest.mark.parametrize("workers", [1, 3])
def test_beyond_the_limit_images_are_decoded_on_the_fly_with_equal_pixels(
    opened: Opened, tmp_path: Path, workers: int
) -> None:
    index = small_index(tmp_path / "images")
    stored = everything(opened(index, tmp_path / "cache"))
    store = opened(index, tmp_path / "other", limit_bytes=EVALUATION_BYTES, workers=workers)
    assert {split: type(rows) for split, rows in store.rows.items()} == {
        "train": OnTheFlyRows,
        "validation": StoredRows,
        "test": OnTheFlyRows,
    }
    assert not store.on_disk
    assert tuple(map(str, store.notes)) == (
        "train: images are decoded anew each time, since the store would take 115 kB and data.store_limit leaves "
        "27.6 kB; set data.store_limit higher or data.cache_dir to a larger disk",
        "test: images are decoded anew each time, since the store would take 27.6 kB and data.store_limit leaves 0 B; "
        "set data.store_limit higher or data.cache_dir to a larger disk",
    )
    for split, pixels in stored.items():
        rows = store.rows[split]  # pyright: ignore[reportArgumentType]
        assert (rows.gather(np.arange(len(rows))) == pixels).all()
        assert (pickle.loads(pickle.dumps(rows)).gather(np.array([2, 0])) == pixels[[2, 0]]).all()


def test_a_limit_that_fits_exactly_is_kept(opened: Opened, tmp_path: Path) -> None:
    index = small_index(tmp_path / "images")
    total = TRAIN_BYTES + 2 * EVALUATION_BYTES
    assert opened(index, tmp_path / "cache", limit_bytes=total).on_disk
    assert opened(index, tmp_path / "cache", limit_bytes=total).on_disk
    assert not opened(index, tmp_path / "other", limit_bytes=total - 1).on_disk


def test_bad_rows_are_known_before_the_first_batch_also_on_the_fly(opened: Opened, tmp_path: Path) -> None:
    index = small_index(tmp_path / "images", log=str(tmp_path / "log"))
    (tmp_path / "images" / "train-4.jpeg").write_bytes(encode(picture(200, 150))[:-300])
    (tmp_path / "images" / "test-8.jpeg").write_bytes(b"")
    for attempt in range(2):
        store = opened(index, tmp_path / "cache", limit_bytes=0, max_bad_share=0.1)
        assert [row.name for row in store.rejected] == ["train-4.jpeg", "test-8.jpeg"]
        assert len(store.rows["train"]) == 23 and "train-4.jpeg" not in store.rows["train"].names
        # The second opening takes the outcome of the check from the cache.
        assert (tmp_path / "log").stat().st_size == 42, attempt


def test_a_row_that_fails_later_is_named_and_never_replaced(opened: Opened, tmp_path: Path) -> None:
    index = small_index(tmp_path / "images")
    rows = opened(index, tmp_path / "cache", limit_bytes=0, workers=2).rows["train"]
    (tmp_path / "images" / "train-5.jpeg").unlink()
    assert rows.gather(np.array([4, 6])).any()
    message = r"train-5.jpeg \(train\) was readable when the run began, and is not now: No such file or directory"
    with pytest.raises(DataError, match=message):
        rows.gather(np.array([4, 5, 6]))


def test_without_a_limit_half_of_the_free_disk_is_the_limit(opened: Opened, tmp_path: Path) -> None:
    index = small_index(tmp_path / "images")
    opened(index, tmp_path / "cache")
    before = entry_folders(tmp_path / "cache")
    for folder in before:
        os.utime(folder / "meta.json", (0, time.time() - 5 * 86400))
    store = opened(index, tmp_path / "cache", train_side=10**6)
    assert not store.on_disk and len(store.rows["train"]) == 24
    assert "would take 72 TB and half of the " in str(store.notes[0])
    # Nothing is deleted in vain.
    assert set(before) < set(entry_folders(tmp_path / "cache"))


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_write_that_finds_the_disk_full_is_not_the_rows_fault(tmp_path: Path) -> None:
    rows = write_images(tmp_path, {"train": 3})["train"]
    tasks = [Task(slot, row.locator) for slot, row in enumerate(rows)]
    job = Job(FolderReader(str(tmp_path)), Squash(SIDE, 3), 10**6, Path("/dev/full"))
    assert list(decode(job, tasks)) == [CannotWrite(errno.ENOSPC, "No space left on device")]
    with WorkerPool(2) as pool, pytest.raises(OSError, match="No space left on device"):
        for result in pool.run(job, tasks):
            assert isinstance(result, CannotWrite)
            raise OSError(result.number, result.reason)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_cache_without_permission_falls_back_and_says_so(
    opened: Opened, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o500)
    monkeypatch.setenv("HF_FINETUNE_CACHE", str(closed))
    store = opened(small_index(tmp_path / "images"), None)
    assert not store.on_disk and "the store cannot be written to" in str(store.notes[0])


def test_a_cache_that_cannot_be_a_folder_falls_back_by_default_and_is_an_error_when_it_was_asked_for(
    opened: Opened, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    index = small_index(tmp_path / "images")
    expected = everything(opened(index, tmp_path / "cache"))
    (tmp_path / "file").touch()
    monkeypatch.setenv("HF_FINETUNE_CACHE", str(tmp_path / "file"))
    store = opened(index, None)
    assert not store.on_disk
    assert f"the store cannot be written to: {tmp_path / 'file' / 'store'} (Not a directory)" in str(store.notes[0])
    assert all((pixels == expected[split]).all() for split, pixels in everything(store).items())
    with pytest.raises(MachineError, match=r"data\.cache_dir: a folder that can be written was expected"):
        opened(index, tmp_path / "file")


def test_a_disk_that_fills_while_the_store_is_written_leaves_nothing_behind(opened: Opened, tmp_path: Path) -> None:
    index = small_index(tmp_path / "images")
    expected = everything(opened(index, tmp_path / "cache"))
    # The kernel refuses to grow any file of this process beyond this size, as a full disk or a quota does.
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (TRAIN_BYTES - 1000, before[1]))
    try:
        store = opened(index, tmp_path / "full")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert not store.on_disk
    assert "the store cannot be written to" in str(store.notes[0]) and "File too large" in str(store.notes[0])
    assert all((pixels == expected[split]).all() for split, pixels in everything(store).items())
    assert not [path for path in (tmp_path / "full" / "store").iterdir() if path.is_dir()]
    assert entry_folders(tmp_path / "full") == []


def test_rows_of_a_processor_without_steps_are_prepared_by_it(opened: Opened, tmp_path: Path) -> None:
    model = tmp_path / "perceiver"
    model.mkdir()
    config = {"image_processor_type": "PerceiverImageProcessor", "size": 28, "crop_size": 32}
    (model / "preprocessor_config.json").write_text(json.dumps(config))
    preprocess = read_preprocess(str(model), None)
    assert preprocess.steps is None and preprocess.height == 28
    index = small_index(tmp_path / "images")
    index = replace(index, splits={"train": index.splits["train"], "test": index.splits["test"]})
    store = opened(index, tmp_path / "cache", preprocess, processor=(str(model), None))
    assert tuple(map(str, store.notes)) == (
        "test: prepared one by one by the stock processor, whose rule cannot be written in steps (slower, once)",
    )
    from transformers import AutoImageProcessor

    from hf_finetune.preprocess.pixels import open_rgb

    processor = AutoImageProcessor.from_pretrained(model, backend="pil")
    for place, row in enumerate(index.splits["test"]):
        image = open_rgb((tmp_path / "images" / row.name).read_bytes(), 10**8)
        wanted = np.asarray(processor(image, do_rescale=False, do_normalize=False)["pixel_values"][0])
        assert (store.rows["test"].gather(np.array([place]))[0] == wanted).all()
    assert not opened(index, tmp_path / "cache", preprocess, processor=(str(model), None)).built
    unstored = opened(index, tmp_path / "other", preprocess, processor=(str(model), None), limit_bytes=0)
    assert (unstored.rows["test"].gather(np.arange(9)) == store.rows["test"].gather(np.arange(9))).all()
