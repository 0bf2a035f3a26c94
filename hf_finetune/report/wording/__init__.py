"""How each kind of task is put into words: one file a kind, and what summary, card and snippets ask of it."""

from collections.abc import Mapping, Sequence
from typing import Any

from hf_finetune.report.fields import RunReport
from hf_finetune.report.wording.classes import ClassWords
from hf_finetune.report.wording.grades import GradeWords
from hf_finetune.report.wording.labels import LabelWords
from hf_finetune.report.wording.numbers import NumberWords
from hf_finetune.report.wording.several import SeveralWords
from hf_finetune.report.wording.words import Figure, Words

_WORDS: Mapping[str, type[Words]] = {
    "classification": ClassWords,
    "multilabel": LabelWords,
    "ordinal": GradeWords,
    "regression": NumberWords,
}


def words_for(task: Mapping[str, Any], outputs: Sequence[str]) -> Words:
    """Of a task as `Target.settings` has it, and the names of the model's outputs."""
    if task["kind"] == "several":
        return SeveralWords(task, tuple(outputs), words_for)
    return _WORDS[task["kind"]](task, tuple(outputs))


def words_of(report: RunReport) -> Words:
    """Of a finished run."""
    return words_for(report.task, report.data["labels"])


__all__ = ["Figure", "Words", "words_for", "words_of"]
