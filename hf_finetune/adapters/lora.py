"""Low-rank adapters on the backbone's layers, head trained in full (through PEFT)."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from hf_finetune.section import Section


class Lora(Section):
    """LoRA (Hu et al. 2021, arXiv 2106.09685)."""

    kind: Literal["lora"] = "lora"
    rank: int = Field(default=8, ge=1)
    alpha: float | None = Field(default=None, gt=0, description="scale of the update is alpha / rank; null: 2 · rank")
    dropout: float = Field(default=0.0, ge=0, lt=1, description="0 saves memory: no mask and no copy of the input is kept")
    rslora: bool = Field(default=False, description="scale by alpha / √rank (arXiv 2312.03732)")
    dora: bool = Field(default=False, description="magnitude and direction apart (arXiv 2402.09353); slower")
    targets: Literal["all"] | tuple[str, ...] = Field(
        default="all", description="roles (attention, mlp, conv), or names or endings of names of modules"
    )
