"""Every weight of the backbone is trained; the result is a whole model, not an adapter."""

from __future__ import annotations

from typing import Literal

from hf_finetune.section import Section


class Full(Section):
    """Full fine-tuning."""

    kind: Literal["full"] = "full"
