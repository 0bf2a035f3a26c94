"""Every weight of the backbone is trained; the result is a whole model, not an adapter."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar, Literal

from hf_finetune.errors import ModelError
from hf_finetune.section import Section
from hf_finetune.types import BackboneFacts

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class Full(Section):
    """Full fine-tuning."""

    kind: Literal["full"] = "full"

    whole: ClassVar[bool] = True
    trains_backbone: ClassVar[bool] = True
    trains_suffix: ClassVar[bool] = False
    activation_share: ClassVar[float] = 1.0
    # The usual 1e-4 to 5e-5 for ViTs with AdamW (Steiner et al. 2021, arXiv 2106.10270, fine-tune with SGD).
    base_rates: ClassVar[Mapping[str, float]] = {"adamw": 1e-4, "sgd": 1e-2, "lion": 2e-5}

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
