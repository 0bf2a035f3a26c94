"""report.html: at the end of a run, again by its verb, of other data by `evaluate`, and never what a run fails by."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hf_finetune.cli import main
from tests.browser import DESKTOP, PHONE, opened
from tests.cli.photos import write_photos
from tests.cli.recipes import write_recipe

pytestmark = pytest.mark.e2e

Cli = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, tiny: Path) -> Path:
    """The run folder of a training on augmented images, its page made without haste; the photos lie beside it."""
    place = tmp_path_factory.mktemp("trained")
    photos = write_photos(place / "photos")
    recipe = write_recipe(place, model=tiny, data=photos, epochs=1, learning_rate=0.003)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("hf_finetune.pipeline.pages.at_the_end.LEAST_S", 600.0)
        assert main(["--quiet", "train", str(recipe), "ladder=[full]", "augment.mixup=0.3", "augment.erasing=0.5"]) == 0
    return place / "run"


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Path:
    """A copy of it that a test may change; its photos stay where they were."""
    return Path(shutil.copytree(trained, tmp_path / "run"))


def page(run: Path, name: str = "report.html") -> str:
    return (run / name).read_text(encoding="utf-8")


def test_a_run_ends_with_a_page_that_tells_what_run_json_does(trained: Path) -> None:
    text, report = page(trained), json.loads((trained / "run.json").read_text("utf-8"))
    score = report["test"]
    assert f"Accuracy on test: {100 * score['accuracy']:.1f} % (95 % interval" in text
    assert (
        "Augmentation as the model saw it" in text
        and "What it looked at" in text
        and "Left out of this page" not in text
    )
    assert text.count("<svg") >= 4 and text.count('alt="Thumbnail of train/') == 24  # of six images four each
    assert text.count('alt="Thumbnail of test/') >= 6
    assert "n⁄a" in text and "grün" in text and str(trained.parent) not in text
    assert not list(trained.glob("*.partial"))


def test_the_page_opens_in_a_browser(chromium: Any, trained: Path) -> None:
    for width in (PHONE, DESKTOP):
        for scheme in ("light", "dark"):
            with opened(chromium, trained / "report.html", width=width, scheme=scheme) as seen:
                seen.page.evaluate("document.querySelectorAll('details').forEach(each => { each.open = true })")
                content, window = seen.widths()
                assert content <= window
                assert (seen.said, len(seen.asked), seen.violations()) == ([], 1, [])


def test_the_verb_makes_it_again_of_what_the_folder_holds(run: Path, cli: Cli) -> None:
    before = page(run)
    (run / "report.html").unlink()
    code, out, _ = cli("report", run)
    assert (code, out) == (0, f"{run / 'report.html'}\n")
    again = page(run)
    assert "augmented images (a run draws them as it ends)" in again

    def images(text: str) -> list[str]:
        text = text.partition("Augmentation as the model saw it</bdi></h2>")[0]
        return re.findall(r'src="(data:image/jpeg[^"]+)" alt="Thumbnail of test/', text)

    assert images(again) and set(images(again)) <= set(images(before))
    for number in (2, 3, 4):  # what is confused, each class, calibration
        told = re.search(rf'<section id="section-{number}".*?</section>', before, flags=re.DOTALL)
        assert told is not None and told[0] in again
    assert "What it looked at" in again


def test_images_that_moved_are_named_and_found_where_they_are_now(run: Path, trained: Path, cli: Cli) -> None:
    photos, moved = trained.parent / "photos", trained.parent / "moved"
    photos.rename(moved)
    try:
        before = page(run)
        code, out, err = cli("report", run)
        text = page(run, "report-without-images.html")
        assert code == 0 and out == f"{run / 'report-without-images.html'}\n" and page(run) == before
        assert "Images are left out. data.name: the images of the run are expected where they were" in text
        assert "Images are left out." in err
        assert "<img" not in text and text.count("<svg") >= 4
        assert cli("report", run, f"data.name={moved}")[0] == 0
        assert 'alt="Thumbnail of test/' in page(run)
    finally:
        moved.rename(photos)


def test_what_is_no_finished_run_is_said(tmp_path: Path, run: Path, cli: Cli) -> None:
    code, _, err = cli("report", tmp_path / "nothing")
    assert (code, "the folder of a finished run (output.dir) is expected, found no run.json in it." in err) == (2, True)
    (run / "run.json").unlink()
    code, _, err = cli("report", run)
    assert (code, "found one that is not finished." in err, "Go on with `hf-finetune train" in err) == (2, True, True)


def test_a_damaged_report_of_a_run_is_said(run: Path, cli: Cli) -> None:
    content = json.loads((run / "run.json").read_text("utf-8"))
    del content["rungs"]
    (run / "run.json").write_text(json.dumps(content), encoding="utf-8")
    code, _, err = cli("report", run)
    assert (code, "run.json is not as a run writes it: rungs: Field required." in err) == (2, True)


def test_a_page_is_written_over_no_file(run: Path, cli: Cli, tmp_path: Path) -> None:
    precious = tmp_path / "precious.html"
    precious.write_text("precious", encoding="utf-8")
    code, _, err = cli("evaluate", run, "--report", precious)
    assert code == 2 and "a new file is expected" in err and precious.read_text(encoding="utf-8") == "precious"


def test_without_predictions_the_facts_are_told(run: Path, cli: Cli) -> None:
    (run / "predictions.csv").unlink()
    assert cli("report", run)[0] == 0
    text = page(run, "report-without-images.html")
    assert "predictions.csv is not in the run" in text and "Each class, the worst first" in text
    (run / "report.html").unlink()
    assert cli("report", run)[0] == 0
    assert page(run) == text


def test_an_evaluation_writes_a_page_of_other_data(
    run: Path, cli: Cli, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    other = write_photos(tmp_path_factory.mktemp("other"), splits=("test",), per_class=4)
    place = tmp_path / "other.html"
    code, out, _ = cli("evaluate", run, "--data", other, "--report", place)
    assert (code, out.endswith(f"Report: {place}\n")) == (0, True)
    text = place.read_text(encoding="utf-8")
    assert "Accuracy on test: " in text and "12 images)" in text and "How it was trained" not in text
    assert "What it looked at" in text
    for wrong, said in ((tmp_path / "other.pdf", "a file to write HTML to"), (tmp_path / "no" / "a.html", "no folder")):
        code, _, err = cli("evaluate", run, "--data", other, "--report", wrong)
        assert (code, said in err) == (2, True)


def test_a_page_that_cannot_be_made_is_one_line_and_fails_nothing(recipe: Path, tmp_path: Path, cli: Cli) -> None:
    place = tmp_path / "run" / "report.html"
    assert cli("train", recipe, "ladder=[probe]")[0] == 0
    (tmp_path / "run" / "run.json").unlink()
    place.unlink()
    (place / "in the way").mkdir(parents=True)
    code, out, err = cli("train", recipe, "ladder=[probe]")
    assert (code, "report  " in out) == (0, False)
    (line,) = [line for line in err.splitlines() if "report.html" in line]
    assert "was not made: IsADirectoryError, " in line or "was not made: PermissionError, " in line
    assert "Traceback" not in err and (tmp_path / "run" / "run.json").is_file()


def test_a_run_that_wants_none_draws_none(recipe: Path, tmp_path: Path) -> None:
    code = (
        "import sys\nfrom hf_finetune.cli import main\n"
        f"assert main(['train', {str(recipe)!r}, 'ladder=[probe]', 'output.report=false']) == 0\n"
        "print([name for name in ('matplotlib', 'hf_finetune.report.page.render') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "[]" and "report  " not in done.stdout
    assert (tmp_path / "run" / "run.json").is_file() and not (tmp_path / "run" / "report.html").exists()


def test_the_page_is_pushed_nowhere(run: Path, tmp_path: Path) -> None:
    from hf_finetune.hub.stage import finished_run, stage_run
    from hf_finetune.result.files import is_published

    shutil.copy(run / "report.html", run / "adapter" / "report.html")  # even if somebody puts it there
    found, into = finished_run(run), tmp_path / "staged"
    into.mkdir()
    on_the_hub = {**found.report.model, "commit": "0" * 40, "name": "anna/base"}
    stage_run(replace(found, report=replace(found.report, model=on_the_hub)), into, "anna/photos")
    assert (into / "README.md").is_file() and not list(into.rglob("*.html"))
    assert not any(is_published(name) for name in ("report.html", "doctor.html", "base/report.html"))
