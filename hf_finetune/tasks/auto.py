"""The task that the data decide: what their labels look like."""

from __future__ import annotations

from typing import Literal

from hf_finetune.labels import Reading
from hf_finetune.section import Section


class Auto(Section):
    """As the labels look: classes, any number of labels (lists, columns of 0 and 1), or numbers."""

    kind: Literal["auto"] = "auto"

    @property
    def reading(self) -> Reading:
        """Nothing is said."""
        return Reading()
