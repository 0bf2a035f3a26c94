"""Copies of images in a folder for each class that was said. Nothing is moved, and no file that is there replaced."""

from __future__ import annotations

import os
import re
import shutil
import unicodedata
from collections import Counter
from collections.abc import Iterable
from io import BytesIO
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urlsplit

from hf_finetune.data.sources.folders.walk import IGNORED_NAMES
from hf_finetune.errors import MachineError
from hf_finetune.network.images import is_address
from hf_finetune.result.predict.stream import Answered

UNLIKE = "unlike"
# Windows forbids these, and control characters; a slash is none in a name anywhere.
_FORBIDDEN = re.compile(r'[<>:"/\\|?*\x00-\x1f\x7f-\x9f]')
_DEVICES = re.compile(r"(con|prn|aux|nul|conin\$|conout\$|(com|lpt)[0-9¹²³])", re.IGNORECASE)
_MOST_BYTES = 120  # of a name; systems take 255, and a number may follow


def folder_names(labels: Iterable[str]) -> tuple[str, ...]:
    """For each label the name of its folder, which every system takes and no two share, whatever case counts as."""
    names: list[str] = []
    taken: set[str] = set()
    for label in labels:
        plain = safe_name(label)
        name, number = plain, 1
        while name.casefold() in taken:
            number += 1
            name = f"{plain}_{number}"
        taken.add(name.casefold())
        names.append(name)
    return tuple(names)


def safe_name(text: str) -> str:
    """A name of one file or folder on Linux, macOS and Windows, which training would not skip as hidden."""
    name = _FORBIDDEN.sub("_", unicodedata.normalize("NFC", text.encode("utf-8", "replace").decode()))
    name = name.strip().rstrip(". ")
    if name.startswith("."):
        name = f"_{name[1:]}"
    stem, dot, rest = name.partition(".")
    if _DEVICES.fullmatch(stem.rstrip()) or name.lower() in IGNORED_NAMES:
        name = f"{stem}_{dot}{rest}"
    return name.encode()[:_MOST_BYTES].decode(errors="ignore").rstrip(". ") or "_"


class Names:
    """Names in folders that nothing has yet: `a.jpg`, then `a_2.jpg`. Each is made when it is given out, so that two
    programs at once take no name twice."""

    def __init__(self) -> None:
        self._next: Counter[tuple[str, str]] = Counter()

    def take(self, folder: Path, name: str) -> Path:
        """An empty file of that name, or of one with a number. Raises MachineError."""
        stem, suffix = os.path.splitext(name)  # noqa: PTH122
        key = (str(folder), name.casefold())
        try:
            folder.mkdir(parents=True, exist_ok=True)
            while True:
                self._next[key] += 1
                number = self._next[key]
                path = folder / (name if number == 1 else f"{stem}_{number}{suffix}")
                try:
                    path.open("xb").close()
                except FileExistsError:
                    continue
                return path
        except OSError as error:
            raise cannot_write(folder / name, error) from None


class Sorter:
    """`root`/<label's folder>/<file's name> for each answered image; those unlike the training images in a folder of
    their own, where `unlike_apart`."""

    def __init__(self, root: Path, labels: Iterable[str], *, unlike_apart: bool) -> None:
        known = tuple(labels)
        *own, apart = folder_names((*known, UNLIKE))  # the last, so that a class of that name keeps it
        self._folders = {label: root / name for label, name in zip(known, own, strict=True)}
        self._unlike = root / apart if unlike_apart else None
        self._names = Names()

    def copy(self, answered: Answered, label: str, *, unlike: bool) -> Path:
        """Copy one image, with its times. Raises MachineError where there is no room."""
        folder = self._unlike if unlike and self._unlike is not None else self._folders[label]
        locator = answered.given.locator
        name = name_of(locator)
        path = self._names.take(folder, name)
        try:
            if answered.fetched is not None:
                with path.open("wb") as file:
                    shutil.copyfileobj(BytesIO(answered.fetched), file)
            else:
                shutil.copy2(locator, path)
        except OSError as error:
            path.unlink(missing_ok=True)
            raise cannot_write(path, error) from None
        except BaseException:  # Ctrl-C: no half copy
            path.unlink(missing_ok=True)
            raise
        return path


def name_of(locator: str) -> str:
    """The file's own name; of an address the safe form of its last part."""
    if not is_address(locator):
        return Path(locator).name
    return safe_name(unquote(PurePosixPath(urlsplit(locator).path).name) or "image")


def cannot_write(path: Path, error: OSError) -> MachineError:
    """For a file of ours."""
    return MachineError(f"{path} cannot be written: {error.strerror or error}.", "Give another folder, or make room.")
