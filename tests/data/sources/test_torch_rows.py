"""torch datasets: their images byte for byte, their labels and class names, and what is no image with a label."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import ConcatDataset, Dataset, IterableDataset, Subset, random_split
from torchvision.datasets import ImageFolder

from hf_finetune.data.config import Data
from hf_finetune.data.index.scan import index_of
from hf_finetune.errors import DataError
from hf_finetune.types import Index
from tests.data.pictures import class_folders

FORMS = ("pillow", "numpy", "torch", "grey")


class Pictures(Dataset[Any]):
    """Noise of 5 × 7 pixels, in the form that is asked for; `label` makes the label of a number."""

    def __init__(
        self, count: int = 30, form: str = "pillow", label: Any = lambda number: number % 3, **more: Any
    ) -> None:
        self.count, self.form, self.label = count, form, label
        vars(self).update(more)

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, number: int) -> Any:
        pixels = self.pixels(number)
        image: Any = {"pillow": Image.fromarray, "numpy": np.array, "grey": lambda array: array[..., 0]}.get(
            self.form, lambda array: torch.from_numpy(array).permute(2, 0, 1)
        )(pixels)
        return image, self.label(number)

    def pixels(self, number: int) -> np.ndarray:
        return np.random.default_rng(number).integers(0, 256, (5, 7, 3), dtype=np.uint8)


def index(data: Any, **config: Any) -> Index:
    return index_of(data, Data(**config), seed=0)


def decoded(found: Index) -> dict[int, np.ndarray]:
    """Pixels by the number in the row's name."""
    rows = [row for rows in found.splits.values() for row in rows]
    return {
        int(row.name.rpartition(" ")[2]): np.asarray(Image.open(io.BytesIO(found.reader.read(row.locator))))
        for row in rows
    }


@pytest.mark.parametrize("form", FORMS)
def test_images_in_every_form_keep_their_pixels(form: str) -> None:
    data = Pictures(form=form)
    found = decoded(index(data))
    assert len(found) == 30
    for number, pixels in found.items():
        wanted = data.pixels(number)
        np.testing.assert_array_equal(pixels, wanted[..., 0] if form == "grey" else wanted)


def test_labels_of_every_kind_and_the_datasets_own_class_names() -> None:
    assert index(Pictures()).labels.names == ("0", "1", "2")
    assert index(Pictures(label=lambda n: torch.tensor(n % 2))).labels.names == ("0", "1")
    assert index(Pictures(label=lambda n: "ab"[n % 2])).labels.names == ("a", "b")
    assert index(Pictures(classes=["n/a", "1", "true"])).labels.names == ("n/a", "1", "true")


def test_mappings_of_items_and_of_splits() -> None:
    class Mapped(Pictures):
        def __getitem__(self, number: int) -> Any:
            image, label = super().__getitem__(number)
            return {"picture": image, "label": label}

    assert len(decoded(index(Mapped(), image_column="picture"))) == 30
    with pytest.raises(DataError, match="train row 0 is a mapping with picture, label"):
        index(Mapped())
    halves = {"train": Subset(Pictures(), range(20)), "val": Subset(Pictures(), range(20, 30))}
    found = index(halves, test_share=0)
    assert {split: len(rows) for split, rows in found.splits.items()} == {"train": 20, "validation": 10, "test": 0}


def test_torchvisions_image_folder(tmp_path: Path) -> None:
    folder = class_folders(tmp_path, {"ants": 12, "bees": 9})
    found = index(ImageFolder(str(folder)))
    assert found.labels.names == ("ants", "bees")
    assert len(decoded(found)) == 21
    flipped = index(ImageFolder(str(folder), transform=lambda image: image.rotate(180)))
    assert any("transform was applied once" in note.text for note in flipped.notes)
    assert found.revision != flipped.revision


def test_one_broken_image_is_left_out_and_named(tmp_path: Path) -> None:
    folder = class_folders(tmp_path, {"ants": 100, "bees": 100})
    min((folder / "ants").iterdir()).write_bytes(b"no image")
    found = index(ImageFolder(str(folder)))
    assert [(row.name, row.reason.partition(":")[0]) for row in found.rejected] == [("train row 0", "cannot be read")]


def test_class_names_come_through_what_datasets_are_put_into() -> None:
    named = Pictures(classes=["a", "b", "c"])
    for data in (Subset(named, range(20)), ConcatDataset([named, named]), random_split(named, [20, 10])[0]):
        assert index(data).labels.names == ("a", "b", "c")


@pytest.mark.parametrize("mode", ["CMYK", "HSV"])
def test_modes_that_png_does_not_know_become_rgb(mode: str) -> None:
    class Odd(Pictures):
        def __getitem__(self, number: int) -> Any:
            image, label = super().__getitem__(number)
            return image.convert(mode), label

    assert {pixels.shape for pixels in decoded(index(Odd())).values()} == {(5, 7, 3)}


@pytest.mark.parametrize("dtype", [np.uint16, np.int32, np.float32])
def test_high_bit_grey_keeps_its_values(dtype: type) -> None:
    class Grey(Pictures):
        def __getitem__(self, number: int) -> Any:
            return Image.fromarray((self.pixels(number)[..., 0] * dtype(200.5)).astype(dtype)), number % 3

    for number, pixels in decoded(index(Grey())).items():
        assert pixels.tolist() == (Grey().pixels(number)[..., 0] * dtype(200.5)).astype(dtype).tolist()


class Short(Pictures):
    def __len__(self) -> int:
        return 31

    def __getitem__(self, number: int) -> Any:
        return [super(Short, self).__getitem__(place) for place in range(30)][number]


class Triples(Pictures):
    def __getitem__(self, number: int) -> Any:
        return (*super().__getitem__(number), 1)


class Floats(Pictures):
    def __getitem__(self, number: int) -> Any:
        return torch.zeros(3, 5, 7), 0


class Stream(IterableDataset[Any]):
    def __iter__(self) -> Any:
        return iter(())


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (Triples(), "train row 0 is a tuple"),
        (Floats(), r"an image of uint8 is expected, found float32 \[3, 5, 7\]"),
        (Pictures(label=lambda _: None), "train row 0: a class name or number is expected, found None"),
        (Pictures(label=lambda _: torch.tensor([0, 1])), "one label is expected"),
        (Pictures(label=lambda _: 1.5), "a class name or number is expected, found 1.5"),
        (Short(), r"train row 30: an item is expected of a dataset whose len\(\) is 31"),
        (Stream(), "a dataset with known rows is expected, found a torch IterableDataset"),
    ],
)
def test_what_is_no_image_with_a_label_is_refused(data: Any, says: str) -> None:
    with pytest.raises(DataError, match=says):
        index(data)
