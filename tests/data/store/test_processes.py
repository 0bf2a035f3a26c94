"""Workers and builders that are killed, interrupted, started together or early: real processes, real signals."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
import pytest

from hf_finetune.data.store.decode import Decoded, Failed, Job, Task
from hf_finetune.data.store.pool import WorkerPool
from hf_finetune.data.store.views import Check, Squash
from hf_finetune.errors import DataError, MachineError
from hf_finetune.types import Row
from tests.data.store.samples import (
    MAX_PIXELS,
    SIDE,
    DeadlyReader,
    DeadlyToLoadReader,
    FolderReader,
    HeldReader,
    UnloadableReader,
    entry_folders,
    index_of,
    opened,
    small_index,
    write_images,
)

pytestmark = pytest.mark.e2e

REPO = Path(__file__).resolve().parents[3]
BUILDER = """
import signal
import sys
from pathlib import Path
from tests.data.store.samples import everything, index_of, FolderReader, opened, write_images
images, cache, log, delay, count = sys.argv[1:]
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell that runs tests in the background has it ignored
rows = write_images(Path(images), {"train": int(count)})
index = index_of(rows, FolderReader(images, log=log, delay_s=float(delay)))
print("ready", flush=True)
store = opened(index, Path(cache), workers=2)
print(store.built, store.on_disk, int(everything(store)["train"].sum()), flush=True)
"""


Workers = Callable[[], list[psutil.Process]]


@pytest.fixture
def workers() -> Workers:
    """This process's children, without those that other tests of the same process have left."""
    before = {child.pid for child in psutil.Process().children()}
    return lambda: [child for child in psutil.Process().children() if child.pid not in before]


@contextlib.contextmanager
def builder(folder: Path, delay_s: float, count: int = 40) -> Iterator[subprocess.Popen[str]]:
    """A process that builds a store of so many images from `folder` into its cache."""
    arguments = [str(folder / "images"), str(folder / "cache"), str(folder / "log"), str(delay_s), str(count)]
    environment = {**os.environ, "PYTHONPATH": str(REPO)}
    with subprocess.Popen(
        [sys.executable, "-c", BUILDER, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=REPO,
        env=environment,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def wait_for(condition: object, seconds: float = 30.0) -> None:
    assert callable(condition)
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.01)


def reads(folder: Path) -> int:
    return (folder / "log").stat().st_size if (folder / "log").exists() else 0


def tasks_of(rows: Sequence[Row]) -> list[Task]:
    return [Task(slot, row.locator) for slot, row in enumerate(rows)]


def litter(folder: Path) -> list[Path]:
    return [path for end in ("*.tmp-*", "*.part") for path in (folder / "cache" / "store").glob(end)]


def noted(folder: Path) -> int:
    """Rows of which a build that has not finished says what became of them."""
    (journal,) = (folder / "cache" / "store").glob("*.part/rows.jsonl")
    lines = [json.loads(line) for line in journal.read_text().splitlines() if line]
    return len({row[0] for line in lines for row in (*line["decoded"], *line["failed"])})


def test_a_build_that_is_killed_goes_on_and_ends_as_if_it_had_not_been(tmp_path: Path) -> None:
    count = 700
    with builder(tmp_path, 0.004, count) as process:
        wait_for(lambda: reads(tmp_path) > 400)
        children = psutil.Process(process.pid).children()
        assert len(children) == 2
        process.kill()
        process.wait()
    # The workers see their pipe close and end by themselves.
    assert psutil.wait_procs(children, timeout=10)[1] == []
    before, known = reads(tmp_path), noted(tmp_path)
    assert before < count and before - 256 - 2 * 32 <= known <= before  # a line, and what the workers have in hand
    assert len(litter(tmp_path)) == 1
    with builder(tmp_path, 0.0, count) as process:
        again, _ = process.communicate(timeout=60)
    assert again.startswith("ready\nTrue True ")
    assert reads(tmp_path) - before == count - known  # nothing is decoded again that was written down
    assert litter(tmp_path) == []
    rows = write_images(tmp_path / "images", {"train": count})
    opened(index_of(rows, FolderReader(str(tmp_path / "images"))), tmp_path / "fresh")
    (one,), (other,) = entry_folders(tmp_path / "cache"), entry_folders(tmp_path / "fresh")
    assert sorted(path.name for path in one.iterdir()) == sorted(path.name for path in other.iterdir())
    for name in ("pixels.u8", "sizes.npy", "crc.npy"):
        assert (one / name).read_bytes() == (other / name).read_bytes()


def test_a_process_that_waits_goes_on_where_the_builder_was_killed(tmp_path: Path) -> None:
    count = 700
    with builder(tmp_path, 0.01, count) as one, builder(tmp_path, 0.01, count) as other:
        wait_for(lambda: reads(tmp_path) > 350)
        building, waiting = (one, other) if psutil.Process(one.pid).children() else (other, one)
        children = psutil.Process(building.pid).children()
        building.kill()
        building.wait()
        said, _ = waiting.communicate(timeout=90)
    assert psutil.wait_procs(children, timeout=10)[1] == []
    assert said.startswith("ready\nTrue True ")
    assert count <= reads(tmp_path) <= count + 256 + 2 * 32  # a line, and what the workers had in hand
    assert litter(tmp_path) == []


def test_ctrl_c_ends_the_workers_and_keeps_what_is_decoded(tmp_path: Path) -> None:
    with builder(tmp_path, 0.05) as process:
        wait_for(lambda: reads(tmp_path) > 5)
        children = psutil.Process(process.pid).children()
        for each in (*children, psutil.Process(process.pid)):  # a terminal interrupts the whole group
            each.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=20)
    assert errors.strip().endswith("KeyboardInterrupt")
    assert len(children) == 2 and not any(child.is_running() for child in children)
    assert entry_folders(tmp_path / "cache") == [] and len(litter(tmp_path)) == 1
    before, known = reads(tmp_path), noted(tmp_path)
    assert 0 < known < 40
    with builder(tmp_path, 0.0) as process:
        assert process.communicate(timeout=60)[0].startswith("ready\nTrue True ")
    assert reads(tmp_path) - before == 40 - known
    assert litter(tmp_path) == []


