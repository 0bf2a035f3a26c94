"""Which module may import which: the floors of docs/architecture.md, read from the syntax trees.

Imports inside functions and under TYPE_CHECKING count: they say what a module knows of.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

PACKAGE = "hf_finetune"
ROOT = Path(__file__).resolve().parents[2] / PACKAGE

# Lowest first. A module imports those of its own folder and of the floors below, nothing else of the package. A module
# of the root may import its own floor too.
FLOORS = (
    ("errors", "files", "labels", "types"),
    ("section", "units"),
    ("arithmetic", "machine", "network", "preprocess", "report"),
    ("adapters", "backbones", "data", "quantizers", "tasks", "tracking", "training"),
    ("recipe",),
    ("plan", "result", "run"),
    ("doctor", "hub", "ladder"),
    ("pipeline",),
    ("__init__", "__main__", "cli"),
)
FLOOR_OF = {name: number for number, floor in enumerate(FLOORS, 1) for name in floor}
MOST_FILES = 20
MOST_FILES_AT_THE_ROOT = 8
# A folder's face is empty, unless it is a union of components or the face of the package itself.
UNIONS = ("adapters", "quantizers", "report/wording", "tasks", "tasks/metrics")
FILES = sorted(ROOT.rglob("*.py"))


def place(path: Path) -> str:
    """The folder or the top-level module that a file belongs to."""
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def imports(path: Path) -> Iterator[tuple[str, int]]:
    """(full name, line) of every import of the package's own modules, and of the names in them."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: imports here are absolute"
            names = [f"{node.module}.{name.name}" for name in node.names]
        elif isinstance(node, ast.Import):
            names = [name.name for name in node.names]
        else:
            continue
        for name in names:
            if name.split(".")[0] == PACKAGE and name != f"{PACKAGE}.__version__":
                yield name, node.lineno


def file_of(name: str) -> Path:
    """The file that `name` (a module, or something in one) comes from."""
    parts = name.split(".")[1:]
    for end in range(len(parts), -1, -1):
        for path in (ROOT.joinpath(*parts[:end]).with_suffix(".py"), ROOT.joinpath(*parts[:end], "__init__.py")):
            if path.is_file():
                return path
    raise AssertionError(f"{name} is imported and not there")


def where(path: Path, name: str, line: int) -> str:
    return f"{path.relative_to(ROOT.parent)}:{line} imports {name}"


def test_every_module_has_a_floor() -> None:
    assert {place(path) for path in FILES} == set(FLOOR_OF)


def test_nothing_imports_upwards_and_folders_of_a_floor_do_not_import_each_other() -> None:
    found = [
        where(path, name, line)
        for path in FILES
        for name, line in imports(path)
        if (target := place(file_of(name))) != place(path)
        and FLOOR_OF[target] >= FLOOR_OF[place(path)]
        and not (FLOOR_OF[target] == FLOOR_OF[place(path)] and path.parent == ROOT)
    ]
    assert found == []


def test_no_files_import_each_other_in_a_circle() -> None:
    edges = {path: {file_of(name) for name, _ in imports(path)} - {path} for path in FILES}
    left = dict(edges)
    while free := [path for path, targets in left.items() if not targets & set(left)]:
        for path in free:
            del left[path]
    circle = {
        path.relative_to(ROOT).as_posix(): sorted(target.relative_to(ROOT).as_posix() for target in targets & set(left))
        for path, targets in left.items()
    }
    assert circle == {}


def test_no_folder_is_too_full_to_be_looked_through() -> None:
    folders = {path.parent for path in FILES}
    counts = {folder: sum(path.parent == folder for path in FILES) for folder in folders}
    assert counts[ROOT] <= MOST_FILES_AT_THE_ROOT
    assert {folder.name: count for folder, count in counts.items() if count > MOST_FILES} == {}


def test_a_folders_face_is_empty_unless_it_is_a_union() -> None:
    """So that importing one module of a folder imports nothing that the module itself does not need."""
    faces = [path for path in FILES if path.name == "__init__.py" and path.stat().st_size]
    assert {face.parent.relative_to(ROOT).as_posix() for face in faces} == {".", "cli", *UNIONS}
