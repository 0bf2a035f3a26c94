"""4-bit NormalFloat through bitsandbytes (QLoRA, arXiv 2305.14314)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from hf_finetune.errors import ModelError
from hf_finetune.quantizers.checks import check_quantizable
from hf_finetune.section import Section
from hf_finetune.types import BackboneFacts, Machine

if TYPE_CHECKING:
    from transformers import BitsAndBytesConfig


# bitsandbytes' block: so many weights of a row share a scale.
_BLOCK = 64


class Nf4(Section):
    """4-bit NormalFloat through bitsandbytes (QLoRA, arXiv 2305.14314)."""

    kind: Literal["nf4"] = "nf4"

    def config(self, head: tuple[str, ...]) -> BitsAndBytesConfig:
        """For `from_pretrained`; computes in bfloat16 where the device has it, else float32; the head is left out."""
        import torch
        from transformers import BitsAndBytesConfig

        from hf_finetune.quantizers.checks import skip_patterns

        bf16 = not torch.cuda.is_available() or torch.cuda.is_bf16_supported(including_emulation=False)
        return BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_compute_dtype=torch.bfloat16 if bf16 else torch.float16,
            llm_int8_skip_modules=skip_patterns(head),
        )

    def check(self, facts: BackboneFacts, machine: Machine) -> None:
        """Raises ModelError where nothing would be quantized, MachineError where bitsandbytes has no backend."""
        check_quantizable("nf4", facts, machine)
        if machine.device == "cpu":
            _check_widths(facts)

    def weight_bytes(self, facts: BackboneFacts, bytes_per_weight: int = 4) -> int:
        """Half a byte a weight of a Linear and a float32 scale for every 64 (bitsandbytes' block); the rest stays."""
        quantized = facts.quantizable_parameters
        return quantized // 2 + quantized // 64 * 4 + (facts.parameters - quantized) * bytes_per_weight


def _check_widths(facts: BackboneFacts) -> None:
    """bitsandbytes 0.50.2 repacks 4-bit weights for CPUs by whole blocks of a row, and crashes on any other width."""
    linear = [name for role in ("attention", "mlp") for name in facts.targets.get(role, ())]
    odd = [name for name in linear if facts.module_shapes[name][0] % _BLOCK]
    if odd:
        raise ModelError(
            f"quantization.kind: on CPUs nf4 needs Linear layers whose input width is a multiple of {_BLOCK}; "
            f"{facts.name!r} has {len(odd)} others, such as {odd[0]} with {facts.module_shapes[odd[0]][0]}",
            "use quantization.kind=int8, or a GPU",
        )
