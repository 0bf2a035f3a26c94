"""The last line of a card: a hash of the lines above it, by which a card that a person has edited is known."""

from __future__ import annotations

import hashlib
import re

_LINE = re.compile(r"\n<!-- written by hf_finetune; sha256 of the text above: ([0-9a-f]{64}) -->\n?\Z")


def marked(card: str) -> str:
    """The card with its last line. `card` ends with a newline."""
    return f"{card}\n<!-- written by hf_finetune; sha256 of the text above: {_hash(card)} -->\n"


def is_unedited(text: str) -> bool:
    """Whether the text is a card as `marked` wrote it, line endings aside."""
    text = text.replace("\r\n", "\n")
    match = _LINE.search(text)
    return match is not None and _hash(text[: match.start()]) == match[1]


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8")).hexdigest()
