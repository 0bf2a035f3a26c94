"""The values that flow through the program. Frozen; standard library and numpy, no torch.

A type lives here when more than one component needs it; what only one component needs lives with that component.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Generic, Literal, Protocol, TypeVar

import numpy as np

from hf_finetune.labels import Label, LabelColumn, Labels

Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = ("train", "validation", "test")
T = TypeVar("T")

ValueRange = tuple[float, float]  # the values of high-bit grey images that become black and white

BUILTIN = "builtin:"  # opens the name of a base or a dataset that comes with the package


def is_builtin(name: str) -> bool:
    """Whether a base or a dataset of that name comes with the package."""
    return name.startswith(BUILTIN)


# How int8 weights are multiplied: as integers, made floating-point each time, as bitsandbytes does.
Compute = Literal["auto", "integer", "dequantized", "llm_int8"]


@dataclass(frozen=True, slots=True)
class Row:
    """One labelled image, not yet decoded.

    `name` is what a person finds it by (the path below the dataset's folder, or `train.parquet row 17`); `locator` is
    what the index's reader finds it by (a file path, or a number). Rows of one `unit`, by number, belong together
    (byte-equal, or a group); −1 is alone.
    """

    name: str
    label: Label
    locator: str | int
    unit: int = -1


def label_array(rows: Sequence[Row]) -> np.ndarray:
    """int64 [N] of ids, or float32 [N, K]."""
    if all(isinstance(row.label, int) for row in rows):
        return np.array([row.label for row in rows], np.int64)
    return np.array([row.label for row in rows], np.float32)


class Reader(Protocol):
    """Gives the encoded bytes (JPEG, PNG, …) of a row. Picklable and light, since it runs in worker processes."""

    def read(self, locator: str | int) -> bytes: ...


@dataclass(frozen=True, slots=True)
class Note:
    """Something about the data: `text` for everyone, on a public card too, so that it names no file or folder of the
    owner (class names are public), and `names` for the owner alone: which files and folders are meant."""

    text: str
    names: str = ""

    def __str__(self) -> str:
        """In full, for the owner."""
        return f"{self.text}: {self.names}" if self.names else self.text


@dataclass(frozen=True, slots=True)
class Rejected:
    """A row that cannot be used, and why."""

    name: str
    split: Split
    reason: str


@dataclass(frozen=True)
class Index:
    """Every row of the dataset by split; nothing decoded.

    `revision` changes when any row, label or byte may have changed (a Hub commit, or a hash over names, sizes and
    modification times); `commit` is the Hub's sha or None. `cut` names the splits that were cut from train here;
    `own_names` are the dataset's own names of those that it gives. `layout` says how it was read, for people.
    """

    source: str
    revision: str
    commit: str | None
    licence: str | None
    labels: Labels
    splits: Mapping[Split, tuple[Row, ...]]
    cut: tuple[Split, ...]
    rejected: tuple[Rejected, ...]
    notes: tuple[Note, ...]
    reader: Reader
    layout: str = ""
    own_names: Mapping[Split, str] = field(default_factory=dict)
    columns: tuple[LabelColumn, ...] = ()  # what the labels are; `labels` names the model's outputs
    touched_s: float = 0.0  # when any of its files was last touched, as `time.time()` counts; 0: not known

    @property
    def of_classes(self) -> bool:
        """Whether each row has one class, and nothing else."""
        return all(column.kind == "classes" for column in self.columns) and len(self.columns) < 2


@dataclass(frozen=True, slots=True)
class Resize:
    """Resize to exactly `height` × `width`, whatever the aspect (a squash). `resample` is Pillow's number."""

    height: int
    width: int
    resample: int


@dataclass(frozen=True, slots=True)
class ResizeShortest:
    """Resize so that the shorter edge is `edge`; the longer is truncated: int(edge · long / short)."""

    edge: int
    resample: int


@dataclass(frozen=True, slots=True)
class CenterCrop:
    """Cut the middle `height` × `width`, zero-padded where the image is smaller.

    `rounding`: how an odd margin is split; torchvision (and timm) round half to even, transformers floors.
    """

    height: int
    width: int
    rounding: Literal["half_even", "floor"]


PixelStep = Resize | ResizeShortest | CenterCrop


@dataclass(frozen=True)
class Preprocess:
    """What the checkpoint's stock processor does with an image: the only source of pixels.

    `steps` take a Pillow RGB image to uint8 [height, width, 3]; `steps=None` means that the rule cannot be written in
    steps and the stock processor itself must run (slower). The backbone then sees
    `(uint8 · scale + offset − mean) / std`, channels reversed where `bgr`. `value_range` is the data set's, and
    says how high-bit grey becomes 8-bit first (None: no such image was trained on).
    """

    steps: tuple[PixelStep, ...] | None
    height: int
    width: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    scale: float
    offset: float
    bgr: bool
    resample: int
    source: str
    value_range: ValueRange | None = None


class LabelledRows(Protocol):
    """Names and labels of one split, whatever else is known of its rows."""

    @property
    def labels(self) -> np.ndarray:
        """int64 [N], or float32 [N, K]: see `Label`."""
        ...

    @property
    def names(self) -> Sequence[str]: ...

    def __len__(self) -> int: ...


class PixelRows(Protocol):
    """Decoded rows of one split at one geometry: the training loop's only view of images."""

    labels: np.ndarray  # int64 [N], or float32 [N, K]: see `Label`
    sizes: np.ndarray  # int32 [N, 2]: width and height of the original, EXIF rotation applied
    names: list[str]

    def __len__(self) -> int: ...

    def gather(self, indices: np.ndarray) -> np.ndarray:
        """uint8 [len(indices), 3, height, width], a fresh array."""
        ...


@dataclass(frozen=True)
class BackboneFacts:
    """What is known of a backbone without its weights (read on the meta device).

    `targets` maps a role (attention, mlp, conv) to the names of the modules that LoRA may adapt; `excluded` maps every
    other Linear or convolution outside the head to the reason it is left alone. `linears`: (in, out) of each plain
    nn.Linear outside the head; `fixed_linears`: those that no quantized layer can replace, and why; `mapped_linears`:
    those that get [B, H, W, C].
    """

    name: str
    library: Literal["timm", "transformers", "builtin"]
    architecture: str
    commit: str | None
    licence: str | None
    parameters: int
    parameters_by_type: Mapping[str, int]
    head: tuple[str, ...]
    head_in_features: int
    blocks: tuple[str, ...]
    preprocess: Preprocess
    supports_checkpointing: bool
    targets: Mapping[str, tuple[str, ...]]
    excluded: Mapping[str, str]
    module_shapes: Mapping[str, tuple[int, int]]  # target name -> (in, out) as LoRA counts them
    linears: Mapping[str, tuple[int, int]]
    fixed_linears: Mapping[str, str]
    mapped_linears: frozenset[str]
    num_labels: int = 2  # the size of the head that `parameters` counts
    head_parameters_per_label: int | None = None  # weights and bias of one output, over every module of the head
    outputs: tuple[tuple[str, ...], ...] = ()  # what the checkpoint calls each output of its own head
    batch_norms: int = 0  # modules with running statistics
    forward_flops: float | None = None  # of a forward pass over one image, both additions and multiplications


@dataclass(frozen=True)
class Machine:
    """What exists and what this process may use of it."""

    device: Literal["cpu", "cuda", "mps", "xpu"]
    device_name: str
    device_memory_bytes: int  # free on the device that trains; free RAM on a CPU
    ram_bytes: int
    cores: int
    bf16: bool
    world_size: int
    rank: int
    local_rank: int
    system: str
    process_bytes: int = 0  # that this process holds before the run's model is there; 0: not measured

    @property
    def is_first(self) -> bool:
        """Whether this process is the one that writes and speaks."""
        return self.rank == 0

    def own_rows(self, count: int) -> np.ndarray:
        """int64: which of `count` rows are this process's, every `world_size`-th."""
        return np.arange(self.rank, count, self.world_size)

    @property
    def place(self) -> str:
        """This process's device as torch names it."""
        return f"cuda:{self.local_rank}" if self.device == "cuda" else self.device


@dataclass(frozen=True)
class Decision(Generic[T]):
    """A planned value and why it is that value."""

    value: T
    reason: str


@dataclass(frozen=True)
class Plan:
    """Everything the recipe left open, decided. Sizes are per process unless the name says otherwise."""

    device: Decision[str]
    precision: Decision[str]
    effective_batch: Decision[int]
    micro_batch: Decision[int]
    accumulation: Decision[int]
    eval_batch: Decision[int]
    checkpointing: Decision[int]  # blocks that are recomputed
    decode_workers: Decision[int]
    store: Decision[str]
    train_side: Decision[int]
    epochs: Decision[float]
    steps: Decision[int]
    warmup_steps: Decision[int]
    learning_rate: Decision[float]
    trainable_parameters: Decision[int]
    rungs: Decision[tuple[str, ...]] = Decision(("full",), "alone")
    suffix_blocks: Decision[int] = Decision(0, "no cached rung")
    suffix_learning_rate: Decision[float] = Decision(0.0, "no cached rung")
    patches_kept: Decision[float] = Decision(1.0, "all")
    stream: Decision[str] = Decision("off", "not asked for")
    head: Decision[str] = Decision("fresh", "solved by the probe, or trained")
    compute: Decision[str] = Decision("floats", "weights are not in int8")
    activations: Decision[str] = Decision("kept", "faster")
    engine: Decision[str] = Decision("torch", "nothing else is looked for")
    memory_bytes: Mapping[str, int] = field(default_factory=dict)
    memory_note: str = ""
    seconds: Mapping[str, float] = field(default_factory=dict)  # forecast by rung, and `rest`
    seconds_note: str = ""
    seconds_limit: float | None = None  # budget.time


@dataclass(frozen=True)
class Candidate:
    """What one rung produced. `kept`: it was better on validation than what was there before.

    `forecast_s` is what it was expected to take before it began (None where nothing had been measured yet). `at_s`:
    seconds from the start of the process until it was there, `saved_at_s` until its result was on the disk (None: it
    was not the best then, or is saved at the end alone). `images`: what its training saw, with repetitions.
    `by_chance`: the metric that chooses tells it from what was there by chance alone, and something else decided.
    """

    rung: str
    validation: Mapping[str, float]
    seconds: float
    peak_bytes: int
    step: int
    kept: bool = True
    forecast_s: float | None = None
    note: str = ""
    at_s: float = 0.0
    images: int = 0
    saved_at_s: float | None = None
    by_chance: bool = False
