"""Adapters: which weights are trained."""

from typing import Annotated

from pydantic import Field

from hf_finetune.adapters.full import Full
from hf_finetune.adapters.head_only import HeadOnly
from hf_finetune.adapters.lora import Lora

Adapter = Annotated[Lora | HeadOnly | Full, Field(discriminator="kind")]

__all__ = ["Adapter", "Full", "HeadOnly", "Lora"]
