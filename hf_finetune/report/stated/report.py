"""What a run.json must state, so that whoever reads it finds what it asks for: checked once, where it is read.

A person may have edited the file, or a disk cut it. `fields.py` says what the keys mean; here is of which type they
are, and which may be absent since earlier versions did not write them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import ConfigDict, Field, model_validator

from hf_finetune.files.stated import valid
from hf_finetune.report.stated.score import Count, Stated, check_intervals, check_score, check_task, valid_rows
from hf_finetune.report.wording import words_for


class _Kind(Stated):
    kind: str


class _Train(Stated):
    best_by: str


class _Budget(Stated):
    time: float | str | None


class _DataSection(Stated):
    config: str | None


class _Hub(Stated):
    repo: str | None = None
    private: bool = True
    merged: bool = False


class _Recipe(Stated):
    """Sections that the report looks into; `recipe/` checks a recipe that is to be run."""

    model: dict[str, Any]
    data: _DataSection
    adapter: _Kind
    quantization: _Kind
    budget: _Budget
    train: _Train
    hub: _Hub | None = None


class _Decision(Stated):
    """A value of any type and why it is that, or a forecast that has none."""

    reason: str = ""

    @model_validator(mode="after")
    def _with_reason(self) -> _Decision:
        if "value" in self.model_fields_set and "reason" not in self.model_fields_set:
            raise ValueError("a reason is expected beside the value")
        return self


class _Precision(_Decision):
    value: str = "fp32"


class _Used(_Decision):
    micro_batch: Count | None
    replays: Count = 0


class _MemoryPlan(_Decision):
    bytes: dict[str, Count] = Field(default_factory=dict)
    note: str = ""


class _SecondsPlan(_Decision):
    by_rung: dict[str, float] = Field(default_factory=dict)
    note: str = ""


class _Plan(Stated):
    # How pydantic is told of which type further keys are.
    __pydantic_extra__: dict[str, _Decision]  # pyright: ignore[reportIncompatibleVariableOverride]
    precision: _Precision = _Precision()
    used: _Used = _Used(micro_batch=None)
    memory: _MemoryPlan = _MemoryPlan()
    seconds: _SecondsPlan = _SecondsPlan()


class _Machine(Stated):
    device: str
    device_name: str
    cores: Count
    ram_bytes: Count
    world_size: Count
    system: str


class _Start(Stated):
    name: str
    commit: str | None
    digest: str
    head: str


class _Model(Stated):
    name: str
    library: str
    architecture: str
    commit: str | None
    fingerprint: str
    licence: str | None
    parameters: Count
    builtin: bool
    whole: bool = False
    quantization_config: dict[str, Any] | None = None
    quantized_maps: bool = False
    fitted_on: list[str] = Field(default_factory=list)
    start: _Start | None = None
    head: str | None = None


class _Rejected(Stated):
    name: str
    split: str
    reason: str


class _Note(Stated):
    model_config = ConfigDict(extra="forbid")
    text: str
    names: str = ""


class _Data(Stated):
    name: str
    revision: str
    commit: str | None
    licence: str | None
    labels: list[str]
    counts: dict[str, Count]
    cut: list[str]
    rejected: list[_Rejected]
    notes: list[str | _Note] = Field(default_factory=list)
    value_range: Annotated[list[float], Field(min_length=2, max_length=2)] | None = None


class _Rung(Stated):
    model_config = ConfigDict(extra="forbid")
    rung: str
    validation: dict[str, Any]
    seconds: float
    peak_bytes: Count
    step: Count
    kept: bool = True
    forecast_s: float | None = None
    note: str = ""
    at_s: float = 0.0
    images: Count = 0
    saved_at_s: float | None = None
    by_chance: bool = False


class _Seconds(Stated):
    __pydantic_extra__: dict[str, float]  # pyright: ignore[reportIncompatibleVariableOverride]
    total: float


class _Peak(Stated):
    anonymous: Count
    resident: Count
    device: Count


class _Forecast(Stated):
    total: Count
    parts: dict[str, Count]


class _Measured(Stated):
    total: Count
    process: Count = 0


class _Memory(Stated):
    forecast: _Forecast
    measured: _Measured


class _Extensions(Stated):
    metrics: list[str] | dict[str, Any] = Field(default_factory=list)


class _Findings(Stated):
    worst: list[str] = Field(default_factory=list)
    without_leaks: dict[str, Any] | None = None


class _Before(Stated):
    validation: dict[str, Any]
    test: dict[str, Any]
    corrected: dict[str, Any] | None


class _Fix(Stated):
    of: str
    left_out: dict[str, Count]
    relabelled: dict[str, Count]
    added: Count
    new_classes: list[str]
    foreign_classes: list[str]
    changed_since: Count
    twins: dict[str, Count]
    rung: str
    before: _Before
    untested: str
    advice: list[str]
    only_here: dict[str, Count]
    earlier: Count


class _Report(Stated):
    """What every report has; those with a default came later."""

    recipe: _Recipe
    plan: _Plan
    versions: dict[str, str]
    machine: _Machine
    model: _Model
    data: _Data
    rungs: Annotated[list[_Rung], Field(min_length=1)]
    validation: dict[str, Any]
    test: dict[str, Any]
    seconds: _Seconds
    peak_bytes: _Peak
    memory: dict[str, Any] = Field(default_factory=dict)
    files: dict[str, str] = Field(default_factory=dict)
    extensions: _Extensions = _Extensions()
    engine: dict[str, Any] = Field(default_factory=dict)
    task: dict[str, Any] = Field(default_factory=lambda: {"kind": "classification"})
    findings: _Findings = _Findings()
    fix: _Fix | None = None
    tables: dict[str, str] = Field(default_factory=dict)


def check_report(content: Mapping[str, Any]) -> None:
    """Raise ValueError, which opens with the key and says what is expected there, for the first that is another."""
    stated = valid(_Report, content)
    if stated.memory:
        valid(_Memory, stated.memory, "memory")
    if stated.recipe.quantization.kind != "none" and stated.model.quantization_config is None:
        raise ValueError("model.quantization_config: what the base was quantized by is expected, found none")
    outputs = stated.data.labels
    check_task(stated.task, outputs)
    check_score(stated.validation, stated.task, outputs, "validation")
    if stated.test:
        check_score(stated.test, stated.task, outputs, "test")
    by = stated.recipe.train.best_by
    for place, rung in enumerate(stated.rungs):
        _check_number(rung.validation, by, f"rungs.{place}.validation")
    first = words_for(stated.task, outputs).first.key
    if (clean := stated.findings.without_leaks) is not None:
        _check_figure(clean, first, "findings.without_leaks")
        _check_number(clean, "leaked", "findings.without_leaks")
    if stated.fix is not None:
        _check_before(stated.fix, first)
    for name in stated.extensions.metrics:
        for split in ("validation", "test"):
            if name in content[split]:
                _check_number(content[split], name, split)


def _check_before(fix: _Fix, first: str) -> None:
    """The figures of the run that was fixed, where there are any."""
    before = fix.before
    if first in before.validation:
        _check_figure(before.validation, first, "fix.before.validation")
    if first in before.test:
        _check_number(before.test, first, "fix.before.test")
    if before.corrected is not None:
        _check_number(before.corrected, first, "fix.before.corrected")


def _check_figure(score: Mapping[str, Any], key: str, where: str) -> None:
    """A figure that is told with the images that it is of, and its interval."""
    _check_number(score, key, where)
    valid_rows(score, where)
    check_intervals(score, where)


def _check_number(values: Mapping[str, Any], key: str, where: str) -> None:
    value = values.get(key)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"{where}.{key}: a number is expected, found {value!r:.40}")
