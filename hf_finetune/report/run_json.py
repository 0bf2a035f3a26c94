"""run.json: the whole report, for programs. Written last and at once, so that a run that has it is finished."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hf_finetune.errors import RunFolderError
from hf_finetune.files.bounded import read_json
from hf_finetune.files.whole_file import whole_file
from hf_finetune.report.fields import RunReport
from hf_finetune.report.references import discreet
from hf_finetune.types import Candidate, Note

FILE = "run.json"
FORMAT = 1
LARGEST = 500_000_000  # bytes; 20,000 classes take 20 MB
# Measured numbers; what the recipe and the plan say is kept digit for digit.
_MEASURED = ("rungs", "validation", "test", "seconds")
_DIGITS = 6


_COPY = "Copy the run folder again, or name another output.dir."


def write_report(report: RunReport, folder: Path) -> Path:
    """Write `folder`/run.json through a temporary file beside it; returns its path.

    Keys stay in the report's order; measured floats are rounded to 6 significant digits; NaN and infinities become
    null. The user's home folder is written as `~`, and anything that looks like a Hub token is blanked.
    Raises RunFolderError where the folder cannot be written, TypeError for a value that JSON has no form for.
    """
    text = json.dumps(content_of(report), indent=1, ensure_ascii=False, allow_nan=False)
    path = folder / FILE
    try:
        with whole_file(path) as partial, partial.open("w", encoding="utf-8") as file:
            file.write(f"{text}\n")
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise RunFolderError(
            f"{path} cannot be written: {error.strerror or error}.", "Free some space, or give another output.dir."
        ) from None
    return path


def content_of(report: RunReport) -> dict[str, Any]:
    """What run.json holds of it, in JSON's own types."""
    content: dict[str, Any] = {"format": FORMAT}
    home = str(Path.home())  # once: a report of 20,000 classes has 200,000 texts
    for field in fields(report):
        content[field.name] = _plain(getattr(report, field.name), home, rounded=field.name in _MEASURED)
    return content


def read_report(path: Path) -> dict[str, Any]:
    """The content of a run.json, checked. Raises RunFolderError, naming the key, where it is none or damaged."""
    try:
        content = read_json(path, most_bytes=LARGEST)
    except (OSError, ValueError) as error:
        raise RunFolderError(f"{path} cannot be read: {error}.", _COPY) from None
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise RunFolderError(
            f"{path}: a report of format {FORMAT} is expected.", f"{_COPY} One of a later version wants an upgrade."
        )
    from hf_finetune.report.stated.report import check_report

    try:
        check_report(content)
    except ValueError as error:
        raise RunFolderError(f"{path} is not as a run writes it: {error}.", _COPY) from None
    return content


def as_run_report(content: Mapping[str, Any]) -> RunReport:
    """The report that `read_report` gave, as the type that the summary and the card take."""
    known = {field.name: content[field.name] for field in fields(RunReport) if field.name in content}
    # Until 2026-11-28 a note was one string.
    notes = [Note(**note) if isinstance(note, Mapping) else note for note in content["data"].get("notes", ())]
    rungs = tuple(Candidate(**rung) for rung in content["rungs"])
    return RunReport(**{**known, "rungs": rungs, "data": {**content["data"], "notes": notes}})


def _plain(value: Any, home: str, *, rounded: bool) -> Any:
    """`value` as JSON's own types."""
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, float):
        if not math.isfinite(value):
            return None
        return float(f"{value:.{_DIGITS}g}") if rounded else value
    if isinstance(value, str | Path):
        return discreet(str(value), home)
    if isinstance(value, Mapping):
        return {discreet(str(key), home): _plain(item, home, rounded=rounded) for key, item in value.items()}
    if isinstance(value, list | tuple | np.ndarray):
        return [_plain(item, home, rounded=rounded) for item in value]
    if is_dataclass(value):
        return {field.name: _plain(getattr(value, field.name), home, rounded=rounded) for field in fields(value)}
    raise TypeError(f"run.json has no form for a {type(value).__name__}: {value!r}")
