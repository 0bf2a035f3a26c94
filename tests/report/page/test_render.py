"""One file, escaped, that asks nothing of the network and stays small."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import replace
from html.parser import HTMLParser
from itertools import pairwise

import numpy as np
import pytest

from hf_finetune.report.page import charts
from hf_finetune.report.page.fitting import MOST_BYTES, fitted
from hf_finetune.report.page.render import render
from hf_finetune.report.page.structure import Page, Section, Table
from hf_finetune.report.page.texts import short
from hf_finetune.report.page.thumbnails import thumbnail
from tests.report.page.pages import NAMES, example_page, thumbs


class Seen(HTMLParser):
    """Tags, ids, headings, addresses and texts of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.ids: list[str] = []
        self.addresses: list[str] = []
        self.referred: list[str] = []
        self.texts: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        for key, value in attrs:
            self.ids += [value or ""] if key == "id" else []
            self.referred += [value or ""] if key in ("aria-labelledby",) else []
            self.referred += re.findall(r"url\(#([^)]+)\)", value or "")
            if key in ("src", "href", "xlink:href", "action", "data"):
                self.addresses.append(value or "")

    handle_startendtag = handle_starttag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


@pytest.fixture(scope="module")
def text() -> str:
    return render(example_page())


def test_the_same_page_gives_the_same_text(text: str) -> None:
    assert render(example_page()) == text


def test_names_are_shown_and_never_markup(text: str) -> None:
    seen = Seen(text)
    assert "script" not in seen.tags and "b" not in seen.tags
    shown = "".join(seen.texts)
    for name in ("<b>bold</b>", "</style><script>alert(1)</script>", "$5 & $6", "{{ 7 * 7 }}", "漢字 🐝", "w" * 200):
        assert name in shown
    assert "line break" in shown
    text.encode("utf-8")  # half a surrogate pair would not go
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f]", text)


def test_the_page_asks_for_nothing(text: str) -> None:
    seen = Seen(text)
    assert seen.addresses and all(each.startswith(("#", "data:")) for each in seen.addresses)
    assert "default-src &#39;none&#39;" in text or "default-src 'none'" in text
    assert not re.search(r"https?://|@import|url\((?!#)", text)


def test_ids_are_unique_and_every_reference_finds_its_own(text: str) -> None:
    seen = Seen(text)
    assert len(seen.ids) == len(set(seen.ids))
    inner = [each.removeprefix("#") for each in seen.addresses if each.startswith("#")]
    assert set(inner + seen.referred) <= set(seen.ids)


def test_pictures_have_the_colours_of_the_page_and_no_style_that_holds_for_it(text: str) -> None:
    pictures = re.findall(r"<svg.*?</svg>", text, flags=re.DOTALL)
    assert len(pictures) == 5
    for picture in pictures:
        assert "var(--" in picture and "currentColor" in picture
        assert not re.search(r"#0[0-9a-f]{5}\b", picture)  # a mark that no variable took the place of
        assert "<style" not in picture and "<metadata" not in picture


def test_headings_are_in_order(text: str) -> None:
    levels = [int(each) for each in re.findall(r"<h([1-6])", text)]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(later - earlier <= 1 for earlier, later in pairwise(levels))


def test_a_large_page_loses_images_and_says_so_and_keeps_its_facts() -> None:
    many = example_page(images=2_000)
    assert len(render(many).encode()) > MOST_BYTES
    text = fitted(many)
    assert len(text.encode()) < MOST_BYTES
    kept = text.count("<img")
    assert 100 < kept < 2_000
    assert f"{kept} of 2000 images are shown" in text
    assert fitted(example_page()) == render(example_page())


def test_a_page_that_is_too_large_without_images_keeps_its_facts() -> None:
    table = Table("All", ("name",), tuple((f"row {n}",) for n in range(400)))
    page = replace(example_page(), sections=(Section("Facts", (), (table,)), *example_page(100).sections))
    text = fitted(page, most=60_000)
    assert "<img" not in text and "row 399" in text


def test_a_thumbnail_is_a_small_jpeg() -> None:
    import base64
    import io

    from PIL import Image

    uri = thumbnail(np.full((3, 120, 240), 200, np.uint8))
    image = Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2])))
    assert (image.format, image.size) == ("JPEG", (96, 48))
    assert abs(image.getpixel((40, 20))[0] - 200) < 3
    assert Image.open(io.BytesIO(base64.b64decode(thumbnail(np.zeros((3, 20, 20), np.uint8))[23:]))).size == (20, 20)
    with pytest.raises(ValueError, match=r"uint8 \[3, H, W\] is expected"):
        thumbnail(np.zeros((20, 20, 3), np.uint8))


def test_a_matrix_of_awkward_names_and_an_empty_row_is_drawn() -> None:
    picture = charts.matrix("m", NAMES[:3], np.array([[5, 0, 1], [0, 0, 0], [2, 2, 2]]))
    assert "&lt;b&gt;bold&lt;/b&gt;" in picture and "$5 &amp; $6" in picture and ">5<" in picture


def test_settings_of_the_users_own_change_no_picture_and_stay_as_they_are() -> None:
    import matplotlib as mpl

    plain = charts.bars("x", {"a": 1.0}, label="b")
    with mpl.rc_context({"axes.grid": True, "font.size": 30, "lines.linewidth": 9}):
        assert charts.bars("x", {"a": 1.0}, label="b") == plain
        assert mpl.rcParams["font.size"] == 30


def test_a_histogram_says_what_its_bins_hold() -> None:
    picture, bins = charts.histogram("h", np.arange(48.0), label="EUR")
    assert picture.startswith("<svg") and sum(count for _, count in bins) == 48
    assert bins[0] == ("0 to 1.958", 2)


def test_one_value_and_none_that_differ_are_drawn_without_a_warning() -> None:
    same = np.full(3, 7.0)
    pictures = [
        charts.bars("b", {"a": 0.0, "b": 0.0}, label="MB"),
        charts.scatter("s", same, same, log=True),
        charts.scatter("t", same[:1], same[:1]),
        charts.histogram("h", same, label="x")[0],
        charts.reliability("r", [0.5], [1.0], [1]),
        charts.lines("l", {}, across="s", up="y", points={"probe": (1.0, 0.5)}),
        charts.matrix("m", ["a"], np.array([[3]])),
    ]
    assert all(each.startswith("<svg") for each in pictures)


def test_a_long_name_is_cut() -> None:
    assert short("ab\ncd") == "ab cd"
    assert short("x" * 300) == "x" * 239 + "…"


@pytest.mark.e2e
def test_a_page_is_rendered_without_matplotlib_and_drawn_without_pyplot() -> None:
    code = (
        "import sys\nfrom hf_finetune.report.page import charts, fitting, render, structure, svg, thumbnails\n"
        "render.render(structure.Page('a', 'b', ()))\nassert 'matplotlib' not in sys.modules\n"
        "charts.bars('x', {'a': 1}, label='b')\nassert 'matplotlib.pyplot' not in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr


def test_an_empty_page_is_a_page() -> None:
    assert "<h1><bdi>Nothing</bdi></h1>" in render(Page("Nothing", "to say", ()))


def test_noise_is_what_the_limit_is_tried_with() -> None:
    assert len(thumbs(3)[0].uri) > 4_000
