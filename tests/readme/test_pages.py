"""The pages of documentation: links resolve, what is cited exists, and versions agree."""

from __future__ import annotations

import re
import shlex
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

import hf_finetune
from hf_finetune.cli import VERBS, build_parser
from tests.readme.blocks import ROOT, commands

PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *ROOT.glob("*/README.md")])
each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
FOLDERS = ("hf_finetune", "tests", "benchmarks", "dev", "recipes", "accelerate_configs", "docs")
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
# A page, and behind a comma the section in quotes, where there is one; a comment may break the line between the two.
CITED = re.compile(r'(?<![\w/.-])(docs/[\w/.-]+\.md)(?:,[\s#]+"([^"]+)")?')
LONGEST = 120
# What a table, a picture or a link makes longer cannot be broken.
UNBREAKABLE = re.compile(r"^\s*(\||!\[|- \[[^\]]*\]\(\S*\)$)|https?://")


def text_of(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def sources() -> Iterator[Path]:
    """Every text of the project that may cite a page."""
    yield from (path for path in ROOT.iterdir() if path.suffix in {".md", ".toml", ".cff", ".yaml"})
    yield ROOT / "Makefile"
    for folder in FOLDERS:
        yield from (path for path in (ROOT / folder).rglob("*") if path.suffix in {".py", ".md", ".yaml"})


def sections(page: Path) -> list[str]:
    return re.findall(r"^#+ (.*)$", text_of(page), re.M)


def anchor(heading: str) -> str:
    """The anchor that GitHub gives a heading."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


@each_page
def test_every_relative_link_resolves(page: Path) -> None:
    broken = []
    for target in LINK.findall(text_of(page)):
        if target.startswith(("http://", "https://", "mailto:")):
            continue
        name, _, place = target.partition("#")
        there = (page.parent / name).resolve() if name else page
        if not there.exists() or (place and place not in map(anchor, sections(there))):
            broken.append(target)
    assert broken == []


def test_every_cited_page_and_section_exists() -> None:
    missing = []
    found = 0
    for path in sources():
        # The Hub's own documentation is cited by its repository's paths.
        if "hub_server" in path.parts or path.name == "front_matter.py":
            continue
        for page, section in CITED.findall(text_of(path)):
            found += 1
            there = ROOT / page
            words = " ".join(section.replace("#", " ").split())
            if not there.is_file() or (words and not any(words in heading for heading in sections(there))):
                missing.append(f"{path.relative_to(ROOT)}: {page}, {section}")
    assert missing == []
    assert found > 30


@each_page
def test_lines_are_not_too_long_to_read(page: Path) -> None:
    if page.name == "tables.md":
        pytest.skip("made by benchmarks/table.py")
    long = [line for line in text_of(page).splitlines() if len(line) > LONGEST and not UNBREAKABLE.search(line)]
    assert long == []


def test_every_experiment_has_a_link_on_the_page_of_figures() -> None:
    linked = LINK.findall(text_of(ROOT / "docs" / "results" / "README.md"))
    logged = re.findall(r"^## (.*)$", text_of(ROOT / "docs" / "experiments.md"), re.M)
    assert [title for title in logged if f"../experiments.md#{anchor(title)}" not in linked] == []
    assert all(re.match(r"\d{4}-\d\d-\d\d", title) for title in logged)


def test_every_file_and_name_of_the_architecture_page_is_there() -> None:
    text = text_of(ROOT / "docs" / "architecture.md")
    named = [name for name in re.findall(r"`([\w./-]+/[\w.-]+\.\w+|[\w-]+\.(?:py|md))`", text) if "NAME" not in name]
    files = [path.relative_to(ROOT).as_posix() for path in ROOT.rglob("*") if path.suffix in {".py", ".md", ".toml"}]
    assert [name for name in named if not any(f"/{file}".endswith(f"/{name}") for file in files)] == []
    code = "\n".join(text_of(path) for path in (ROOT / "hf_finetune").rglob("*.py"))
    lists = text.partition("## How to add")[2]
    words = {word for word in re.findall(r"`(_?[A-Za-z]\w+)(?:\([^`]*\))?`", lists) if word != "NAME"}
    assert {word for word in words if not re.search(rf"\b{word}\b", code)} == set()
    assert len(named) > 40 and len(words) > 20


@each_page
def test_every_command_is_one_that_the_program_takes(page: Path) -> None:
    written = [shlex.split(command) for command in commands(page.relative_to(ROOT).as_posix())]
    assert [words for words in written if words[0] == "hf-finetune" and not _is_taken(words[1:])] == []


def _is_taken(arguments: list[str]) -> bool:
    """Whether the parser knows the verb and every option; it ends the process where it does not."""
    try:
        build_parser().parse_args(arguments)
    except SystemExit as end:
        return end.code == 0
    return True


def test_every_verb_is_in_the_cookbook() -> None:
    named = set(re.findall(r"`hf-finetune ([a-z-]+)", text_of(ROOT / "docs" / "cookbook.md")))
    assert set(VERBS) <= named


def test_the_version_is_the_same_everywhere() -> None:
    project = tomllib.loads(text_of(ROOT / "pyproject.toml"))["project"]
    citation = yaml.safe_load(text_of(ROOT / "CITATION.cff"))
    assert project["version"] == hf_finetune.__version__ == citation["version"]
    assert citation["cff-version"] == "1.2.0"
    assert {"message", "title", "authors"} <= set(citation)
    assert citation["license"] == project["license"]


def test_the_package_says_that_it_is_typed() -> None:
    assert (ROOT / "hf_finetune" / "py.typed").is_file()


def test_the_hooks_are_of_this_project_alone() -> None:
    hooks = yaml.safe_load(text_of(ROOT / ".pre-commit-config.yaml"))
    assert [repo["repo"] for repo in hooks["repos"]] == ["local"]
