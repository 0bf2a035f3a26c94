"""YAML and JSON that somebody else may have written, read within bounds of size and depth.

A few lines of YAML can name a thousand million values by aliases, and brackets in brackets end Python's stack: such a
file would take for ever, or end in a traceback. Nothing here makes objects other than plain data.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

MOST_BYTES = 20_000_000  # names of 20,000 classes, in several languages, are some 2 MB
DEEPEST = 50


class OutOfBoundsError(ValueError):
    """A text that is larger, deeper or more entangled than any of its kind has to be."""


def read_yaml(text: str, *, most_bytes: int = MOST_BYTES) -> Any:
    """The plain data of a YAML text. Raises OutOfBoundsError, another ValueError (a date that there is not), and
    yaml.YAMLError."""
    import yaml

    check_yaml(text, most_bytes=most_bytes)
    return yaml.load(text, Loader=_loader())


def check_yaml(text: str, *, most_bytes: int = MOST_BYTES) -> None:
    """Raise OutOfBoundsError for a YAML text that should not be read, and yaml.YAMLError for one that is none."""
    import yaml

    _check_size(len(text), most_bytes)
    depth = 0
    for event in yaml.parse(text, Loader=_loader()):  # one after another, without a stack
        if isinstance(event, yaml.AliasEvent):
            raise OutOfBoundsError(f"line {event.start_mark.line + 1} repeats &{event.anchor}: write it out")
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            if depth > DEEPEST:
                raise OutOfBoundsError(f"line {event.start_mark.line + 1} is more than {DEEPEST} levels deep")
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1


def read_json(path: Path, *, most_bytes: int = MOST_BYTES) -> Any:
    """The content of a JSON file. Raises OSError, and ValueError (OutOfBoundsError) where it is none or too large."""
    _check_size(path.stat().st_size, most_bytes)
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except RecursionError:
        raise OutOfBoundsError("brackets within brackets without an end") from None


def _check_size(size: int, most: int) -> None:
    if size > most:
        raise OutOfBoundsError(f"{size:,} bytes are more than the {most:,} that are read")


def _loader() -> Any:
    """libyaml's where it was built in: ten times as fast on a card with thousands of class names."""
    import yaml

    return getattr(yaml, "CSafeLoader", yaml.SafeLoader)
