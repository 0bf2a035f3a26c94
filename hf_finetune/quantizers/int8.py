"""LLM.int8 through bitsandbytes (arXiv 2208.07339)."""

from __future__ import annotations

from typing import Literal

from hf_finetune.section import Section


class Int8(Section):
    """LLM.int8 through bitsandbytes (arXiv 2208.07339)."""

    kind: Literal["int8"] = "int8"
