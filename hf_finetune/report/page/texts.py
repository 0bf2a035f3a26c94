"""Names and texts of other people's data, made fit for a page; escaping is the template's."""

from __future__ import annotations

import re

from hf_finetune.files.visible import visible

LONGEST = 240  # characters of a name in a table
# Control characters, line and paragraph breaks; and what no UTF-8 file can hold: halves of a pair.
_BREAKS, _HALVES = re.compile("[\x01-\x1f\x7f-\x9f\u2028\u2029]"), re.compile("[\x00\ud800-\udfff]")


def printable(text: str) -> str:
    """`text` in one line, with every character that neither HTML nor UTF-8 can hold shown as a blank or a mark,
    and with those that turn the words behind them round written out."""
    return visible(_HALVES.sub("\ufffd", _BREAKS.sub(" ", text)))


def short(text: str, most: int = LONGEST) -> str:
    """`text` in one line of at most `most` characters."""
    text = printable(text)
    return text if len(text) <= most else f"{text[: most - 1]}…"
