"""The fenced blocks of a page of documentation: commands as a person types them, Python, YAML."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def blocks(page: str, kind: str) -> list[str]:
    """The text of every block of this kind in a page of the repository, in order."""
    text = (ROOT / page).read_text(encoding="utf-8")
    return re.findall(rf"^```{kind}\n(.*?)^```", text, re.S | re.M)


def commands(page: str) -> list[str]:
    """Every command of the page, without its comment."""
    lines = [line for text in blocks(page, "bash") for line in text.splitlines()]
    return [line.split("  #")[0].strip() for line in lines if line.strip()]
