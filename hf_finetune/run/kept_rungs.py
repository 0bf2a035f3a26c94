"""What a trained rung had reached, on disk: a run that is killed goes on from there, and never ends below it.

`checkpoints/rung-NAME.safetensors` holds the best weights of a rung that keeps them in memory (by the clock it writes
no checkpoints), and what they say of validation. Owns that file, when it is worth writing, and whether it can be
trusted. What is made of it is the ladder's.
"""

from __future__ import annotations

import hashlib
import json
import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hf_finetune.files.whole_file import whole_file
from hf_finetune.machine.disk import follow_umask

if TYPE_CHECKING:
    import torch

logger = logging.getLogger(__name__)
_WEIGHT, _ANSWER = "weight.", "answer."
# A file is worth writing where that takes at most this share of the seconds that a kill would lose, on a disk that
# takes so many bytes a second, and inside a rung at most once a minute. Assumptions.
MOST_SHARE, DISK_BYTES_S, LEAST_S = 0.05, 2e8, 60.0


@dataclass(frozen=True)
class KeptRung:
    """The best weights of `rung` so far, by name, and the arrays of their answers to validation. `ended`: the rung had
    come to its end. `step` of `steps` updates were the best; it took `seconds`, in micro-batches of `micro_batch`."""

    rung: str
    ended: bool
    weights: Mapping[str, torch.Tensor]
    answers: Sequence[np.ndarray]
    step: int
    steps: int
    seconds: float
    micro_batch: int


class KeptRungs:
    """Those of one run: `of` says what it began with, `folder` is where they lie (None: nothing is kept)."""

    def __init__(self, folder: Path | None, of: Mapping[str, Any]) -> None:
        self._folder, self._of = folder, json.loads(json.dumps(dict(of)))
        self._written = time.monotonic()

    def is_worth(self, weights: Mapping[str, torch.Tensor], seconds: float) -> bool:
        """Whether these weights may be written, where a kill would lose so many seconds of work."""
        size = sum(each.nbytes for each in weights.values())
        return self._folder is not None and size / DISK_BYTES_S <= MOST_SHARE * seconds

    def keep_meanwhile(self, kept: KeptRung) -> None:
        """The same as `keep` of a rung that goes on, now and then."""
        since = time.monotonic() - self._written
        if since >= LEAST_S and self.is_worth(kept.weights, since):
            self.keep(kept)
            self._written = time.monotonic()

    def keep(self, kept: KeptRung) -> None:
        """Write it in place of what was kept of that rung. Says so where that is not possible, and goes on."""
        if self._folder is None:
            return
        import torch
        from safetensors.torch import save_file

        tensors = {f"{_WEIGHT}{name}": tensor.contiguous() for name, tensor in kept.weights.items()}
        for number, array in enumerate(kept.answers):
            tensors[f"{_ANSWER}{number}"] = torch.from_numpy(np.ascontiguousarray(array))
        about = {
            "rung": kept.rung,
            "ended": kept.ended,
            "step": kept.step,
            "steps": kept.steps,
            "seconds": kept.seconds,
            "micro_batch": kept.micro_batch,
        }
        text = {"about": json.dumps(about), "of": json.dumps(self._of), "digest": _digest(tensors)}
        try:
            self._folder.mkdir(exist_ok=True)
            with whole_file(self._file(kept.rung)) as partial:
                save_file(tensors, partial, text)
            follow_umask(self._folder)
        except Exception as error:  # noqa: BLE001 - safetensors raises its own for a full disk, too
            logger.warning("What %s has reached could not be kept: %s", kept.rung, error)

    def find(self, rung: str) -> KeptRung | None:
        """What was kept of a rung; None where there is nothing that is whole and of this run."""
        from safetensors import SafetensorError, safe_open

        if self._folder is None or not self._file(rung).is_file():
            return None
        try:
            with safe_open(self._file(rung), "pt") as file:
                text = file.metadata()
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is no mapping
            if json.loads(text["of"]) != self._of or text["digest"] != _digest(tensors):
                raise ValueError("it is of another run, or not as it was written")
            answers = sorted((name for name in tensors if name.startswith(_ANSWER)), key=_number)
            return KeptRung(
                weights={name[len(_WEIGHT) :]: each for name, each in tensors.items() if name.startswith(_WEIGHT)},
                answers=[tensors[name].numpy() for name in answers],
                **json.loads(text["about"]),
            )
        except (OSError, ValueError, LookupError, TypeError, SafetensorError) as error:
            logger.warning("%s is left alone: %s", self._file(rung), error)
            return None

    def _file(self, rung: str) -> Path:
        if self._folder is None:
            raise ValueError("nothing is kept here")
        return self._folder / f"rung-{rung}.safetensors"


def forget_rungs(folder: Path) -> None:
    """Remove all of them from a folder, once the run is finished."""
    for path in folder.glob("rung-*.safetensors"):
        path.unlink(missing_ok=True)


def _number(name: str) -> int:
    return int(name.removeprefix(_ANSWER))


def _digest(tensors: Mapping[str, torch.Tensor]) -> str:
    import torch

    found = hashlib.blake2b(digest_size=16)
    for name in sorted(tensors):
        found.update(f"{name} {tensors[name].dtype} {tuple(tensors[name].shape)}\n".encode())
        found.update(tensors[name].contiguous().view(-1).view(torch.uint8).numpy().data)
    return found.hexdigest()
