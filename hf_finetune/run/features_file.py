"""The features of a run's rows, kept in its folder: what `hf-finetune fix` fits the head on again.

`features.safetensors` holds of each training and validation row its name, its label as it was encoded, the number of
what it belongs to, and what the winning head is given. It stays in the run folder and is never published: it names the
user's files, and features tell of their images.
"""

from __future__ import annotations

import json
import shutil
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from hf_finetune.errors import RunFolderError
from hf_finetune.files.whole_file import whole_file
from hf_finetune.types import Split

FORMAT = 1
# What may be kept at most: a small file beside checkpoints and decoded images. 100,000 rows of 768 numbers are 307 MB.
MOST_BYTES, MOST_SHARE_OF_FREE = 512_000_000, 0.25
SPLITS: tuple[Split, ...] = ("train", "validation")
_AT_ONCE = 4096  # rows, so that memory does not grow with the file
_CRC_BYTES = 8


class Matrix(Protocol):
    """float32 [N, d], of which some rows at a time are asked for: an array, a mapped file, or several processes'."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    def __getitem__(self, rows: slice, /) -> np.ndarray: ...


@dataclass(frozen=True)
class KeptRows:
    """A split's rows: names, labels int64 [N] or float32 [N, K], units int64 [N] (−1 is alone), features [N, d]."""

    names: tuple[str, ...]
    labels: np.ndarray
    units: np.ndarray
    features: Matrix

    def __len__(self) -> int:
        return len(self.names)


@dataclass(frozen=True)
class KeptFeatures:
    """Of train and validation. `held` float32 [n, d]: of the rows of held.npz, by which one sees later whether the base
    and these features still belong together. `about`: what they were made by, as JSON (`pipeline/keep_features.py`)."""

    rows: Mapping[Split, KeptRows]
    held: np.ndarray
    about: Mapping[str, Any]


def bytes_needed(rows: int, width: int) -> int:
    """Of so many rows of `width` numbers; names and labels are nothing beside them."""
    return 4 * rows * width


def room_for(folder: Path, needed: int) -> bool:
    """Whether so many bytes may be kept in a run folder."""
    return needed <= min(MOST_BYTES, MOST_SHARE_OF_FREE * shutil.disk_usage(folder).free)


def write_features(path: Path, kept: KeptFeatures) -> None:
    """Through a temporary file beside it, some thousand rows at a time: safetensors' own `save_file` takes arrays that
    are whole in memory, and these may be a mapped file that is larger than the run's budget. Raises OSError."""
    tensors = list(_tensors(kept))
    header: dict[str, Any] = {"__metadata__": {"format": str(FORMAT), "about": json.dumps(dict(kept.about))}}
    end = 0
    for name, kind, shape, _ in tensors:
        start, end = end, end + int(np.prod(shape)) * int(kind[1:]) // 8
        header[name] = {"dtype": kind, "shape": list(shape), "data_offsets": [start, end]}
    header["crc32"] = {"dtype": "I64", "shape": [1], "data_offsets": [end, end + _CRC_BYTES]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with whole_file(path) as partial, partial.open("wb") as file:
        opening = len(text).to_bytes(8, "little") + text
        crc = zlib.crc32(opening)
        file.write(opening)
        for _, _, _, pieces in tensors:
            for piece in pieces:
                crc = zlib.crc32(piece, crc)
                file.write(piece)
        file.write(crc.to_bytes(_CRC_BYTES, "little"))


def _tensors(kept: KeptFeatures) -> Iterator[tuple[str, str, tuple[int, ...], Iterator[bytes]]]:
    """Name, type, shape and bytes of each. The widest types come first, so that every tensor is aligned."""
    splits = [(split, kept.rows[split]) for split in SPLITS]
    for split, rows in splits:
        yield f"{split}.units", "I64", rows.units.shape, iter([rows.units.astype("<i8").tobytes()])
        if rows.labels.ndim == 1:
            yield f"{split}.labels", "I64", rows.labels.shape, iter([rows.labels.astype("<i8").tobytes()])
    for split, rows in splits:
        if rows.labels.ndim != 1:
            yield f"{split}.labels", "F32", rows.labels.shape, iter([rows.labels.astype("<f4").tobytes()])
        yield f"{split}.features", "F32", rows.features.shape, _pieces(rows.features)
    yield "held.features", "F32", kept.held.shape, _pieces(kept.held)
    for split, rows in splits:
        names = json.dumps(rows.names).encode()
        names += b" " * (-len(names) % 8)
        yield f"{split}.names", "U8", (len(names),), iter([names])


def _pieces(matrix: Matrix) -> Iterator[bytes]:
    for start in range(0, matrix.shape[0], _AT_ONCE):
        yield np.ascontiguousarray(matrix[start : start + _AT_ONCE], "<f4").tobytes()


def read_features(path: Path) -> KeptFeatures:
    """Read it back. Raises RunFolderError where the file is damaged; FileNotFoundError where there is none."""
    from safetensors import SafetensorError
    from safetensors.numpy import load

    content = path.read_bytes()
    try:
        if zlib.crc32(memoryview(content)[:-_CRC_BYTES]) != int.from_bytes(content[-_CRC_BYTES:], "little"):
            raise ValueError("its checksum is another")
        header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])["__metadata__"]
        if header["format"] != str(FORMAT):
            raise ValueError(f"its format is {header['format']}, {FORMAT} is known")
        found = load(content)
        rows: dict[Split, KeptRows] = {
            split: KeptRows(
                tuple(json.loads(found[f"{split}.names"].tobytes())),
                found[f"{split}.labels"],
                found[f"{split}.units"],
                found[f"{split}.features"],
            )
            for split in SPLITS
        }
        return KeptFeatures(rows, found["held.features"], json.loads(header["about"]))
    except (ValueError, KeyError, TypeError, SafetensorError) as error:
        raise RunFolderError(
            f"{path} is damaged ({error}): the features of the run's rows are expected there.",
            "Copy the run folder again; or remove that file, and the features are computed anew where the images still "
            "are.",
        ) from None
