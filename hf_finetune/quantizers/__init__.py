"""Quantizers: how the frozen backbone's weights are kept."""

from typing import Annotated

from pydantic import Field

from hf_finetune.quantizers.int8 import Int8
from hf_finetune.quantizers.nf4 import Nf4
from hf_finetune.quantizers.none import Unquantized

Quantizer = Annotated[Unquantized | Int8 | Nf4, Field(discriminator="kind")]

__all__ = ["Int8", "Nf4", "Quantizer", "Unquantized"]
