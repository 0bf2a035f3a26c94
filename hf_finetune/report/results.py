"""What a run came to, as the card and the page say it: one sentence, and the table of every metric. Plain text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hf_finetune.report.fields import RunReport
from hf_finetune.report.wording import Figure, Words, words_of

CHOSEN_ON_VALIDATION = "The checkpoint was chosen on validation, so that column is optimistic."
NO_TEST = "There was no test split, and the checkpoint was chosen on validation: these figures are optimistic."
FITTED_TOO = (
    "The head was then fitted on the validation images, too; their figures are of heads that had not seen them."
)


def capital(text: str) -> str:
    """With its first letter large."""
    return text[:1].upper() + text[1:]


def headline(words: Words, split: str, score: Mapping[str, Any]) -> str:
    """`Accuracy on test: 90.5 % (95 % interval 87.7 to 93.3 %, 431 images)`."""
    return f"{capital(words.first.name)} on {split}: {words.first.said(score)}"


def run_headline(report: RunReport) -> str:
    """Of the test, or of validation where there was none."""
    return headline(words_of(report), "test" if report.test else "validation", report.test or report.validation)


def about_validation(report: RunReport, without_test: str = NO_TEST) -> str:
    """What is to be known of validation's figures, and of those of all where there is no test."""
    fitted = f" {FITTED_TOO}" if "validation" in report.model.get("fitted_on", ()) else ""
    return (CHOSEN_ON_VALIDATION if report.test else without_test) + fitted


def result_table(report: RunReport) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """The columns, and a row for each metric and for its interval."""
    columns: dict[str, Mapping[str, Any]] = {"test": report.test} if report.test else {}
    columns["validation"] = report.validation
    return score_table(words_of(report), columns, report.extensions.get("metrics", ()))


def score_table(
    words: Words, columns: Mapping[str, Mapping[str, Any]], own: tuple[str, ...] | list[str] = ()
) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """As `result_table`, of scores by split; `own`: the names of the program's own metrics."""
    table = [("Images", *(f"{score['rows']:,}" for score in columns.values()))]
    named = [(figure, capital(figure.name)) for figure in words.figures]
    named += [(Figure(name, name), name) for name in own]
    for figure, name in named:
        if any(figure.key in score for score in columns.values()):
            table.append((name, *(figure.text(s[figure.key]) if figure.key in s else "" for s in columns.values())))
            if intervals := [figure.interval(score) for score in columns.values() if figure.interval(score)]:
                table.append((f"{name}, 95 % interval (bootstrap)", *intervals))
    return ("", *columns), table
