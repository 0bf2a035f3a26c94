"""Nothing in a name steers a terminal, a card or a page."""

from __future__ import annotations

import logging
import sys

import pytest

from hf_finetune.cli.log import configure_logging
from hf_finetune.cli.plain import say
from hf_finetune.files.visible import visible
from hf_finetune.report.page.texts import printable
from hf_finetune.report.tables import escape

STEERING = {
    "an escape sequence": ("cat\x1b[2J", r"cat\x1b[2J"),
    "a title of the window": ("\x1b]0;x\x07", r"\x1b]0;x\x07"),
    "a carriage return": ("good\rbad", r"good\rbad"),
    "an override of direction": ("safe\u202egpj.exe", r"safe\u202egpj.exe"),
    "an isolate": ("a\u2066b\u2069", r"a\u2066b\u2069"),
    "a control character of eight bits": ("a\x9bb", r"a\x9bb"),
    "half of a pair": ("a\udc80", r"a\udc80"),
}


@pytest.mark.parametrize("kind", STEERING)
def test_what_steers_is_written_out(kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    text, shown = STEERING[kind]
    assert visible(text) == shown
    say(text)
    say(text, file=sys.stderr)
    configure_logging(debug=False)
    logging.getLogger("hf_finetune.test").warning("class %s", text)
    found = capsys.readouterr()
    assert found.out == f"{shown}\n"
    assert found.err == f"{shown}\nclass {shown}\n"
    for told in (escape(text), printable(text)):
        assert not set(told) & set("\x1b\x07\r\x9b\u202e\u2066\u2069\udc80")


@pytest.mark.parametrize("text", ["ant\nbee\tfly", "größe", "猫", "👩‍🔬", "می‌خواهم", "עברית"])
def test_writing_of_all_people_stays(text: str) -> None:
    assert visible(text) == text
