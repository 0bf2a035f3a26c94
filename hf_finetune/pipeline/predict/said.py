"""What is written of one image: as a line, as JSON, as cells of a table."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hf_finetune.files.visible import one_line
from hf_finetune.report.predicted.columns import Cell, own_names
from hf_finetune.result.predict.stream import Answered

UNLIKE = "  (unlike the training images)"


@dataclass(frozen=True)
class Said:
    """`top`: how many labels; `explained`: the picture of what the model looked at."""

    answered: Answered
    top: int = 1
    explained: Path | None = None

    def as_text(self) -> str | None:
        """`photo.jpg  cat 0.998`; None where there is no answer."""
        prediction = self.answered.prediction
        if prediction is None:
            return None
        return f"{one_line(self.answered.given.name)}  {prediction.text(self.top)}{UNLIKE if prediction.unlike else ''}"

    def as_json(self) -> dict[str, Any]:
        """`image`, the answer's own keys, `distance` where it is known, `unlike`; or `image` and `error`."""
        prediction = self.answered.prediction
        said: dict[str, Any] = {"image": self.answered.given.name}
        if prediction is None:
            return {**said, "error": self.answered.error}
        far = {} if prediction.distance is None else {"distance": round(prediction.distance, 4)}
        seen = {} if self.explained is None else {"explained": str(self.explained)}
        return {**said, **prediction.as_json(self.top), **far, "unlike": prediction.unlike, **seen}

    def as_cells(self) -> dict[str, Cell]:
        """By column (`report/predicted/columns.py`)."""
        prediction = self.answered.prediction
        cells: dict[str, Cell] = {"path": self.answered.given.name}
        if prediction is None:
            return {**cells, "error": self.answered.error}
        row = prediction.as_row(self.top)
        own = dict(zip(own_names(tuple(row)), row.values(), strict=True))
        if prediction.distance is not None:
            cells |= {"unlike": prediction.unlike, "distance": round(prediction.distance, 4)}
        return {**cells, **own, "explained": None if self.explained is None else str(self.explained)}
