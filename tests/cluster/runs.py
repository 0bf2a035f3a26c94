"""A run on a cluster that is disturbed in its middle, and the same run undisturbed: what both must come to."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import load_file

RECIPE = ("recipes/quickstart.yaml", "ladder=[full]", "train.epochs=8", "train.evaluations=20", "train.precision=fp32")
SECONDS = 500.0  # a bound for a machine that is busy


class ClusterRun:
    """One run in a folder of its own; `words` are its recipe and overrides. How it is started is its cluster's."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True)
        self.run, self.log_file = folder / "run", folder / "log"
        self.words = (*RECIPE, f"output.dir={self.run}", f"data.cache_dir={folder / 'cache'}")

    @property
    def log(self) -> str:
        return self.log_file.read_text("utf-8", errors="replace") if self.log_file.is_file() else ""

    def wait(self, until: Callable[[], bool], goes_on: Callable[[], bool] = lambda: True) -> None:
        """Until something is so, at most SECONDS, while the run goes on."""
        end = time.monotonic() + SECONDS
        while not until():
            assert goes_on() and time.monotonic() < end, self.log[-5000:]
            time.sleep(0.2)

    def has_checkpoint(self) -> bool:
        return any((self.run / "checkpoints").glob("checkpoint-*/trainer_state.json"))

    def assert_went_on_to(self, undisturbed: ClusterRun) -> None:
        """From a checkpoint, to the very weights of the run that nothing disturbed."""
        assert "Going on from" in self.log
        ours, theirs = (load_file(each.run / "adapter" / "adapter_model.safetensors") for each in (self, undisturbed))
        assert ours.keys() == theirs.keys()
        for name, value in theirs.items():
            torch.testing.assert_close(ours[name], value, rtol=0, atol=0, msg=name)
