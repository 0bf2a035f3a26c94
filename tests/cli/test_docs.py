"""`hf-finetune docs`: pages of the checkout or the wheel, whole or by topic."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from hf_finetune.cli.shipped.pages import NAMES, find, pages

REPO = Path(__file__).resolve().parents[2]
Cli = Callable[..., tuple[int, str, str]]


@pytest.mark.parametrize("name", NAMES)
def test_a_page_is_printed_as_it_is(name: str, cli: Cli) -> None:
    assert cli("docs", name) == (0, (REPO / "docs" / f"{name}.md").read_text("utf-8"), "")


def test_every_page_and_its_sections_are_listed(cli: Cli) -> None:
    code, out, _ = cli("docs")
    assert code == 0 and all(f"{name}: " in out for name in NAMES)
    assert "  My labels are in a CSV\n" in out and "  budget\n" in out
    listed = json.loads(cli("docs", "--json")[1])
    assert [page["topic"] for page in listed] == list(NAMES)
    assert [heading for page in listed for heading in page["sections"]] == [
        heading for page in pages() for heading in page.headings
    ]


def test_a_section_is_found_by_its_heading_and_by_words_of_it() -> None:
    (section,) = find("csv")
    assert section.text.startswith("## My labels are in a CSV\n") and "```csv" in section.text
    assert "## My folders are named otherwise" not in section.text
    assert find("GPU 8") == find("I have a GPU of 8 GB")
    (keys,) = find("budget")
    assert keys.page == "recipe-keys" and "`budget.time`" in keys.text


def test_every_section_is_reached_and_none_is_cut_in_code() -> None:
    for page in pages():
        for section in page.sections:
            assert section in find(section.heading)
            assert section.text.count("```") % 2 == 0


def test_a_word_of_no_heading_finds_what_speaks_of_it(cli: Cli) -> None:
    code, out, _ = cli("docs", "sort-into")
    assert code == 0 and out.startswith("## Predict on a folder\n") and "--sort-into" in out
    code, out, err = cli("docs", "validation")
    speaking = [section for page in pages() for section in page.sections if "validation" in section.text]
    assert (code, out) == (2, "") and len(speaking) > 10
    assert "No section is called 'validation'" in err and err.count(";") == 8 and err.rstrip().endswith("more")


@pytest.mark.parametrize(("written", "meant"), [("cokbook", "cookbook"), ("patiant", "patient"), ("csvv", "csv")])
def test_a_misspelt_topic_is_answered_with_the_close_one(written: str, meant: str, cli: Cli) -> None:
    code, out, err = cli("docs", written)
    assert (code, out) == (2, "") and f"Did you mean {meant}?" in err


def test_what_is_like_nothing_says_how_to_list_them(cli: Cli) -> None:
    assert "`hf-finetune docs` lists them" in cli("docs", "zzzzqqqq")[2]


def test_a_wheel_brings_the_pages() -> None:
    project = (REPO / "pyproject.toml").read_text("utf-8")
    for name in NAMES:
        assert f'"docs/{name}.md" = "hf_finetune/_shipped/docs/{name}.md"' in project


@pytest.mark.e2e
@pytest.mark.skipif(os.name != "posix", reason="pseudo-terminals of POSIX")
def test_it_is_paged_on_a_terminal_alone() -> None:
    import pty

    command = [sys.executable, "-m", "hf_finetune", "docs", "cookbook"]
    variables = {**os.environ, "PAGER": "sed s/^/paged:/", "TERM": "xterm", "PYTHONPATH": str(REPO)}
    variables.pop("MANPAGER", None)
    ours, theirs = pty.openpty()
    with subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, env=variables) as process:
        os.close(theirs)
        shown = b""
        while True:
            try:
                block = os.read(ours, 65536)
            except OSError:  # Linux says so of a terminal whose other end is closed
                break
            if not block:
                break
            shown += block
        assert process.wait(timeout=60) == 0
    os.close(ours)
    assert shown.startswith(b"paged:# Cookbook")
    plain = subprocess.run(command, capture_output=True, env=variables, check=True).stdout
    assert plain.startswith(b"# Cookbook")
