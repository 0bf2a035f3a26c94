"""Where `hf-finetune doctor` writes: doctor.html and findings.csv beside the run folder, and what is to be changed.

Owns that nothing is overwritten which a person may have edited, and that a place which cannot be written is told first.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from hf_finetune.doctor import words
from hf_finetune.doctor.findings import table, write_table
from hf_finetune.doctor.page import page
from hf_finetune.errors import MachineError
from hf_finetune.files.whole_file import write_whole
from hf_finetune.pipeline.data_faults.diagnose import Diagnosis
from hf_finetune.recipe.recipe import Recipe


@dataclass(frozen=True)
class Files:
    """Where the page and the table go, and what is to be changed (None: nowhere)."""

    folder: Path
    apply: Path | None


def claim_files(recipe: Recipe, out: str | None, apply: str | None) -> Files:
    """Where to write, before anything is done. Raises MachineError where that cannot be, or something is there."""
    run = recipe.output.folder
    folder = run.with_name(f"{run.name}.doctor") if out is None else Path(out).expanduser()
    wanted = None if apply is None else Path(apply).expanduser()
    if wanted is not None and wanted.exists():
        raise MachineError(f"--apply: a new file is expected, {wanted} is there already.", "Name another one.")
    if wanted is not None and not wanted.absolute().parent.is_dir():
        raise MachineError(f"--apply: a folder is expected at {wanted.parent}, found none.", "Make it first.")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise MachineError(
            f"--out: a folder that can be written is expected, {folder} is not one: {error.strerror or error}.",
            "Name another one.",
        ) from error
    return Files(folder, wanted)


def write_files(diagnosis: Diagnosis, files: Files, command: Callable[[Path], str]) -> list[tuple[str, Path]]:
    """What was written, and where. A findings.csv that says something else, edited perhaps, is kept beside the new one.
    `command`: what trains with the table at a path.

    Raises MachineError where the disk cannot take it.
    """
    from hf_finetune.report.page.fitting import fitted

    findings = diagnosis.examination.findings
    try:
        place = _free(files.folder / "findings.csv", table(findings))
        write_table(place, findings)
        if files.apply is not None:
            write_table(files.apply, [each for each in findings if each.action != "keep"])
        made = page(
            diagnosis.index.source,
            diagnosis.everything,
            words.lines(findings),
            diagnosis.notes,
            diagnosis.scores,
            command(files.apply or place),
        )
        html = files.folder / "doctor.html"
        write_whole(html, fitted(made))
    except OSError as error:
        raise MachineError(
            f"{error.filename or files.folder} cannot be written: {error.strerror or error}.",
            "Free some space, or name another folder with --out; the decoded images and features are kept.",
        ) from error
    applied = [] if files.apply is None else [("to apply", files.apply)]
    return [("page", html), ("table", place), *applied]


def _free(path: Path, text: str) -> Path:
    """`path`, or the next free name beside it where another text is there."""
    number, place = 1, path
    while place.exists() and place.read_bytes() != text.encode("utf-8"):
        number += 1
        place = path.with_name(f"{path.stem}-{number}{path.suffix}")
    return place
