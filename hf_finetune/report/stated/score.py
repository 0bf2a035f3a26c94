"""What a run.json must state of a task and of a split's score, so that whoever reads it finds what it asks for.

One class a kind of task, and one of its scores. What only programs read is let through as it is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from hf_finetune.files.stated import valid

Count = Annotated[int, Field(ge=0)]
Share = Annotated[float, Field(ge=0, le=1)]


class Stated(BaseModel):
    """Types are JSON's own: no text is taken for a number. Further keys are let through."""

    model_config = ConfigDict(strict=True, extra="allow", allow_inf_nan=False)


class Classes(Stated):
    """`Target.settings` of one class an image."""

    kind: Literal["classification"]
    class_counts: list[Count] = Field(default_factory=list)
    temperature: Annotated[float, Field(gt=0)] = 1.0
    set_threshold: float | None = None
    calibrated_from: str = ""

    @model_validator(mode="after")
    def _calibrated_whole(self) -> Classes:
        needed = {"temperature", "set_threshold"} if self.calibrated_from else set()
        if lacking := sorted(needed - self.model_fields_set):
            raise ValueError(f"calibrated_from has no {', '.join(lacking)} beside it")
        return self


class LabelSets(Stated):
    """Any number of labels an image."""

    kind: Literal["multilabel"]
    thresholds: list[Share] | None = None
    thresholds_from: str | None = None


class Grades(Stated):
    """Grades in an order."""

    kind: Literal["ordinal"]
    grades: Annotated[list[str], Field(min_length=2)]


class Numbers(Stated):
    """One or several numbers."""

    kind: Literal["regression"]
    unit: str | None = None
    log: bool = False
    half_widths: list[float] | None = None
    interval_from: str | None = None


class Width(Stated):
    """How many columns of labels a target has."""

    width: Annotated[int, Field(ge=1)]


class Target(Stated):
    """One of several targets."""

    name: str
    labels: Width
    outputs: Annotated[list[str], Field(min_length=1)]
    task: dict[str, Any]


class Several(Stated):
    """Several targets at once."""

    kind: Literal["several"]
    targets: Annotated[list[Target], Field(min_length=1)]


class ClassRow(Stated):
    """One class or grade."""

    precision: Share
    recall: Share
    f1: Share
    support: Count


class LabelRow(ClassRow):
    """One of any number of labels; no average precision where no row has it."""

    average_precision: Share | None
    threshold: float


class Confused(Stated):
    """A mistake, and how often it was made."""

    label: str
    predicted: str
    count: Count


class Bin(Stated):
    """Rows of about the same confidence."""

    rows: Count
    confidence: Share
    right: Share


class _Counted(Stated):
    rows: Annotated[int, Field(ge=1)]


class Score(_Counted):
    """Of how many images, and numbers."""

    loss: float


class ClassScore(Score):
    """Of one class an image."""

    accuracy: Share
    macro_f1: float
    ece: float
    top5: float = 0.0
    balanced_accuracy: float = 0.0
    covered: float = 0.0
    per_class: dict[str, ClassRow]
    confused_pairs: list[Confused] = Field(default_factory=list)
    confusion: list[list[Count]] = Field(default_factory=list)  # of few classes alone
    calibration: list[Bin] = Field(default_factory=list)


class LabelScore(Score):
    """Of any number of labels."""

    map: float
    macro_f1: float
    micro_f1: float
    subset_accuracy: Share
    per_label: dict[str, LabelRow]


class GradeScore(Score):
    """Of grades."""

    kappa: float
    grade_error: float
    accuracy: Share
    near: float
    per_class: dict[str, ClassRow]
    confusion: list[list[Count]]


class NumberFigures(Stated):
    """Of one number, where any row has it."""

    r2: float = 0.0
    mae: float = 0.0
    rmse: float = 0.0
    spearman: float = 0.0
    covered: float = 0.0


class NumberScore(Score):
    """Of numbers."""

    r2: float
    mae: float
    rmse: float = 0.0
    spearman: float = 0.0
    covered: float = 0.0
    per_target: dict[str, NumberFigures] | None = None


class SeveralScore(Score):
    """Of several targets: each has a score of its kind, or none where no row of the split has it."""

    mean_score: float
    per_target: dict[str, dict[str, Any]]


