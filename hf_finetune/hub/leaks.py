"""Looks through what is about to be published for what must not be: tokens, e-mail addresses, paths of this machine.

Reads text files line by line; of weights it reads the header (names and metadata) as text, and searches all bytes for
the token in use. What is found is a refusal, never silently blanked: the run should not have written it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

_ROOTS = "home|Users|root|mnt|media|tmp|var|opt|srv|private|Volumes|content|kaggle|workspace|scratch|lustre|gpfs|work"
_PATTERNS = (
    ("a token", re.compile(r"\bhf_[A-Za-z0-9]{16,}|\bgh[pousr]_\w{30,}|\bgithub_pat_\w{30,}|\bAKIA[0-9A-Z]{16}\b")),
    ("a token", re.compile(r"\bsk-[A-Za-z0-9_-]{20,}|-----BEGIN [A-Z ]*PRIVATE KEY-----")),
    ("an e-mail address", re.compile(r"[\w.+-]+@[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)*\.[A-Za-z]{2,}")),
    ("a path", re.compile(rf"(?<![\w.:/\\-])/(?:{_ROOTS})/[^\s\"'`<>|)\]]+")),
    ("a path", re.compile(r"(?<![\w.])(?:[A-Za-z]:\\{1,2}\w|~/\w|file://)[^\s\"'`<>|)\]]*")),
)
_WEIGHTS = ".safetensors"


@dataclass(frozen=True)
class Leak:
    """What was found, and where; `line` counts from 1, 0 for weights."""

    file: str
    line: int
    kind: str
    text: str

    def __str__(self) -> str:
        # A token is not repeated in a message that ends up in logs.
        shown = f"{self.text[:6]}…" if self.kind == "a token" else self.text
        return f"{self.file}{f' line {self.line}' if self.line else ''}: {self.kind}, {shown}"


def find_leaks(
    folder: Path, *, secrets: Sequence[str] = (), places: Sequence[str] = (), allowed: Iterable[str] = ()
) -> list[Leak]:
    """Every leak in the folder's files.

    `secrets` (tokens in use) and `places` (folders of this machine) are searched for letter by letter; a finding whose
    text is in `allowed` is let through.
    """
    passed = set(allowed)
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    found = [leak for path in files for leak in _of(path, folder, secrets, places)]
    return [leak for leak in found if leak.text not in passed]


def _of(path: Path, folder: Path, secrets: Sequence[str], places: Sequence[str]) -> Iterator[Leak]:
    name = path.relative_to(folder).as_posix()
    if path.suffix == _WEIGHTS:
        yield from _in_weights(path, name, secrets)
        lines = [_header(path)]
    else:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    for number, line in enumerate(lines, start=1):
        where = 0 if path.suffix == _WEIGHTS else number
        for secret in secrets:
            if secret and secret in line:
                yield Leak(name, where, "a token", secret)
        known = [place for place in places if re.search(rf"{re.escape(place)}(?![\w.-])", line)]
        for place in known:
            yield Leak(name, where, "a path", place)
        for kind, pattern in _PATTERNS:
            for match in pattern.finditer(line):
                if match[0] not in secrets and not any(match[0].startswith(place) for place in known):
                    yield Leak(name, where, kind, match[0])


def _header(path: Path) -> str:
    """The JSON header of a safetensors file: 8 bytes of length (little-endian), then the header."""
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        return file.read(min(length, 100_000_000)).decode("utf-8", errors="replace")


def _in_weights(path: Path, name: str, secrets: Sequence[str]) -> Iterator[Leak]:
    wanted = [secret.encode() for secret in secrets if secret]
    tail = b""
    with path.open("rb") as file:
        while block := file.read(1 << 22):
            for secret in wanted:
                if secret in tail + block:
                    yield Leak(name, 0, "a token", secret.decode())
            tail = block[-256:]
