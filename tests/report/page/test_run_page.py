"""What the page of a run tells, of every kind of task, and when there is little time or no image."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest

from hf_finetune.errors import DataError
from hf_finetune.report.page.content.evidence import Evidence, Images
from hf_finetune.report.page.content.looks import Look
from hf_finetune.report.page.content.maker import Maker
from hf_finetune.report.page.content.pages import Augmented, evaluation_page, run_page
from hf_finetune.report.page.fitting import MOST_BYTES
from tests.report.example import AWKWARD
from tests.report.page.evidences import KINDS, LOG, classes, grades, labels, report_of, several
from tests.report.page.test_render import Seen


def page_of(evidence: Evidence, maker: Maker | None = None, **options: object) -> str:
    return run_page(report_of(evidence), evidence, LOG, maker or Maker(), **options)  # pyright: ignore


def text_of(html: str) -> str:
    return re.sub(r"\s+", " ", " ".join(Seen(html.partition("</style>")[2]).texts))


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_has_its_result_its_charts_its_images_and_no_markup_of_a_name(kind: str) -> None:
    evidence = KINDS[kind]()
    html = page_of(evidence)
    seen, text = Seen(html), text_of(html)
    first = evidence.words.first
    assert f"{first.name[:1].upper()}{first.name[1:]} on test: {first.said(evidence.score)}" in text
    assert "95 % interval" in text or kind == "several" or first.key in ("map", "kappa", "r2")
    assert html.count("<svg") >= 2 and html.count("<img") >= 3
    assert "b" not in seen.tags and "i" not in seen.tags and "script" not in seen.tags
    assert len(seen.ids) == len(set(seen.ids))
    assert len(html.encode()) < MOST_BYTES
    assert "Left out of this page" not in html
    assert page_of(KINDS[kind]()) == html


def test_awkward_class_names_are_shown_letter_for_letter() -> None:
    text = text_of(page_of(classes(AWKWARD, 60)))
    for name in AWKWARD[:-1]:
        assert name in text
    assert "w" * 239 + "…" in text


def test_the_worst_class_comes_first_and_one_without_images_last() -> None:
    evidence = classes(("a", "b", "c"), 60)
    table = evidence.score["per_class"]
    table["a"] |= {"f1": 0.9, "support": 7}
    table["b"] |= {"f1": 0.0, "support": 0}
    table["c"] |= {"f1": 0.2, "support": 5}
    text = text_of(page_of(evidence))
    start = text.index("Each class, the worst first")
    assert re.search(r"images c .* 5 a .* 7 b .* 0", text[start:])


def test_the_surest_mistake_comes_first_with_what_it_is_and_was_taken_for() -> None:
    evidence = classes(("a", "b"), 60, strength=1.0)
    wrong = [n for n, line in enumerate(evidence.lines) if line[0] != line[1]]
    surest = max(wrong, key=lambda n: float(evidence.lines[n][2]))
    true, said, sure = evidence.lines[surest]
    shown = f"{evidence.names[surest]} is {true} taken for {said} {100 * float(sure):.1f} %"
    text = text_of(page_of(evidence))
    assert (
        text.index("Mistakes that it was surest of")
        < text.index(shown)
        < text.index(f"is {true}", text.index(shown) + 9)
    )


def test_without_a_mistake_the_page_says_so() -> None:
    text = text_of(page_of(classes(("a", "b"), 30, strength=60.0)))
    assert "It made no mistake on the 30 images of test." in text
    assert "Most often confused" not in text and "at least 90.0 % by the rule of three" in text


def test_twenty_one_classes_have_a_table_and_no_matrix() -> None:
    html = page_of(classes([f"class {n}" for n in range(21)], 200, strength=1.0))
    assert "by what they are (down)" not in html and "Most often confused" in html
    assert html.count("was taken for") == 1
    twenty = page_of(classes([f"class {n}" for n in range(20)], 200, strength=1.0))
    assert "by what they are (down)" in twenty


def test_a_thousand_classes_stay_below_three_megabytes_with_every_class() -> None:
    names = [f"{n} & <{'w' * 190}>" for n in range(1_000)]
    html = page_of(classes(names, 2_000))
    assert len(html.encode()) < MOST_BYTES
    assert all(f"{n} &amp; &lt;w" in html for n in range(1_000)) and html.count("<img") > 40


def test_of_twenty_thousand_classes_the_worst_thousand_are_listed() -> None:
    names = [f"class {n}" for n in range(20_000)]
    html = page_of(classes(names, 300, side=64))
    assert len(html.encode()) < MOST_BYTES
    assert "19,000 more, all of them better than these or without an image, are not listed here." in html
    assert html.count("<img") > 20


def test_no_time_leaves_tables_and_names_what_is_not_there() -> None:
    evidence = classes(("a", "b", "c"), 60, strength=1.0)
    html = page_of(evidence, Maker(seconds=0.0))
    assert "<svg" not in html and "<img" not in html
    text = text_of(html)
    assert "Left out of this page: the chart “Images of test by what they are" in text
    assert "the images “Mistakes that it was surest of” (no time)" in text
    assert "`hf-finetune report` with the run's folder makes the page again" in text
    for caption in (
        "Images of test by what they are",
        "Memory by part",
        "Candidates, and their accuracy on validation",
    ):
        assert f"<caption><bdi>{caption}" in html  # the facts are there


def test_images_that_are_gone_are_named_and_cost_nothing_else() -> None:
    def gone(_: np.ndarray) -> np.ndarray:
        raise DataError("/photos/a.jpg is no longer there.")

    evidence = classes(("a", "b", "c"), 60, strength=1.0)
    html = page_of(replace(evidence, images=Images(gone, np.ones(60, bool))))
    assert "Typical of each class” (/photos/a.jpg is no longer there.)" in text_of(html)
    assert "<img" not in html and html.count("<svg") == 4
    never = page_of(replace(evidence, images=None, no_images="Images are left out. They moved."))
    assert "Images are left out. They moved." in text_of(never)
    half = replace(evidence, images=Images(evidence.images.gather, np.arange(60) < 30))  # pyright: ignore
    kept = re.findall(r'alt="Thumbnail of [^"]*image (\d+)', page_of(half))
    assert kept and all(int(each) < 30 for each in kept)


def test_an_interrupted_run_says_so_and_that_its_figures_are_of_validation() -> None:
    evidence = replace(classes(("a", "b"), 60), split="validation")
    report = report_of(evidence, test=False)
    text = text_of(run_page(report, evidence, [], Maker(), interrupted=True))
    assert "This run was interrupted: the best rung so far became its result" in text
    assert "There was no test split" not in text and "so that these figures are optimistic." in text
    assert "Accuracy on validation: " in text


def test_without_a_test_split_the_figures_are_called_optimistic() -> None:
    evidence = replace(classes(("a", "b"), 60), split="validation")
    text = text_of(run_page(report_of(evidence, test=False), evidence, [], Maker()))
    assert "There was no test split, and the checkpoint was chosen on validation: these figures are optimistic." in text
    assert "on test" not in text


def test_the_page_names_no_folder_of_the_machine() -> None:
    html = page_of(classes(("a", "b"), 60))
    assert "anna" not in html and "trashnet" in html


def test_the_notes_and_the_rows_that_could_not_be_used_are_told() -> None:
    text = text_of(page_of(classes(("a", "b"), 60)))
    assert "3 images lie in two splits under other labels" in text
    assert "train/glass/empty.jpg train cannot open" in text


def test_the_log_is_cut_into_the_rungs_that_trained() -> None:
    evidence = classes(("a", "b"), 60)
    html = page_of(evidence)
    earlier = [{"seconds": 100.0, "eval_accuracy": 0.01}, {"seconds": 200.0, "eval_accuracy": 0.02}]  # before a resume
    assert run_page(report_of(evidence), evidence, [*earlier, *LOG], Maker()) == html
    alone = run_page(report_of(evidence), evidence, [], Maker())
    assert alone != html and alone.count("<svg") == html.count("<svg")


def test_augmented_images_are_shown_in_their_order() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (2, 3, 3, 64, 64), dtype=np.uint8)
    html = page_of(classes(("a", "b"), 60), augmented=Augmented(["first.jpg", "second.jpg"], pixels))
    assert re.findall(r"Thumbnail of (first|second).jpg", html) == ["first"] * 3 + ["second"] * 3


def test_errors_of_labels_that_come_together_leave_out_what_is_not_known() -> None:
    known, unknown = labels(), labels(unknown=True)
    assert "Errors that come together" in page_of(known)
    told = replace(known, labels=None)  # as predictions.csv alone tells it
    assert page_of(told) == page_of(known)
    assert page_of(unknown) != page_of(replace(unknown, labels=None))


def test_grades_are_counted_by_how_far_they_are_off() -> None:
    evidence = grades()
    counts = np.array(evidence.score["confusion"])
    text = text_of(page_of(evidence))
    assert f"right {np.trace(counts)} {100 * np.trace(counts) / counts.sum():.1f} %" in text
    assert f"+1 {np.trace(counts, 1)} " in text


def test_several_targets_have_a_section_each_of_the_rows_that_have_it() -> None:
    evidence = several()
    targets = dict(evidence.targets())
    assert {name: len(each.lines) for name, each in targets.items()} == {"kind": 48, "price": 48, "tags": 48}
    text = text_of(page_of(evidence))
    for name, each in targets.items():
        first = each.words.first
        assert f"{first.name[:1].upper()}{first.name[1:]}: {first.said(each.score)}." in text, name


def test_an_evaluation_has_its_notes_and_what_was_left_out() -> None:
    html = evaluation_page("run on photos, test", classes(("a", "b"), 60), ["a note"], [{"name": "x", "reason": "<y>"}])
    text = text_of(html)
    assert "run on photos, test" in text and "a note" in text and "x <y>" in text
    assert "How it was trained" not in text


def test_what_the_model_looked_at_is_shown_of_its_worst_errors_first() -> None:
    evidence = classes(("a", "b", "c"), 60, strength=1.0)
    asked: list[int] = []

    def maps(pixels: np.ndarray) -> np.ndarray:
        asked.append(len(pixels))
        return np.linspace(0, 1, pixels[:, 0].size, dtype=np.float32).reshape(pixels[:, 0].shape)

    html = page_of(evidence, look=Look(maps))
    assert asked == [12]
    section = html[html.index("What it looked at</bdi></h2>") : html.index("How it was trained</bdi></h2>")]
    rows = [int(each) for each in re.findall(r'alt="Thumbnail of [^"]*image (\d+)', section)]
    wrong = [evidence.lines[row][0] != evidence.lines[row][1] for row in rows]
    assert wrong == [True] * 6 + [False] * 6


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_has_images_to_look_at(kind: str) -> None:
    html = page_of(KINDS[kind](), look=Look(lambda pixels: np.ones(pixels[:, 0].shape, np.float32)))
    assert "What it looked at</bdi></h2>" in html and "Left out" not in html


def test_a_model_that_cannot_be_asked_where_it_looks_costs_the_page_nothing_else() -> None:
    def broken(_: np.ndarray) -> np.ndarray:
        raise RuntimeError("out of memory\nand a page of what else")

    evidence = classes(("a", "b", "c"), 60)
    html = page_of(evidence, look=Look(broken))
    assert "what the model looked at (RuntimeError, out of memory)" in text_of(html)
    assert html.count("<svg") == page_of(evidence).count("<svg")
    hurried = page_of(evidence, Maker(seconds=30.0), look=Look(broken, cost_s=float("inf")))
    assert "what the model looked at (no time)" in text_of(hurried)
