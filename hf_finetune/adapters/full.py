"""Every weight of the backbone is trained; the result is a whole model, not an adapter."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from hf_finetune.errors import ModelError
from hf_finetune.section import Section
from hf_finetune.types import BackboneFacts

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class Full(Section):
    """Full fine-tuning."""

    kind: Literal["full"] = "full"

    def apply(self, model: PreTrainedModel, facts: BackboneFacts) -> PreTrainedModel:
        """Let every weight of `model` train. Raises ModelError on a quantized backbone, whose weights cannot."""
        if getattr(model, "is_quantized", False):
            raise ModelError(
                f"adapter.kind: full trains every weight of {facts.name!r}, but they are quantized",
                "set quantization.kind=none, or adapter.kind=lora",
            )
        return model.requires_grad_(True)

    def trainable_parameters(self, facts: BackboneFacts, num_labels: int) -> int:
        """All of them, with a head of `num_labels`; `facts.parameters` holds the head that the facts were read with."""
        from hf_finetune.adapters.resolve import head_parameters

        return facts.parameters - head_parameters(facts, facts.num_labels) + head_parameters(facts, num_labels)
