"""Which module may import which (DESIGN.md, "Dependency direction"), read from the syntax trees.

Imports inside functions and under TYPE_CHECKING count: they say what a module knows of.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = "hf_finetune"
ROOT = Path(__file__).resolve().parents[2] / PACKAGE

# A component's folder may import these and itself, nothing else of the package.
COMPONENTS = ("adapters", "backbones", "data", "quantizers", "report", "starter", "tasks", "training")
BELOW_COMPONENTS = ("errors", "types", "section", "fetching", "patience", "pixels", "stock")
# The rest, lowest first. A module may import those of its own row and of the rows above it in this table. `recipe` and
# what follows may import the sections of components too; `BINDING` and what follows all of a component.
LAYERS = (
    ("errors",),
    ("types", "section"),
    ("fetching", "patience", "pixels", "stock"),
    ("recipe_errors", "recipe_yaml", "recipe"),
    ("allocator", "collector", "machine", "memory", "plan", "processes", "rates"),
    COMPONENTS,
    (
        "checkpoints",
        "equivalence",
        "evaluation",
        "held",
        "hub",
        "inference",
        "loading",
        "manifest",
        "merging",
        "peak",
        "run_folder",
        "saving",
    ),
    ("ready",),
    ("images",),
    ("ladder",),
    ("finishing",),
    ("pipeline",),
    ("lr_find", "rank"),
    ("cli",),
    ("__main__", "__init__"),
)
# What the recipe is made of: the sections, each beside its component.
SECTIONS = ("adapters", "backbones", "data", "hub", "ladder", "quantizers", "tasks", "training")
ABOVE_THE_PIPELINE = ("lr_find", "rank", "cli", "__main__", "__init__")

FILES = sorted(ROOT.rglob("*.py"))
RANKS = {name: rank for rank, row in enumerate(LAYERS) for name in row}


def place(path: Path) -> str:
    """The folder or the top-level module that a file belongs to."""
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def imports(path: Path) -> Iterator[tuple[str, str, int]]:
    """(folder or top-level module, full name, line) of every import of the package's own modules."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: imports here are absolute"
            full = [node.module or ""] if node.module != PACKAGE else [f"{PACKAGE}.{name.name}" for name in node.names]
        elif isinstance(node, ast.Import):
            full = [name.name for name in node.names]
        else:
            continue
        for name in full:
            parts = name.split(".")
            if parts[0] == PACKAGE and parts[1:] != ["__version__"]:
                yield (parts[1] if len(parts) > 1 else "__init__"), name, node.lineno


def where(path: Path, name: str, line: int) -> str:
    return f"{path.relative_to(ROOT.parent)}:{line} imports {name}"


def test_every_module_has_a_place_in_the_table() -> None:
    assert {place(path) for path in FILES} - set(RANKS) == set()


def test_components_import_nothing_but_themselves_and_what_lies_below_all() -> None:
    found = [
        where(path, name, line)
        for path in FILES
        if place(path) in COMPONENTS
        for target, name, line in imports(path)
        if target not in (place(path), *BELOW_COMPONENTS)
    ]
    assert found == []


def test_the_rest_imports_only_downwards() -> None:
    recipe = RANKS["recipe"]
    found = [
        where(path, name, line)
        for path in FILES
        if place(path) not in COMPONENTS
        for target, name, line in imports(path)
        if RANKS[target] > RANKS[place(path)] and not (RANKS[place(path)] >= recipe and target in SECTIONS)
    ]
    assert found == []


def test_only_the_command_line_and_the_package_itself_import_the_pipeline() -> None:
    found = [
        where(path, name, line)
        for path in FILES
        if place(path) not in (*ABOVE_THE_PIPELINE, "pipeline")
        for target, name, line in imports(path)
        if target in ("pipeline", "cli", "lr_find", "rank", "__main__", "__init__")
    ]
    assert found == []


@pytest.mark.parametrize("module", ["recipe", "plan", "rates", "machine", "memory", "processes"])
def test_what_runs_before_torch_imports_sections_from_components_and_nothing_else(module: str) -> None:
    """The section classes are what a component's folder exports."""
    targets = {name for target, name, _ in imports(ROOT / f"{module}.py") if target in COMPONENTS}
    assert targets <= {f"{PACKAGE}.{folder}" for folder in SECTIONS}
