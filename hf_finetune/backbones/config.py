"""The recipe's `model` section."""

from __future__ import annotations

from pydantic import Field

from hf_finetune.section import Section


class Model(Section):
    """Which pretrained backbone to start from."""

    name: str = Field(
        default="builtin:starter",
        min_length=1,
        description="Hub id (timm/… or any transformers image classifier), a local folder, or builtin:starter",
    )
    revision: str | None = Field(default=None, description="Hub branch, tag or commit; null is the default branch")
