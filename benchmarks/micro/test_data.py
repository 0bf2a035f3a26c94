"""From JPEGs to the backbone's input, beside torchvision's transforms, one sample after another."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torchvision import transforms
from torchvision.datasets import ImageFolder
from torchvision.transforms import InterpolationMode, v2

from hf_finetune.data.augment.augmenter import Augmenter
from hf_finetune.data.augment.dataset import TrainRows, prepare
from hf_finetune.data.config import Augment, Data
from hf_finetune.data.index.scan import scan
from hf_finetune.data.sources.readers import FileReader
from hf_finetune.data.store.decode import Decoded, Job, Task, decode
from hf_finetune.data.store.open_views import Options, open_views
from hf_finetune.data.store.views import Exact, Geometry, Squash, row_bytes
from hf_finetune.types import CenterCrop, Index, Preprocess, ResizeShortest
from micro.photos import photo

BICUBIC = 3  # Pillow's number
SIDE, STORED = 224, 256
HALF = (0.5, 0.5, 0.5)
# What timm's ViTs ask for.
PREPROCESS = Preprocess(
    steps=(ResizeShortest(248, BICUBIC), CenterCrop(SIDE, SIDE, "half_even")),
    height=SIDE, width=SIDE, mean=HALF, std=HALF, scale=1 / 255, offset=0.0, bgr=False, resample=BICUBIC, source="timm",
)  # fmt: skip
TRAIN = [transforms.RandomResizedCrop(SIDE, (0.35, 1.0), interpolation=InterpolationMode.BICUBIC),
         transforms.RandomHorizontalFlip()]  # fmt: skip
EVALUATION = [transforms.Resize(248, InterpolationMode.BICUBIC), transforms.CenterCrop(SIDE)]
TENSOR = [transforms.ToTensor(), transforms.Normalize(HALF, HALF)]
TAKEN = 12


@pytest.fixture(scope="session")
def index(photos: Path) -> Index:
    return scan(Data(name=str(photos)), seed=0)


def decoding(files: list[Path], geometry: Geometry, store: Path) -> Callable[[], None]:
    """What a worker process does with these files."""
    store.write_bytes(bytes(len(files) * row_bytes(geometry)))
    job = Job(FileReader(), geometry, 50_000_000, store)
    tasks = [Task(slot, str(file)) for slot, file in enumerate(files)]

    def run() -> None:
        for result in decode(job, tasks):
            if not isinstance(result, Decoded):
                raise TypeError(f"a photo was not decoded: {result}")

    return run


def loading(folder: Path, steps: list[Any], count: int) -> Callable[[], None]:
    """What torch's loader does with an ImageFolder, without its processes."""
    images = ImageFolder(folder, transforms.Compose([*steps, *TENSOR]))
    chosen = np.linspace(0, len(images) - 1, count).astype(int).tolist()

    def run() -> None:
        torch.stack([images[number][0] for number in chosen])

    return run


@pytest.mark.parametrize("rows", ["train", "evaluation"])
def test_decode_and_resize(micro: Any, photos: Path, tmp_path: Path, rows: str) -> None:
    files = sorted(photos.rglob("*.jpg"))[:TAKEN]
    geometry = Squash(STORED, BICUBIC) if rows == "train" else Exact(PREPROCESS)
    run = decoding(files, geometry, tmp_path / "rows")
    reference = loading(photos, TRAIN if rows == "train" else EVALUATION, TAKEN)
    micro.compare(f"decode_{rows}", run, reference, images=TAKEN)


def test_decode_of_a_large_photo(micro: Any, tmp_path: Path) -> None:
    folder = tmp_path / "large" / "class"
    folder.mkdir(parents=True)
    (folder / "large.jpg").write_bytes(photo(0, 1536, 1152))
    run = decoding([folder / "large.jpg"], Squash(STORED, BICUBIC), tmp_path / "rows")
    micro.compare("decode_large", run, loading(folder.parent, TRAIN, 1), images=1)


def test_gather_and_augment(micro: Any, index: Index, tmp_path: Path) -> None:
    """A batch out of the store, beside v2's transforms of the same stored rows, one by one."""
    (view,) = open_views(index, [("train", Squash(STORED, BICUBIC))], Options(1, tmp_path))
    augmenter = Augmenter(Augment(), PREPROCESS, STORED)
    rows, chosen = TrainRows(view.rows, augmenter, seed=0), list(range(16))
    each = v2.Compose([
        v2.RandomResizedCrop(SIDE, (0.35, 1.0), interpolation=InterpolationMode.BICUBIC, antialias=True),
        v2.RandomHorizontalFlip(), v2.ToDtype(torch.float32, scale=True), v2.Normalize(HALF, HALF),
    ])  # fmt: skip

    def reference() -> None:
        torch.stack([each(torch.from_numpy(view.rows.gather(np.array([row]))[0])) for row in chosen])

    micro.compare(
        "gather_augment", lambda: prepare(rows.__getitems__(chosen), augmenter), reference, images=len(chosen)
    )