def test_two_processes_at_once_build_one_store(tmp_path: Path) -> None:
    write_images(tmp_path / "images", {"train": 40})
    with builder(tmp_path, 0.02) as one, builder(tmp_path, 0.02) as other:
        said = sorted(process.communicate(timeout=90)[0].split()[1:] for process in (one, other))
    assert [words[:2] for words in said] == [["False", "True"], ["True", "True"]]
    assert said[0][2] == said[1][2]
    assert reads(tmp_path) == 40


def test_litter_of_another_store_is_swept_unless_its_builder_still_runs(tmp_path: Path) -> None:
    index = small_index(tmp_path / "images")
    opened(index, tmp_path / "cache")
    root = tmp_path / "cache" / "store"
    dead, alive = root / "0123.tmp-1-aa", root / "4567.tmp-1-bb"
    dead.mkdir()
    alive.mkdir()
    from filelock import FileLock

    with FileLock(root / "4567.lock"):
        opened(replace(index, revision="2"), tmp_path / "cache")
    assert not dead.exists() and alive.exists()


def test_entries_that_no_run_used_for_a_month_are_deleted(tmp_path: Path) -> None:
    index = small_index(tmp_path / "images")
    opened(index, tmp_path / "cache")
    old, recent = entry_folders(tmp_path / "cache")[:2]
    for folder, days in ((old, 31), (recent, 29)):
        used = time.time() - days * 86400
        os.utime(folder / "meta.json", (used, used))
    opened(replace(index, revision="2"), tmp_path / "cache")
    assert not old.exists() and recent.exists()


# -------------------------------------------------------------------------------------------------------------- workers


def test_a_row_that_kills_its_worker_twice_is_named_and_the_others_are_kept(tmp_path: Path) -> None:
    rows = write_images(tmp_path, {"train": 24, "validation": 6})
    index = index_of(rows, DeadlyReader(str(tmp_path), always=("train-7.jpeg",), once=("train-11.jpeg",)))
    store = opened(index, tmp_path / "cache", workers=2, max_bad_share=0.1)
    (bad,) = store.rejected
    assert (bad.name, bad.reason) == ("train-7.jpeg", "decoding it ended 2 worker processes (signal 9)")
    expected = opened(index_of(rows, FolderReader(str(tmp_path)), revision="2"), tmp_path / "cache")
    keep = np.array([slot for slot in range(24) if slot != 7])
    assert (store.rows["train"].gather(np.arange(23)) == expected.rows["train"].gather(keep)).all()


def test_workers_that_keep_dying_stop_the_run(tmp_path: Path) -> None:
    rows = write_images(tmp_path, {"train": 24})
    index = index_of(rows, DeadlyReader(str(tmp_path), always=tuple(row.name for row in rows["train"])))
    with pytest.raises(MachineError, match="10 processes died while decoding, the last with signal 9") as raised:
        opened(index, tmp_path / "cache", workers=2, max_bad_share=0.99)
    assert "lower train.decode_workers" in raised.value.hint
    assert not litter(tmp_path)


def test_a_worker_that_is_killed_from_outside_is_replaced(tmp_path: Path, workers: Workers) -> None:
    rows = write_images(tmp_path / "images", {"train": 60})
    mark = tmp_path / "mark"
    reader = HeldReader(str(tmp_path / "images"), rows["train"][20].name, str(mark))
    with WorkerPool(2) as pool:
        results = pool.run(Job(reader, Check(), MAX_PIXELS, None), tasks_of(rows["train"]))
        seen = [next(results)]
        wait_for(mark.exists)  # a worker is at that row and stays there, so that it is killed at its work
        os.kill(int(mark.read_text()), signal.SIGKILL)
        seen += results
        assert sorted(result.slot for result in seen if isinstance(result, Decoded)) == list(range(60))
        assert len(workers()) == 2
    assert workers() == []


