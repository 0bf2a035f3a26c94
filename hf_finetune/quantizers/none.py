"""The backbone's weights stay in floating point."""

from __future__ import annotations

from typing import Literal

from hf_finetune.section import Section


class Unquantized(Section):
    """The backbone's weights stay in floating point."""

    kind: Literal["none"] = "none"
