"""What the page says of every kind of answer."""

from __future__ import annotations

import re
from html import unescape

import numpy as np

from hf_finetune.pipeline.demo import words
from hf_finetune.pipeline.demo.nearest import Neighbour
from hf_finetune.tasks.predictions import (
    ClassPrediction,
    LabelsPrediction,
    NumberPrediction,
    Prediction,
    TargetsPrediction,
)

KINDS = ClassPrediction("<b>cat</b>", 0.6, (0.6, 0.3, 0.1), ("<b>cat</b>", "dog", "n/a"), among=("<b>cat</b>", "dog"))
PRICE = NumberPrediction({"price": 312_000.0}, {"price": 250_000.0}, {"price": 400_000.0}, "$")
MARKS = LabelsPrediction(("wet", "old"), (0.9, 0.2, 0.7), ("wet", "new", "old"))


def texts(html: str) -> str:
    """What a person reads, in one line."""
    return unescape(re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", html))).strip()


def test_a_class_is_said_with_the_likeliest_and_what_it_is_not_sure_of() -> None:
    html = words.answer(KINDS)
    assert "<b>" not in html
    said = "Answer <b>cat</b> <b>cat</b> 0.600 dog 0.300 n/a 0.100 It is not sure: <b>cat</b> or dog."
    assert texts(html) == said
    (part,) = words.parts_of(ClassPrediction("a", 1.0, (1.0, 0.0), ("a", "b"), among=()))
    assert part.among == ""  # a sure answer may be too likely for its set, which says nothing to a visitor


def test_of_a_thousand_classes_the_likeliest_are_shown_and_the_median_grade_comes_first() -> None:
    names = tuple(f"kind {number}" for number in range(1_000))
    shares = tuple(np.linspace(0, 0.002, 1_000))
    (part,) = words.parts_of(ClassPrediction("kind 3", shares[3], shares, names, among=names))
    assert [bar.name for bar in part.bars] == ["kind 3", "kind 999", "kind 998", "kind 997", "kind 996"]
    assert part.among.endswith("kind 10 or kind 11 or another of 1,000.")


def test_numbers_labels_and_targets_are_said_as_predict_says_them() -> None:
    assert texts(words.answer(PRICE)) == f"Answer {PRICE.text()}"
    assert "90 %" in PRICE.text()
    (part,) = words.parts_of(MARKS)
    assert part.sentence == "wet, old"
    assert [(bar.name, bar.said) for bar in part.bars] == [("wet", True), ("old", True), ("new", False)]
    (none,) = words.parts_of(LabelsPrediction((), (0.1,), ("wet",)))
    assert none.sentence == "(no label)"
    both = words.parts_of(TargetsPrediction({"animal": KINDS, "price": PRICE}))
    assert [(part.title, part.sentence) for part in both] == [("animal", "<b>cat</b>"), ("price", PRICE.text())]


def test_the_distance_and_clipped_values_are_said_where_they_are_known() -> None:
    def said(**more: float | int) -> str:
        prediction: Prediction = NumberPrediction({"age": 3.0}, **more)  # type: ignore[arg-type]
        return texts(words.answer(prediction))

    assert said() == "Answer 3"
    assert said(distance=0.5).endswith("Like the training images: its distance from them is 0.50; 19 of 20 images like "
                                       "them stay below 1.")  # fmt: skip
    assert "Unlike the training images : its distance from them is 1.50" in said(distance=1.5)
    assert "1,200 of its values lie beyond the range" in said(clipped=1200)


def test_file_names_and_class_names_are_text() -> None:
    html = words.nearest("A line & more.", [Neighbour("<img src=x>.jpg", "<script>\x07", "data:image/jpeg;base64,")])
    assert "<img src=x>" not in html and "<script" not in html and "\x07" not in html
    assert "A line & more. <script>" in texts(html)
    assert words.problem("one <i>\n  two") == words.problem("one <i>\ntwo")
    assert "<i>" not in words.problem("one <i>")
