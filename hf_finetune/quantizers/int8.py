"""LLM.int8 through bitsandbytes (arXiv 2208.07339)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from hf_finetune.quantizers.checks import check_quantizable
from hf_finetune.section import Section
from hf_finetune.types import BackboneFacts, Machine

if TYPE_CHECKING:
    from transformers import BitsAndBytesConfig


class Int8(Section):
    """LLM.int8 through bitsandbytes (arXiv 2208.07339)."""

    kind: Literal["int8"] = "int8"

    def config(self, head: tuple[str, ...]) -> BitsAndBytesConfig:
        """For `from_pretrained`; the head is left out (transformers' own list misses classifiers)."""
        from transformers import BitsAndBytesConfig

        from hf_finetune.quantizers.checks import skip_patterns

        return BitsAndBytesConfig(load_in_8bit=True, llm_int8_skip_modules=skip_patterns(head))

    def check(self, facts: BackboneFacts, machine: Machine) -> None:
        """Raises ModelError where nothing would be quantized, MachineError where bitsandbytes has no backend."""
        check_quantizable("int8", facts, machine)

    def weight_bytes(self, facts: BackboneFacts, bytes_per_weight: int = 4) -> int:
        """One byte for each weight of a Linear, `bytes_per_weight` for the rest; row scales (float32) are under 1 %."""
        return facts.quantizable_parameters + (facts.parameters - facts.quantizable_parameters) * bytes_per_weight
