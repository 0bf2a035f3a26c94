"""Pages in a real Chromium: nothing is asked for, nothing is wider than a phone, and axe finds nothing serious."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from hf_finetune.report.page.content.maker import Maker
from hf_finetune.report.page.content.pages import run_page
from hf_finetune.report.page.fitting import MOST_BYTES
from hf_finetune.report.page.render import render
from tests.browser import DESKTOP, PHONE, opened
from tests.report.page.evidences import KINDS, LOG, classes, report_of
from tests.report.page.pages import example_page

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A page of one of everything, of every kind of task, and of a thousand classes."""
    folder = tmp_path_factory.mktemp("pages")
    texts = {"everything": render(example_page())}
    for kind, make in KINDS.items():
        evidence = make()
        texts[kind] = run_page(report_of(evidence), evidence, LOG, Maker())
    many = classes([f"{n} {'long & <wide> ' * 13}" for n in range(1_000)], 2_000)
    texts["a thousand classes"] = run_page(report_of(many), many, LOG, Maker())
    for name, text in texts.items():
        (folder / f"{name}.html").write_text(text, encoding="utf-8")
    return {name: folder / f"{name}.html" for name in texts}


each_page = pytest.mark.parametrize("name", ["everything", *KINDS])


@each_page
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_serious_is_found_by_axe(chromium: Any, pages: dict[str, Path], name: str, scheme: str) -> None:
    with opened(chromium, pages[name], scheme=scheme) as seen:
        seen.page.evaluate("document.querySelectorAll('details').forEach(each => { each.open = true })")
        assert seen.violations() == []


@each_page
@pytest.mark.parametrize("width", [PHONE, DESKTOP])
def test_nothing_is_asked_for_or_complained_of_or_wider_than_the_window(
    chromium: Any, pages: dict[str, Path], name: str, width: int
) -> None:
    with opened(chromium, pages[name], width=width) as seen:
        seen.page.evaluate("document.querySelectorAll('details').forEach(each => { each.open = true })")
        content, window = seen.widths()
        assert content <= window
        assert seen.said == []
        assert seen.asked == [pages[name].absolute().as_uri()]


def test_two_thousand_images_of_a_thousand_classes_load(chromium: Any, pages: dict[str, Path]) -> None:
    path = pages["a thousand classes"]
    assert path.stat().st_size < MOST_BYTES
    with opened(chromium, path, width=PHONE) as seen:
        content, window = seen.widths()
        assert content <= window and seen.said == []
        broken = "[...document.images].filter(each => !each.complete || !each.naturalWidth).length"
        assert seen.page.evaluate("document.images.length") > 40 and seen.page.evaluate(broken) == 0
        assert seen.page.evaluate("document.querySelectorAll('tbody tr').length") > 1_000


def test_the_policy_keeps_the_page_from_asking_even_if_told_to(chromium: Any, tmp_path: Path) -> None:
    path = tmp_path / "told.html"
    text = render(example_page()).replace("</main>", "<img src='http://127.0.0.1:9/x.png'><script>1</script></main>")
    path.write_text(text, encoding="utf-8")
    with opened(chromium, path) as seen:
        assert any("Content Security Policy" in line and "127.0.0.1" in line for line in seen.said)
        assert any("Content Security Policy" in line and "script" in line for line in seen.said)


def test_both_schemes_and_paper_have_colours_of_their_own(chromium: Any, pages: dict[str, Path]) -> None:
    colours = "(() => { const at = getComputedStyle(document.body); return [at.backgroundColor, at.color] })()"
    with opened(chromium, pages["classes"], scheme="light") as light:
        bright = light.page.evaluate(colours)
    with opened(chromium, pages["classes"], scheme="dark") as dark:
        assert dark.page.evaluate(colours) != bright
        dark.page.emulate_media(media="print", color_scheme="dark")
        assert dark.page.evaluate(colours) == bright  # ink on white paper
