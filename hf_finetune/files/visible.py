"""Text of others as a terminal, a card or a page may show it: what would steer them is written out.

A class may be called anything. An escape character in its name moves the cursor, or sets the window's title; a mark of
direction turns the words behind it round, so that a card says something else than it seems to.
"""

from __future__ import annotations

import re

# Control characters but line feed and tab; marks and overrides of direction; separators of lines and paragraphs;
# halves of a pair.
_STEERING = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def visible(text: str) -> str:
    """The same with each of those as Python writes it: `\\x1b`, `\\u202e`."""
    return _STEERING.sub(lambda found: ascii(found[0])[1:-1], text)


def one_line(text: str) -> str:
    """A name that somebody else gave, of a file, a class or a column, within a message: line feed and tab too are
    written out, so that no part of a name reads like a line of ours."""
    return visible(text).replace("\n", "\\n").replace("\t", "\\t")
