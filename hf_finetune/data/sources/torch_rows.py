"""Rows of a `torch.utils.data.Dataset` of (image, label), read once in order and kept as lossless PNG.

A dataset's own transform is therefore applied once; a random one belongs to `hf_finetune.train(transform=…)`.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from hashlib import blake2b
from typing import Any

import numpy as np
from PIL import Image

from hf_finetune.data.config import Data
from hf_finetune.data.sources.in_memory import keep
from hf_finetune.data.sources.naming import IN_MEMORY, refuse_unused
from hf_finetune.data.sources.source import RawLabel, Source, SourceRejected, SourceRow, tail_digest
from hf_finetune.errors import DataError
from hf_finetune.types import Note

_WANTED = "data: items (image, label) are expected of a torch dataset, the image as Pillow, numpy or torch hold it"
_PNG_MODES = ("1", "L", "LA", "P", "RGB", "RGBA", "I;16")
_TIFF_MODES = ("I", "F")  # 32 bits, which PNG does not hold
_IMAGES, _LABELS = ("image", "img", "pixel_values"), ("label", "labels", "target")


def is_torch_data(data: Any) -> bool:
    """Whether it is a torch dataset with known rows, or a mapping of split names to such."""
    from torch.utils.data import Dataset, IterableDataset

    parts = list(data.values()) if isinstance(data, Mapping) else [data]
    if any(type(part).__module__.startswith("datasets.") for part in parts):
        return False  # its streaming datasets are torch's too
    if any(isinstance(part, IterableDataset) for part in parts):
        raise DataError(
            "data: a dataset with known rows is expected, found a torch IterableDataset", "give a map-style one"
        )
    torch_parts = [part for part in parts if isinstance(part, Dataset)]
    if torch_parts and len(torch_parts) == len(parts) and not all(hasattr(part, "__len__") for part in parts):
        raise DataError("data: a dataset with known rows is expected, found one without len()", "give it __len__")
    return bool(parts) and len(torch_parts) == len(parts)


def read_torch(data: Any, config: Data) -> Source:
    """The rows of each split; class names are the dataset's `classes`, where it has them and labels are numbers.

    Raises DataError for items that are no image with a label.
    """
    unused = ("revision", "config", "class_level", "split_column", "group_column", "image_folder")
    refuse_unused(config, IN_MEMORY, *unused)
    has_splits = isinstance(data, Mapping)
    parts = dict(data) if has_splits else {"train": data}
    splits: dict[str, list[SourceRow]] = {split: [] for split in parts}
    rejected: list[SourceRejected] = []
    digest = blake2b(digest_size=16)

    def images() -> Iterator[bytes]:
        number = 0
        for split, part in parts.items():
            for place in range(len(part)):
                name = f"{split} row {place}"
                try:
                    image, label = _pair(part[place], config, name)
                except IndexError as error:
                    raise DataError(
                        f"{name}: an item is expected of a dataset whose len() is {len(part)}, found none ({error})",
                        "let len() say how many items there are",
                    ) from error
                except OSError as error:  # Pillow's own for a file that is no image, too
                    rejected.append(SourceRejected(name, split, f"cannot be read: {error}"))
                    continue
                encoded = _encoded(image, name)
                digest.update(encoded)
                splits[split].append(SourceRow(name, label, number, len(encoded), tail=tail_digest(encoded)))
                number += 1
                yield encoded

    reader = keep(images(), config.cache_dir)
    return Source(
        name=IN_MEMORY,
        splits=splits,
        reader=reader,
        has_splits=has_splits,
        label_names=_class_names(parts, splits),
        rejected=tuple(rejected),
        notes=_notes(parts),
        stamp=digest.hexdigest(),
    )


def _pair(item: Any, config: Data, name: str) -> tuple[Any, RawLabel]:
    from torch import Tensor

    if isinstance(item, Mapping):
        images = (config.image_column,) if config.image_column else _IMAGES
        labels = (config.label_column,) if config.label_column else _LABELS
        found = [next((item[key] for key in keys if key in item), None) for keys in (images, labels)]
        if any(value is None for value in found):
            raise DataError(
                f"{_WANTED}; {name} is a mapping with {', '.join(map(str, item))}",
                "name the keys: data.image_column and data.label_column",
            )
        image, label = found
    elif isinstance(item, tuple | list) and len(item) == 2:
        image, label = item
    else:
        raise DataError(f"{_WANTED}; {name} is a {type(item).__name__}", "let __getitem__ return (image, label)")
    if isinstance(label, np.ndarray | np.generic | Tensor):
        try:
            label = label.item()
        except (ValueError, RuntimeError):
            raise DataError(f"{name}: one label is expected, found {label!r}", "give a class name or number") from None
    if not isinstance(label, str | int):
        raise DataError(f"{name}: a class name or number is expected, found {label!r}", "give one label an image")
    return image, str(label) if isinstance(label, bool) else label


def _encoded(image: Any, name: str) -> bytes:
    """Pillow's image, uint8 [H, W] or [H, W, 3] of numpy, or uint8 [3, H, W] of torch, as PNG (32-bit grey: TIFF)."""
    if not isinstance(image, Image.Image):
        array = np.asarray(image)
        if array.dtype != np.uint8 or array.ndim not in (2, 3):
            raise DataError(
                f"{name}: an image of uint8 is expected, found {array.dtype} {list(array.shape)}",
                "leave ToTensor, Resize and Normalize out of the dataset: the checkpoint's own are applied",
            )
        if array.ndim == 3 and array.shape[0] in (1, 3, 4) and array.shape[-1] not in (1, 3, 4):
            array = array.transpose(1, 2, 0)
        if array.ndim == 3 and array.shape[-1] not in (1, 3, 4):
            raise DataError(f"{name}: 1, 3 or 4 channels are expected, found {list(array.shape)}", "give an image")
        image = Image.fromarray(array[..., 0] if array.ndim == 3 and array.shape[-1] == 1 else array)
    buffer = io.BytesIO()
    if image.mode in _TIFF_MODES:
        image.save(buffer, "TIFF")
        return buffer.getvalue()
    if image.mode not in _PNG_MODES:
        image = image.convert("RGB")
    image.save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def _class_names(parts: Mapping[str, Any], splits: Mapping[str, list[SourceRow]]) -> tuple[str, ...] | None:
    dataset = next(iter(parts.values()))
    while not hasattr(dataset, "classes") and (inner := _inner(dataset)) is not None:
        dataset = inner
    names = getattr(dataset, "classes", None)
    numbered = all(isinstance(row.label, int) for rows in splits.values() for row in rows)
    if not numbered or not isinstance(names, list | tuple) or not all(isinstance(name, str) for name in names):
        return None
    return tuple(names)


def _inner(dataset: Any) -> Any:
    """What a Subset or a ConcatDataset is made of, the first part of the latter."""
    several = getattr(dataset, "datasets", None)
    return several[0] if isinstance(several, list) and several else getattr(dataset, "dataset", None)


def _notes(parts: Mapping[str, Any]) -> tuple[Note, ...]:
    if any(getattr(part, "transform", None) or getattr(part, "transforms", None) for part in parts.values()):
        text = "The dataset's own transform was applied once, to every split; a random one belongs to transform=."
        return (Note(text),)
    return ()
