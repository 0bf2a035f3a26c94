"""LLM.int8 through bitsandbytes (arXiv 2208.07339)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from hf_finetune.quantizers.checks import check_quantizable, converted_weights
from hf_finetune.section import Section
from hf_finetune.types import BackboneFacts, Compute, Machine

if TYPE_CHECKING:
    from transformers import BitsAndBytesConfig


class Int8(Section):
    """LLM.int8 through bitsandbytes (arXiv 2208.07339)."""

    kind: Literal["int8"] = "int8"

    compute: Compute = Field(
        default="auto",
        description="how int8 weights are multiplied: as integers, each token with a scale of its own; made "
        "floating-point for each product, which is exact; as stock code does (slow); auto: integers where the machine "
        "is faster with them, else dequantized",
    )

    def config(self, head: Iterable[str], skipped: Iterable[str] = ()) -> BitsAndBytesConfig:
        """For `from_pretrained`; the head is left out (transformers' own list misses classifiers), and so are the
        layers that the expressions `skipped` match."""
        from transformers import BitsAndBytesConfig

        from hf_finetune.quantizers.checks import skip_patterns

        return BitsAndBytesConfig(load_in_8bit=True, llm_int8_skip_modules=[*skip_patterns(head), *skipped])

    def left_out(self, facts: BackboneFacts) -> Mapping[str, str]:
        """Linear layers that stay in floating point, with the reason."""
        return facts.fixed_linears

    def check(self, facts: BackboneFacts, machine: Machine) -> None:
        """Raises ModelError where nothing would be quantized, MachineError where bitsandbytes has no backend."""
        check_quantizable("int8", facts, self.left_out(facts), machine)

    def weight_bytes(self, facts: BackboneFacts, bytes_per_weight: int = 4) -> int:
        """One byte for each weight of a Linear, `bytes_per_weight` for the rest; row scales (float32) are under 1 %."""
        quantized = converted_weights(facts, self.left_out(facts))
        return quantized + (facts.parameters - quantized) * bytes_per_weight
