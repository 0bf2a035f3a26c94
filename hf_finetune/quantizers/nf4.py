"""4-bit NormalFloat through bitsandbytes (QLoRA, arXiv 2305.14314)."""

from __future__ import annotations

from typing import Literal

from hf_finetune.section import Section


class Nf4(Section):
    """4-bit NormalFloat through bitsandbytes (QLoRA, arXiv 2305.14314)."""

    kind: Literal["nf4"] = "nf4"
