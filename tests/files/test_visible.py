"""Nothing in a name steers a terminal, a card or a page."""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path

import pytest

from hf_finetune.cli import main
from hf_finetune.cli.log import configure_logging
from hf_finetune.cli.plain import say
from hf_finetune.data.sources.source import listing
from hf_finetune.files.visible import one_line, visible
from hf_finetune.report.page.texts import printable
from hf_finetune.report.tables import escape
from tests.cli.photos import write_photos

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


def test_a_name_within_a_message_stays_on_its_line() -> None:
    assert one_line("a\nb\tc\rd\x1b[2Jé") == r"a\nb\tc\rd\x1b[2Jé"
    assert listing(["ok", "x\nhf-finetune: all is well"]) == r"ok, x\nhf-finetune: all is well"


HOSTILE = "x\nhf-finetune: all is well"


@pytest.mark.e2e
@pytest.mark.skipif(os.name == "nt", reason="no such names there")
@pytest.mark.parametrize("where", ["an image that is missing", "an image that is none", "a class", "a file beside"])
def test_a_line_feed_in_a_name_of_the_data_makes_no_line_of_a_message(
    tmp_path: Path, where: str, capsys: pytest.CaptureFixture[str]
) -> None:
    photos = write_photos(tmp_path / "photos", per_class=12, splits=("train",)) / "train"
    name, line = f"{HOSTILE}.jpg", [f"output.dir={tmp_path / 'run'}", "data.max_bad_share=0"]
    if where == "an image that is missing":
        rows = [f"{path.relative_to(photos)},{path.parent.name}" for path in photos.rglob("*.jpg")]
        (tmp_path / "photos.csv").write_text("\n".join(["image,label", *rows, f'"{name}",1']) + "\n", "utf-8")
        line += [f"data.name={tmp_path / 'photos.csv'}", f"data.image_folder={photos}"]
    elif where == "an image that is none":
        (photos / "1" / name).write_bytes(b"")
    elif where == "a class":
        (photos / HOSTILE).mkdir()
        (photos / HOSTILE / "0.jpg").write_bytes(next(photos.rglob("*.jpg")).read_bytes())
    else:
        (photos / "1" / f"{HOSTILE}.jpg").symlink_to("nothing")
    line = [*line, "ladder=[probe]", "model.name=builtin:starter"]
    main(["train" if where == "an image that is none" else "check", f"data.name={photos}", *line])
    found = capsys.readouterr()
    told = found.out + found.err
    assert r"x\nhf-finetune: all is well" in told, told
    assert "\nhf-finetune: all is well" not in told
