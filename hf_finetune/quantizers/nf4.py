"""4-bit NormalFloat through bitsandbytes (QLoRA, arXiv 2305.14314)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Literal

from hf_finetune.quantizers.checks import check_quantizable, converted_weights
from hf_finetune.section import Section
from hf_finetune.types import BackboneFacts, Machine

if TYPE_CHECKING:
    from transformers import BitsAndBytesConfig


# What bitsandbytes 0.50.2 takes on every machine. On CPUs it multiplies by whole blocks of a row, so many weights to a
# scale, and where the CPU has AVX512-BF16 stock code repacks so many rows together; with other widths it raises there.
# A GPU takes any width, but its result would then load on some machines only.
_INPUTS, _OUTPUTS = 64, 32
_WIDTHS = f"nf4 takes input widths that are multiples of {_INPUTS} and output widths of {_OUTPUTS} everywhere"


class Nf4(Section):
    """4-bit NormalFloat through bitsandbytes (QLoRA, arXiv 2305.14314)."""

    kind: Literal["nf4"] = "nf4"

    def config(self, head: Iterable[str], skipped: Iterable[str] = ()) -> BitsAndBytesConfig:
        """For `from_pretrained`; computes in bfloat16, or float16 where a GPU lacks that; the head is left out, and so
        are the layers that the expressions `skipped` match."""
        import torch
        from transformers import BitsAndBytesConfig

        from hf_finetune.quantizers.checks import skip_patterns

        bf16 = not torch.cuda.is_available() or torch.cuda.is_bf16_supported(including_emulation=False)
        return BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_compute_dtype=torch.bfloat16 if bf16 else torch.float16,
            llm_int8_skip_modules=[*skip_patterns(head), *skipped],
        )

    def left_out(self, facts: BackboneFacts) -> Mapping[str, str]:
        """Linear layers that stay in floating point, with the reason."""
        odd = {name: _WIDTHS for name, (wide, out) in facts.linears.items() if wide % _INPUTS or out % _OUTPUTS}
        return {**odd, **facts.fixed_linears}

    def check(self, facts: BackboneFacts, machine: Machine) -> None:
        """Raises ModelError where nothing would be quantized, MachineError where bitsandbytes has no backend."""
        check_quantizable("nf4", facts, self.left_out(facts), machine)

    def weight_bytes(self, facts: BackboneFacts, bytes_per_weight: int = 4) -> int:
        """Half a byte a weight of a Linear and a float32 scale for every 64 (bitsandbytes' block); the rest stays."""
        quantized = converted_weights(facts, self.left_out(facts))
        return quantized // 2 + quantized // 64 * 4 + (facts.parameters - quantized) * bytes_per_weight
