"""`RunReport` and the keys of its mappings: what the pipeline fills in, and what run.json, summary and card read.

Values are plain (str, int, float, bool, None, list, dict), sizes in bytes, times in seconds. `recipe` is the resolved
recipe as dumped for JSON; `plan` maps each decision's name to `{value, reason}`, `memory` to `{bytes, note}` and `used`
to what training ended up with (`micro_batch`, `replays` after out of memory); `seconds` is wall clock by stage in the
order of stages, and `total`; `validation` and `test` are what `Target.score` gives with `full=True` (`test` is empty
where there is no test split).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NotRequired, TypedDict

from hf_finetune.types import Candidate, Note


class StartFields(TypedDict):
    """The adapter that the run started from. `commit` is the Hub's sha (None: a folder), `digest` the sha256 of its
    config and weights, `head` says whether its head was kept, and why."""

    name: str
    commit: str | None
    digest: str
    head: str


class ModelFields(TypedDict):
    """The base model. `commit` is the Hub's sha: None for a folder or a built-in base.

    `whole`: the result is a whole model and no adapter. `start` is None for a run that starts from the base alone.
    `quantization_config` holds what `BitsAndBytesConfig.to_diff_dict()` gives; needed where the base is quantized.
    `quantized_maps`: whether layers in int8 get [B, H, W, C], which stock bitsandbytes has to be helped with.
    `fitted_on`: the splits whose labels the result's weights were fitted to.
    """

    name: str
    library: str
    architecture: str
    commit: str | None
    fingerprint: str
    licence: str | None
    parameters: int
    builtin: bool
    whole: NotRequired[bool]
    quantization_config: NotRequired[Mapping[str, Any] | None]
    quantized_maps: NotRequired[bool]
    fitted_on: NotRequired[Sequence[str]]
    start: NotRequired[StartFields | None]


class RejectedFields(TypedDict):
    """A row that could not be used."""

    name: str
    split: str
    reason: str


class DataFields(TypedDict):
    """The dataset. `commit` is the Hub's sha: None for local and built-in data; `counts` is rows by split.

    `value_range` is black and white of high-bit grey images; None where none was trained on. A note is a string in a
    run.json from before 2026-11-28."""

    name: str
    revision: str
    commit: str | None
    licence: str | None
    labels: list[str]
    counts: dict[str, int]
    cut: list[str]
    rejected: list[RejectedFields]
    notes: list[Note | str]
    value_range: NotRequired[tuple[float, float] | None]


class MachineFields(TypedDict):
    """Where the run ran."""

    device: str
    device_name: str
    cores: int
    ram_bytes: int
    world_size: int
    system: str


class PeakFields(TypedDict):
    """Highest use: RAM of the process's own, RAM with shared and memory-mapped pages, and device memory (0: a CPU)."""

    anonymous: int
    resident: int
    device: int


class FixFields(TypedDict):
    """Of a run that `hf-finetune fix` made of the run in the folder `of`: rows that went and that got other labels, by
    split; rows of train that were `added`, and how many of those look exactly like rows of train, validation and
    test (`twins`); `new_classes`, and `foreign_classes`, those of earlier fixes too, which the dataset does not have;
    `changed_since`: training rows that these fixes changed, with repetitions; `rung`: whose weights the result has but
    for its head. `before`: the scores of `of`, as it told them, and `corrected`: on validation as it is labelled now
    (None: its head does not know a class). `untested`: why the test was not scored, for the owner alone; `advice`:
    sentences on training again; `only_here`: how many rows `train` with corrections.csv would lack, rows of the dataset
    that now are of a foreign class (`new_class`) and rows that never were the dataset's (`added`); `earlier`: how many
    fixes came before.
    """

    of: str
    left_out: dict[str, int]
    relabelled: dict[str, int]
    added: int
    new_classes: list[str]
    foreign_classes: list[str]
    changed_since: int
    twins: dict[str, int]
    rung: str
    before: dict[str, Any]
    untested: str
    advice: list[str]
    only_here: dict[str, int]
    earlier: int


@dataclass(frozen=True)
class RunReport:
    """Everything worth knowing of a finished run; `run.json` and the model card are written from it alone.

    `files` maps each file of the result, but for the card, to its sha256: what the run wrote, and nothing else;
    `tables` does so with predictions.csv beside it (since 2026-11-30).
    `extensions` names what the program brought of its own (a loss, metrics, callbacks, a transform). `memory` has the
    plan's `forecast` (`total`, `parts`) and what was `measured` of it (`total`; `process`: before the model was there),
    in bytes of the device that trained; empty in a run.json from before 2026-11-28. `engine` says what ran the pass
    over the frozen backbone (`pass`) and scored the test (`test`), each {name, why, …} where there was a choice: the
    images on which it was compared with the torch model, and how far features and answers were apart. `task` is
    what the labels were settled to (`Target.settings`), classification in a run.json from before 2026-11-29;
    `data.labels` names the model's outputs. `findings` are what was found about the data: `worst`, sentences for the
    owner alone, since they name files, and `without_leaks`, the test's metrics without its `rows` that have a copy in
    another split. `fix` is None but for a run that `hf-finetune fix` made.
    """

    recipe: Mapping[str, Any]
    plan: Mapping[str, Any]
    versions: Mapping[str, str]
    machine: Mapping[str, Any]
    model: Mapping[str, Any]
    data: Mapping[str, Any]
    rungs: tuple[Candidate, ...]
    validation: Mapping[str, Any]
    test: Mapping[str, Any]
    seconds: Mapping[str, float]
    peak_bytes: Mapping[str, int]
    memory: Mapping[str, Any] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)
    extensions: Mapping[str, Any] = field(default_factory=dict)
    engine: Mapping[str, Any] = field(default_factory=dict)
    task: Mapping[str, Any] = field(default_factory=lambda: {"kind": "classification"})
    findings: Mapping[str, Any] = field(default_factory=dict)
    fix: FixFields | None = None
    tables: Mapping[str, str] = field(default_factory=dict)

    @property
    def whole(self) -> bool:
        """True where the result is a whole model and not an adapter (run.json says so itself since 2026-11-28)."""
        return self.model.get("whole", self.recipe["adapter"]["kind"] == "full")