def test_a_worker_that_is_killed_before_its_first_row_is_replaced_and_no_row_is_blamed(
    tmp_path: Path, workers: Workers
) -> None:
    rows = write_images(tmp_path / "images", {"train": 60})
    # The worker that comes after kills itself at the first row: one more death would make that row a bad one.
    reader = DeadlyReader(str(tmp_path / "images"), once=(rows["train"][0].name,))
    with WorkerPool(1) as pool:
        pool.start()
        (first,) = workers()
        first.kill()
        results = list(pool.run(Job(reader, Check(), MAX_PIXELS, None), tasks_of(rows["train"])))
        assert sorted(result.slot for result in results if isinstance(result, Decoded)) == list(range(60))
        assert first.pid not in {worker.pid for worker in workers()} and len(workers()) == 1
        # Between two rounds the same holds: the job of the next one was not loaded yet.
        workers()[0].kill()
        again = list(pool.run(Job(reader, Check(), MAX_PIXELS, None), tasks_of(rows["train"])))
        assert sorted(result.slot for result in again if isinstance(result, Decoded)) == list(range(60))
    assert workers() == []


def test_workers_that_are_killed_at_every_start_stop_the_run(tmp_path: Path, workers: Workers) -> None:
    log = tmp_path / "log"
    index = index_of(write_images(tmp_path / "images", {"train": 6}), DeadlyToLoadReader(os.getpid(), str(log)))
    with pytest.raises(MachineError, match="was expected to start, it ended with signal 9") as raised:
        opened(index, tmp_path / "cache")
    assert raised.value.hint == "memory is the usual cause: lower train.decode_workers"
    assert log.stat().st_size == 3
    assert workers() == [] and not litter(tmp_path)


def test_a_reader_that_workers_cannot_load_is_said_at_once(tmp_path: Path) -> None:
    index = index_of(write_images(tmp_path, {"train": 6}), UnloadableReader(os.getpid()))
    with pytest.raises(MachineError, match="it ended with exit code 1: AttributeError: no such class here") as raised:
        opened(index, tmp_path / "cache")
    assert raised.value.hint == "data in memory must be of classes that another process can import"


def test_a_missing_file_is_a_bad_row_and_not_a_death(tmp_path: Path) -> None:
    with WorkerPool(1) as pool:
        (result,) = pool.run(Job(FolderReader(str(tmp_path)), Check(), MAX_PIXELS, None), [Task(3, "no.jpeg")])
    assert result == Failed(3, "cannot be read: No such file or directory", passing=True)


def test_workers_can_start_early_serve_many_rounds_and_outlive_an_unfinished_one(
    tmp_path: Path, workers: Workers
) -> None:
    rows = write_images(tmp_path / "images", {"train": 30})["train"]
    job = Job(FolderReader(str(tmp_path / "images")), Check(), MAX_PIXELS, None)
    tasks = [Task(slot, row.locator) for slot, row in enumerate(rows)]
    with WorkerPool(2) as pool:
        pool.start()
        started = {child.pid for child in workers()}
        assert len(started) == 2
        for _ in range(2):
            assert len(list(pool.run(job, tasks))) == 30
        assert {child.pid for child in workers()} == started
        unfinished = pool.run(job, tasks)
        next(unfinished)
        unfinished.close()
        assert workers() == []
        assert len(list(pool.run(job, tasks))) == 30
        index = index_of({"train": rows}, FolderReader(str(tmp_path / "images")))
        assert opened(index, tmp_path / "cache", pool=pool).built
    assert workers() == []
    with pytest.raises(MachineError, match="an open pool was expected, this one was closed"):
        next(pool.run(job, tasks))


def test_no_process_is_left_when_too_many_rows_are_bad(tmp_path: Path, workers: Workers) -> None:
    index = small_index(tmp_path / "images")
    (tmp_path / "images" / "train-1.jpeg").write_bytes(b"")
    with pytest.raises(DataError):
        opened(index, tmp_path / "cache", workers=2)
    assert workers() == []


def test_a_worker_imports_no_heavy_library_and_nothing_from_the_working_folder(
    tmp_path: Path, workers: Workers
) -> None:
    (tmp_path / "numpy.py").write_text("raise RuntimeError('the wrong numpy')")
    before = Path.cwd()
    os.chdir(tmp_path)
    try:
        with WorkerPool(1) as pool:
            rows = write_images(tmp_path / "images", {"train": 2})["train"]
            job = Job(FolderReader(str(tmp_path / "images")), Squash(SIDE, 3), MAX_PIXELS, None)
            assert len(list(pool.run(job, [Task(slot, row.locator) for slot, row in enumerate(rows)]))) == 2
            (child,) = workers()
            mapped = {Path(region.path).name for region in child.memory_maps()}
            assert not any(name.startswith(("libtorch", "libarrow")) for name in mapped)
            assert child.memory_info().rss < 150_000_000
    finally:
        os.chdir(before)