@dataclass(frozen=True)
class _Kind:
    """What is stated of a kind of task, what of its scores, and which table of a score has a row for each output."""

    task: type[Stated]
    score: type[Score]
    table: str = ""


_KINDS: Mapping[str, _Kind] = {
    "classification": _Kind(Classes, ClassScore, "per_class"),
    "multilabel": _Kind(LabelSets, LabelScore, "per_label"),
    "ordinal": _Kind(Grades, GradeScore, "per_class"),
    "regression": _Kind(Numbers, NumberScore),
    "several": _Kind(Several, SeveralScore),
}


def check_task(task: Any, outputs: Sequence[str], where: str = "task") -> None:
    """Raise ValueError, which opens with the key, where `task` is none that answers with these outputs."""
    kind = task.get("kind") if isinstance(task, Mapping) else None
    if not isinstance(kind, str) or kind not in _KINDS:
        found = f"found {str(kind)[:40]!r}" if isinstance(task, Mapping) else "found no object"
        raise ValueError(f"{where}.kind: one of {', '.join(_KINDS)} is expected, {found}")
    stated: Any = valid(_KINDS[kind].task, task, where)
    if not outputs:
        raise ValueError(f"data.labels: names are expected for {where}, found none")
    counted = {"class_counts": getattr(stated, "class_counts", None), "thresholds": getattr(stated, "thresholds", None)}
    for name, values in counted.items():
        if values and len(values) != len(outputs):
            raise ValueError(f"{where}.{name}: {len(outputs):,} numbers are expected, found {len(values):,}")
    if kind == "several":
        for place, target in enumerate(stated.targets):
            if target.task.get("kind") == kind:
                raise ValueError(f"{where}.targets.{place}.task.kind: one target is expected, found {kind!r}")
            check_task(target.task, target.outputs, f"{where}.targets.{place}.task")


def check_score(score: Any, task: Mapping[str, Any], outputs: Sequence[str], where: str) -> None:
    """Raise ValueError, which opens with the key, where it is no score of the task (one that `check_task` lets
    through) with these outputs."""
    kind = _KINDS[task["kind"]]
    stated: Any = valid(kind.score, score, where)
    check_intervals(score, where)
    names = task["grades"] if task["kind"] == "ordinal" else outputs
    if kind.table and set(getattr(stated, kind.table)) != set(names):
        raise ValueError(f"{where}.{kind.table}: a row for each of the {len(names):,} outputs is expected")
    matrix = getattr(stated, "confusion", ())
    if "confusion" in stated.model_fields_set and (
        [len(row) for row in matrix] != [len(names)] * len(names) or not any(map(any, matrix))
    ):
        raise ValueError(f"{where}.confusion: {len(names):,} rows of {len(names):,} counts of images are expected")
    if task["kind"] == "several":
        _check_targets(stated.per_target, task, where)
    for name, its in (getattr(stated, "per_target", None) or {}).items():
        check_intervals(its if isinstance(its, Mapping) else its.model_dump(), f"{where}.per_target.{name}")


def _check_targets(scores: Mapping[str, Any], task: Mapping[str, Any], where: str) -> None:
    targets = {each["name"]: each for each in task["targets"]}
    if strange := sorted(scores.keys() - targets.keys()):
        raise ValueError(f"{where}.per_target.{strange[0]}: the task has no target of that name")
    for name, score in scores.items():
        check_score(score, targets[name]["task"], targets[name]["outputs"], f"{where}.per_target.{name}")


def valid_rows(score: Mapping[str, Any], where: str) -> None:
    """Raise ValueError where it does not say of how many images it is."""
    valid(_Counted, score, where)


def check_intervals(score: Mapping[str, Any], where: str) -> None:
    """Both ends of every interval, as numbers, beside what it is of."""
    for key in score:
        stem, _, end = key.rpartition("_")
        if end not in ("low", "high") or stem not in score:
            continue
        for name in (f"{stem}_low", f"{stem}_high"):
            value = score.get(name)
            if isinstance(value, bool) or not isinstance(value, int | float):
                raise ValueError(f"{where}.{name}: a number is expected, found {value!r:.40}")
