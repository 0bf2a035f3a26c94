"""What commands print for people. Programs get documents (document.py)."""

from __future__ import annotations

import sys
from typing import TextIO

from hf_finetune.files.visible import visible


def say(text: object = "", *, end: str = "\n", flush: bool = False, file: TextIO | None = None) -> None:
    """Print it on standard output (or `file`), with nothing in it that steers a terminal: names are those of others."""
    print(visible(str(text)), end=end, flush=flush, file=file or sys.stdout)
