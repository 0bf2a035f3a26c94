"""`--json`: one JSON document on standard output, whatever else is printed, and errors as one too.

NaN and infinity, which JSON does not have, are null; text is UTF-8 on every system.
"""

from __future__ import annotations

import io
import json
import math
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any, TextIO

_output: list[TextIO] = []  # the standard output, while libraries print elsewhere


@contextmanager
def documents_only() -> Iterator[None]:
    """What is printed in the block goes to standard error; `print_document` alone has the standard output."""
    stream = sys.stdout
    if isinstance(stream, io.TextIOWrapper):
        stream.reconfigure(encoding="utf-8", errors="backslashreplace")  # a lone surrogate is JSON as \udc80
    _output.append(stream)
    try:
        with redirect_stdout(sys.stderr):
            yield
    finally:
        _output.pop()


def standard_output() -> TextIO:
    """Where documents go, for whoever writes them himself."""
    return _output[-1] if _output else sys.stdout


def print_document(document: Any, *, line: bool = False) -> None:
    """Print it indented, or on one `line`."""
    text = json.dumps(as_json(document), ensure_ascii=False, allow_nan=False, indent=None if line else 1)
    print(text, file=standard_output(), flush=line)


def print_error(kind: str, message: str, hint: str = "", *, line: bool = False) -> None:
    """The document of a command that failed: kind of error, what was expected and found, and the remedy."""
    print_document({"error": error_fields(kind, message, hint)}, line=line)


def error_fields(kind: str, message: str, hint: str = "") -> dict[str, str | None]:
    """Of any error, also of one image among others."""
    return {"kind": kind, "message": message, "hint": hint or None}


def as_json(value: Any) -> Any:
    """The same of what JSON has: numpy's numbers and arrays as Python's, paths as text, no NaN."""
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): as_json(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [as_json(item) for item in value]
    return str(value) if isinstance(value, Path) else value
