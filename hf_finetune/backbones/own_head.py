"""Which of a run's labels a checkpoint's own head answers already, by the names of both; and that head's weights.

Owns names and the reading of the head's tensors alone. What is made of them is load.py's. Imports torch only to read.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hf_finetune.backbones.checkpoint import Checkpoint

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedConfig

    from hf_finetune.backbones.renamed_modules import ModuleNames

_NO_NAME = re.compile(r"LABEL_\d+")  # what transformers calls an output that nobody named
_SHOWN = 5


@dataclass(frozen=True)
class OwnHead:
    """`rows`: for each of the run's labels in order the output of the checkpoint's head that answers it, None where
    there is none; `note` says in words what was found."""

    rows: tuple[int | None, ...]
    note: str

    @property
    def kept(self) -> int:
        """How many of the run's labels it answers."""
        return sum(row is not None for row in self.rows)

    @property
    def answers_all(self) -> bool:
        """Whether it answers every one of them."""
        return bool(self.rows) and self.kept == len(self.rows)

    @property
    def text(self) -> str:
        """`kept: its labels are the run's`, for run.json and the card."""
        return f"{'kept' if self.answers_all else 'kept in part' if self.kept else 'fresh'}: {self.note}"

    def without_weights(self) -> OwnHead:
        """The same where the checkpoint turns out to hold no such head."""
        return OwnHead((None,) * len(self.rows), "the checkpoint names these labels but holds no head for them")


def output_names(source: Checkpoint, config: PreTrainedConfig) -> tuple[tuple[str, ...], ...]:
    """Every name of each output of the checkpoint's head in order; a name that says nothing (`LABEL_3`) is left out.

    timm's checkpoints may name an output twice, by a synset and by its description, or leave both to timm's own table.
    """
    known = {int(number): str(name) for number, name in (config.id2label or {}).items()}
    names = [[known[number]] if number in known else [] for number in range(int(config.num_labels or 0))]
    if source.is_timm:
        for own, more in zip(names, _timm_names(source.raw, len(names)), strict=False):
            own += more
    return tuple(tuple(dict.fromkeys(each for each in own if not _NO_NAME.fullmatch(each))) for own in names)


def _timm_names(raw: dict[str, Any], outputs: int) -> list[list[str]]:
    about = {**raw.get("pretrained_cfg", {}), **raw}
    named, described = about.get("label_names"), about.get("label_descriptions") or {}
    if not named:
        from timm.data.imagenet_info import ImageNetInfo, infer_imagenet_subset

        subset = infer_imagenet_subset({"num_classes": outputs})
        named = ImageNetInfo(subset).label_names() if subset else ()
    elif isinstance(named, dict):
        named = [name for _, name in sorted(named.items(), key=lambda item: int(item[0]))]
    if not isinstance(described, dict):
        described = {}
    return [[str(name), *([str(described[name])] if name in described else [])] for name in named]


def match_head(outputs: Sequence[Sequence[str]], labels: Sequence[str], *, classes: bool = True) -> OwnHead:
    """Each label's output: the one of that very name, else the only one that differs in case, blanks, `_` or `-`, or
    has the label among names with commas between them (`tabby, tabby cat`). `classes` False: the run's labels are no
    classes, of which a checkpoint's head says one."""
    if not classes:
        return OwnHead((None,) * len(labels), "what it answers are classes, and the run's labels are none")
    exact = _unambiguous((name, number) for number, names in enumerate(outputs) for name in names)
    loose = _unambiguous((form, number) for number, names in enumerate(outputs) for form in _loose_forms(names))
    forms = [(str(label), _folded(str(label))) for label in labels]
    alike = Counter(form for _, form in forms)
    rows = [exact.get(label, loose.get(form) if alike[form] == 1 else None) for label, form in forms]
    taken = Counter(row for row in rows if row is not None)
    found = tuple(row if row is not None and taken[row] == 1 else None for row in rows)
    return OwnHead(found, _note(found, outputs, labels))


def _unambiguous(pairs: Iterable[tuple[str, int]]) -> dict[str, int]:
    """What each name means, without those that mean several outputs (ImageNet has two cranes)."""
    meant: dict[str, set[int]] = {}
    for name, number in pairs:
        meant.setdefault(name, set()).add(number)
    return {name: next(iter(numbers)) for name, numbers in meant.items() if len(numbers) == 1}


def _loose_forms(names: Sequence[str]) -> set[str]:
    return {_folded(part) for name in names for part in (name, *name.split(","))} - {""}


def _folded(name: str) -> str:
    return " ".join(re.sub(r"[_\-\s]+", " ", name).casefold().split())


def _note(rows: tuple[int | None, ...], outputs: Sequence[Sequence[str]], labels: Sequence[str]) -> str:
    kept = [row for row in rows if row is not None]
    if not kept:
        return "its labels are not the run's" if any(outputs) else "it does not name its labels"
    if len(kept) < len(rows):
        missing = [str(label) for label, row in zip(labels, rows, strict=True) if row is None]
        more = f" and {len(missing) - _SHOWN} more" if len(missing) > _SHOWN else ""
        return f"it answers {len(kept)} of the run's {len(rows)} labels, but not {', '.join(missing[:_SHOWN])}{more}"
    if len(outputs) > len(rows):
        return f"the run's {len(rows)} labels are among its {len(outputs)}"
    return "its labels are the run's" + ("" if kept == sorted(kept) else ", in another order")


def read_head(
    source: Checkpoint, names: ModuleNames, head: Sequence[str], outputs: int
) -> dict[str, torch.Tensor] | None:
    """The tensors of the head's modules by their names here, each with `outputs` in its first dimension.

    None where the checkpoint does not hold every module's weight so, whatever its config says.
    """
    from hf_finetune.backbones.fingerprint import weight_files

    found: dict[str, torch.Tensor] = {}
    for path in weight_files(source):
        for key, tensor in _tensors(path, lambda key: names.now(key).rpartition(".")[0] in head):
            found[names.now(key)] = tensor
    whole = all(f"{name}.weight" in found for name in head)
    return found if whole and all(len(tensor) == outputs for tensor in found.values()) else None


def _tensors(path: Path, wanted: Callable[[str], bool]) -> Iterator[tuple[str, torch.Tensor]]:
    """The wanted tensors of a file of weights; nothing else of it is held."""
    from zipfile import is_zipfile

    import torch
    from safetensors import safe_open

    if path.suffix == ".safetensors":
        with safe_open(path, framework="pt") as file:
            for key in filter(wanted, file.keys()):
                yield key, file.get_tensor(key)
        return
    # Of a file in torch's old format (no zip archive) everything is read.
    mapped = is_zipfile(path)
    for key, tensor in torch.load(path, map_location="cpu", weights_only=True, mmap=mapped).items():
        if wanted(key):
            yield key, tensor.clone()
