"""A picture for each answered image: what the model saw, and beside it where it looked."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from hf_finetune.pipeline.predict.sort import Names, cannot_write, name_of
from hf_finetune.report.predicted.overlay import overlay
from hf_finetune.result.classifier import Classifier
from hf_finetune.result.predict.stream import Answered
from hf_finetune.result.saliency import saliency


class Explainer:
    """Writes PNG files into a folder, named like the images; nothing that is there is replaced."""

    def __init__(self, folder: Path, classifier: Classifier) -> None:
        self._folder, self._classifier, self._names = folder, classifier, Names()

    def draw(self, batch: Sequence[Answered]) -> list[Path | None]:
        """The picture of each; None where there is no answer. Raises ModelError where the model has no feature map,
        MachineError where a picture cannot be written."""
        pixels = [each.pixels for each in batch if each.prediction is not None and each.pixels is not None]
        if not pixels:
            return [None] * len(batch)
        maps = iter(saliency(self._classifier, np.stack(pixels)))
        return [
            None if each.prediction is None or each.pixels is None else self._write(each, each.pixels, next(maps))
            for each in batch
        ]

    def _write(self, answered: Answered, pixels: np.ndarray, heat: np.ndarray) -> Path:
        path = self._names.take(self._folder, f"{Path(name_of(answered.given.locator)).stem}.png")
        try:
            overlay(pixels, heat).save(path)
        except OSError as error:
            path.unlink(missing_ok=True)
            raise cannot_write(path, error) from None
        return path
