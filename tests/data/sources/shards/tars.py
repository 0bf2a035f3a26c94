"""Real tars for the tests of shards."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tests.data.pictures import jpeg

Files = Iterable[tuple[str, bytes]]


def write_tar(path: Path, files: Files, format: int = tarfile.USTAR_FORMAT, mode: Any = "w") -> Path:
    """A tar of these members, in their order."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, mode, format=format) as tar:
        for name, data in files:
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return path


def samples(count: int, first: int = 0, classes: int = 2) -> list[tuple[str, bytes]]:
    """Samples of a JPEG and a class number; numbers of images start at `first`."""
    made = []
    for number in range(count):
        made += [(f"{number:04d}.jpg", jpeg(first + number)), (f"{number:04d}.cls", b"%d" % (number % classes))]
    return made


def described(count: int, **cells: Any) -> list[tuple[str, bytes]]:
    """Samples of a JPEG and a JSON; a cell that can be called is given the sample's number."""
    made = []
    for number in range(count):
        told = {key: value(number) if callable(value) else value for key, value in cells.items()}
        made += [(f"{number:04d}.jpg", jpeg(number)), (f"{number:04d}.json", json.dumps(told).encode())]
    return made
