"""The backbone's weights stay in floating point."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Literal

from hf_finetune.section import Section
from hf_finetune.types import BackboneFacts, Machine


class Unquantized(Section):
    """The backbone's weights stay in floating point."""

    kind: Literal["none"] = "none"

    def config(self, head: Iterable[str], skipped: Iterable[str] = ()) -> None:  # noqa: ARG002  every quantizer's
        """Nothing for `from_pretrained`."""
        return

    def left_out(self, facts: BackboneFacts) -> Mapping[str, str]:  # noqa: ARG002  the interface of every quantizer
        """Nothing is named: all layers stay as they are."""
        return {}

    def check(self, facts: BackboneFacts, machine: Machine) -> None:
        """Every backbone can stay as it is."""

    def weight_bytes(self, facts: BackboneFacts, bytes_per_weight: int = 4) -> int:
        """Bytes of the resident weights, at `bytes_per_weight` (4 for float32, 2 for bfloat16)."""
        return facts.parameters * bytes_per_weight
