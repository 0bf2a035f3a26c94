"""Small images, readers and indexes that the store's tests share. Light: worker processes import it for the readers."""

from __future__ import annotations

import io
import os
import signal
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from hf_finetune.data.store.open_views import Options
from hf_finetune.data.store.store import Store, open_store
from hf_finetune.labels import Labels
from hf_finetune.types import CenterCrop, Index, Preprocess, Reader, Resize, ResizeShortest, Row, Split

MAX_PIXELS = 50_000_000
SIDE = 40
PREPROCESS = Preprocess(
    steps=(ResizeShortest(36, 3), CenterCrop(32, 32, "half_even")),
    height=32,
    width=32,
    mean=(0.5, 0.5, 0.5),
    std=(0.5, 0.5, 0.5),
    scale=1 / 255,
    offset=0.0,
    bgr=False,
    resample=3,
    source="a test",
)
SQUASHED = Preprocess(
    steps=(Resize(30, 34, 2),),
    height=30,
    width=34,
    mean=(0.485, 0.456, 0.406),
    std=(0.229, 0.224, 0.225),
    scale=1 / 255,
    offset=0.0,
    bgr=False,
    resample=2,
    source="another test",
)


def picture(width: int, height: int, seed: int = 0) -> Image.Image:
    """Smooth colours with some noise, so that JPEG and resampling have something to do."""
    random = np.random.default_rng(seed)
    coarse = Image.fromarray(random.integers(0, 256, (4, 5, 3), dtype=np.uint8)).resize((width, height), 3)
    noise = random.integers(-12, 13, (height, width, 3))
    return Image.fromarray(np.clip(np.asarray(coarse).astype(int) + noise, 0, 255).astype(np.uint8))


def encode(image: Image.Image, kind: str = "JPEG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


@dataclass(frozen=True)
class FolderReader:
    """Reads files of one folder. `log`: a file that gets a byte for each read, whatever process reads."""

    folder: str
    log: str | None = None
    delay_s: float = 0.0

    def read(self, locator: str | int) -> bytes:
        if self.log is not None:
            with Path(self.log).open("ab") as file:
                file.write(b".")
        time.sleep(self.delay_s)
        return (Path(self.folder) / str(locator)).read_bytes()


@dataclass(frozen=True)
class DeadlyReader:
    """Kills its own process at the rows named in `always`, and the first time at those named in `once`."""

    folder: str
    always: tuple[str, ...] = ()
    once: tuple[str, ...] = ()

    def read(self, locator: str | int) -> bytes:
        mark = Path(self.folder) / f"{locator}.died"
        if locator in self.always or (locator in self.once and not mark.exists()):
            mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return (Path(self.folder) / str(locator)).read_bytes()


@dataclass(frozen=True)
class HeldReader:
    """Stays at the row `held` for ever, in the first process that comes to it, which writes its number to `mark`."""

    folder: str
    held: str
    mark: str

    def read(self, locator: str | int) -> bytes:
        if locator == self.held and not Path(self.mark).exists():
            written = Path(f"{self.mark}.{os.getpid()}")
            written.write_text(str(os.getpid()))
            written.rename(self.mark)  # whoever sees the file finds the number in it
            time.sleep(3600)
        return (Path(self.folder) / str(locator)).read_bytes()


@dataclass(frozen=True)
class DeadlyToLoadReader:
    """Kills every other process that unpickles it, which adds a byte to `log`."""

    parent: int
    log: str

    def __reduce__(self) -> tuple[Any, ...]:
        return _die_elsewhere, (self.parent, self.log)

    def read(self, locator: str | int) -> bytes:
        raise OSError(f"nothing at {locator}")


def _die_elsewhere(parent: int, log: str) -> DeadlyToLoadReader:
    if os.getpid() != parent:
        with Path(log).open("ab") as file:
            file.write(b".")
        os.kill(os.getpid(), signal.SIGKILL)
    return DeadlyToLoadReader(parent, log)


@dataclass(frozen=True)
class UnloadableReader:
    """Cannot be unpickled in a worker process, as a class defined in a notebook cannot."""

    parent: int

    def __reduce__(self) -> tuple[Any, ...]:
        return _refuse_elsewhere, (os.getpid(),)

    def read(self, locator: str | int) -> bytes:
        raise OSError(f"nothing at {locator}")


def _refuse_elsewhere(parent: int) -> UnloadableReader:
    if os.getpid() != parent:
        raise AttributeError("no such class here")
    return UnloadableReader(parent)


def write_images(folder: Path, counts: Mapping[Split, int], classes: int = 3) -> dict[Split, tuple[Row, ...]]:
    """Real JPEG and PNG files of odd sizes: rows by split."""
    folder.mkdir(parents=True, exist_ok=True)
    rows: dict[Split, tuple[Row, ...]] = {}
    for part, (split, count) in enumerate(counts.items()):
        made = []
        for number in range(count):
            random = np.random.default_rng(1000 * part + number)
            width, height = (int(value) for value in random.integers(20, 140, 2))
            kind = "PNG" if number % 3 == 0 else "JPEG"
            name = f"{split}-{number}.{kind.lower()}"
            written = folder / f"{name}.{os.getpid()}"  # another process may read what is there already
            written.write_bytes(encode(picture(width, height, 1000 * part + number), kind))
            written.replace(folder / name)
            made.append(Row(name, number % classes, name))
        rows[split] = tuple(made)
    return rows


def index_of(
    rows: Mapping[Split, Sequence[Row]],
    reader: Reader,
    *,
    revision: str = "1",
    classes: Sequence[str] = ("a", "b", "c"),
) -> Index:
    return Index(
        source="a folder",
        revision=revision,
        commit=None,
        licence=None,
        labels=Labels(tuple(classes)),
        splits={split: tuple(each) for split, each in rows.items()},
        cut=(),
        rejected=(),
        notes=(),
        reader=reader,
    )


def small_index(folder: Path, **reader: Any) -> Index:
    """24 training, 9 validation and 9 test images in `folder`."""
    return index_of(
        write_images(folder, {"train": 24, "validation": 9, "test": 9}), FolderReader(str(folder), **reader)
    )


def opened(index: Index, cache: Path | None, preprocess: Preprocess = PREPROCESS, **changes: Any) -> Store:
    """`open_store` with everything the tests do not care about filled in."""
    settings: dict[str, Any] = {
        "train_side": SIDE,
        "workers": 1,
        "cache_dir": cache,
        "limit_bytes": None,
        "max_bad_share": 0.0,
        "max_pixels": MAX_PIXELS,
        "progress": None,
        "processor": None,
    }
    return open_store(index, preprocess, **{**settings, **changes})


def options(cache: Path, **changes: Any) -> Options:
    return Options(**{"workers": 1, "cache_dir": cache, "max_pixels": MAX_PIXELS, **changes})


def everything(store: Store) -> dict[str, np.ndarray]:
    """All pixels of all splits."""
    return {split: rows.gather(np.arange(len(rows))) for split, rows in store.rows.items()}


def entry_folders(cache: Path) -> list[Path]:
    return sorted(path.parent for path in (cache / "store").glob("*/meta.json"))
