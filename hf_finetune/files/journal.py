"""Journals: a JSON object a line, each with its digest, so that a torn or damaged line says nothing, the others do."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any


def digest_of(told: Mapping[str, Any]) -> str:
    """Of what a description says, whatever the order of its keys."""
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()


def line_of(told: Mapping[str, Any]) -> str:
    """The line to write; `told` is of what JSON has forms for, its keys are texts."""
    return json.dumps({**told, "digest": digest_of(told)}) + "\n"


def whole_lines(journal: Path) -> Iterator[dict[str, Any]]:
    """What each line says that is as it was written; none where there is no journal. Raises OSError."""
    if not journal.is_file():
        return
    with journal.open("rb") as lines:
        for line in lines:
            try:
                told = json.loads(line)
                whole = told.pop("digest") == digest_of(told)
            except (ValueError, LookupError, TypeError, AttributeError):  # torn, or no line of ours
                continue
            if whole:
                yield told
