"""`hf-finetune demo` in a real Chromium: pictures are answered as `predict` does, and nobody else is asked."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import hf_finetune
from hf_finetune.cli import main
from tests.browser import DESKTOP, PHONE, Opened
from tests.pipeline.demo.conftest import NAMED, Running

pytestmark = pytest.mark.e2e
SLOW = 60_000  # milliseconds, on a machine that others use


@contextmanager
def visited(chromium: Any, demo: Running, *, width: int = DESKTOP, scheme: str = "light") -> Iterator[Opened]:
    """The page in a window of its own. It may say nothing but warnings, and ask nobody else."""
    context = chromium.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
    seen = Opened(context.new_page())
    seen.page.set_default_timeout(SLOW)
    seen.page.on("console", lambda message: seen.said.append(f"{message.type}: {message.text}"))
    seen.page.on("pageerror", lambda error: seen.said.append(f"error: {error}"))
    seen.page.on("request", lambda request: seen.asked.append(request.url))
    try:
        seen.page.goto(demo.address)
        seen.page.wait_for_selector("h1")
        yield seen
        assert [each for each in seen.said if not each.startswith("warning")] == []
        elsewhere = [url for url in seen.asked if not url.startswith((demo.address, "data:", f"blob:{demo.address}"))]
        assert elsewhere == []
    finally:
        context.close()


def give(page: Any, picture: Path) -> None:
    """Choose a file, as a person does who clicks on the place for a picture, and wait for what is said of it."""
    before = page.locator(".answer").first.inner_html() if page.locator(".answer").count() else ""
    page.locator("input[type=file]").first.set_input_files(picture)
    page.wait_for_function(
        "before => { const it = document.querySelector('.answer'); return it && it.innerHTML !== before }", arg=before
    )


@pytest.fixture
def noise(tmp_path: Path) -> Path:
    pixels = np.random.default_rng(0).integers(0, 2, (64, 64, 3), dtype=np.uint8) * 255
    Image.fromarray(pixels).save(tmp_path / "noise.png")
    return tmp_path / "noise.png"


@pytest.mark.parametrize(("width", "scheme"), [(PHONE, "light"), (DESKTOP, "dark")])
def test_a_picture_is_answered_as_predict_answers_it(
    chromium: Any, demo: Running, trained: Path, folder: Path, width: int, scheme: str
) -> None:
    picture = folder / "train" / "1" / "0.jpg"
    (expected,) = hf_finetune.load(trained).predict(picture)
    with visited(chromium, demo, width=width, scheme=scheme) as seen:
        page = seen.page
        assert page.title() == "run"
        for name in NAMED.values():
            assert name in page.locator("p.about").first.inner_text()
        give(page, picture)
        assert page.locator(".said").inner_text() == expected.label == NAMED["1"]
        shown = [each.inner_text().split("\n") for each in page.locator("ul.bars li").all()]
        ranked = sorted(zip(expected.names, expected.probabilities, strict=True), key=lambda pair: -pair[1])
        assert [(name, share) for name, share, *_ in shown] == [(name, f"{share:.3f}") for name, share in ranked]
        assert f"distance from them is {expected.distance:.2f}" in page.locator(".answer").inner_text()
        page.wait_for_selector("ul.nearest li")
        first = page.locator("ul.nearest li").first.inner_text().split("\n")
        assert first[0] == NAMED["1"] and page.locator("ul.nearest li").count() == 6
        page.get_by_role("button", name="Show what the model looked at").click()
        page.wait_for_selector("img.seen")
        assert page.evaluate("document.querySelector('img.seen').naturalWidth") >= 2 * 224
        content, window = seen.widths()
        assert content <= window
        assert seen.violations() == []


def test_an_image_unlike_those_of_training_is_said_to_be(
    chromium: Any, demo: Running, trained: Path, noise: Path, folder: Path
) -> None:
    (expected,) = hf_finetune.load(trained).predict(noise)
    assert expected.unlike
    with visited(chromium, demo) as seen:
        give(seen.page, noise)
        assert f"Unlike the training images: its distance from them is {expected.distance:.2f}" in seen.page.locator(
            ".unlike"
        ).inner_text().replace("\n", " ")
        give(seen.page, folder / "train" / "1" / "1.jpg")  # the next picture is not marked by the last
        assert seen.page.locator(".unlike").count() == 0


def test_a_file_that_is_no_image_or_too_large_has_the_words_of_predict(
    chromium: Any, demo: Running, trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "<i>broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 and no more")
    Image.new("1", (9000, 6000)).save(tmp_path / "large.png")
    with visited(chromium, demo) as seen:
        for name in ("<i>broken.jpg", "large.png"):
            assert main(["predict", str(trained), str(tmp_path / name)]) == 2
            said = capsys.readouterr().err.removeprefix("hf-finetune: ").replace(f"{tmp_path}/", "").splitlines()
            lines = [line.strip() for line in said if "answered in" not in line and line.strip()]
            give(seen.page, tmp_path / name)
            assert seen.page.locator(".problem").all_inner_texts() == lines
            seen.page.get_by_role("button", name="Show what the model looked at").click()
            seen.page.wait_for_function("count => document.querySelectorAll('.problem').length > count", arg=len(lines))


def test_a_picture_can_be_pasted(chromium: Any, demo: Running, trained: Path, tmp_path: Path) -> None:
    Image.new("RGB", (40, 40), (255, 255, 255)).save(tmp_path / "white.png")
    (expected,) = hf_finetune.load(trained).predict(tmp_path / "white.png")
    with visited(chromium, demo) as seen:
        seen.page.context.grant_permissions(["clipboard-read", "clipboard-write"])
        seen.page.evaluate("""async () => {
            const canvas = document.createElement("canvas");
            canvas.width = canvas.height = 40;
            const pen = canvas.getContext("2d");
            pen.fillStyle = "white";
            pen.fillRect(0, 0, 40, 40);
            const blob = await new Promise(done => canvas.toBlob(done, "image/png"));
            await navigator.clipboard.write([new ClipboardItem({"image/png": blob})]);
        }""")
        seen.page.get_by_role("button", name="Paste from clipboard").click()
        seen.page.wait_for_selector(".answer .said")
        assert seen.page.locator(".said").inner_text() == expected.label
        assert f"distance from them is {expected.distance:.2f}" in seen.page.locator(".answer").inner_text()


def test_nobody_else_is_asked_by_the_process(demo: Running) -> None:
    asked = set(demo.asked.read_text("utf-8").split())
    assert asked == {"127.0.0.1"}  # that the port is free there
    assert list(demo.place.iterdir()) == []
