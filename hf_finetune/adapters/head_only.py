"""Only the head is trained; the backbone stays as it is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar, Literal

from hf_finetune.section import Section
from hf_finetune.types import BackboneFacts

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel


class HeadOnly(Section):
    """Linear probing by gradient descent."""

    kind: Literal["head_only"] = "head_only"

    whole: ClassVar[bool] = False
    trains_backbone: ClassVar[bool] = False
    trains_suffix: ClassVar[bool] = False
    activation_share: ClassVar[float] = 0.05  # nothing below the head is kept
    base_rates: ClassVar[Mapping[str, float]] = {"adamw": 3e-3, "sgd": 1e-1, "lion": 5e-4}

    def apply(self, model: PreTrainedModel, facts: BackboneFacts) -> PeftModel:
        """Wrap `model` so that exactly the head trains.

        PEFT's LN tuning is the carrier: it trains and saves a full copy of the modules that it names, whatever their
        type, and stock PEFT loads that. (A LoraConfig without targets is refused by PEFT, and a LoRA of zeros on some
        module would be dead weight in every adapter.)
        """
        from peft import LNTuningConfig

        from hf_finetune.adapters.trained import check_head_only, wrap

        wrapped = wrap(model, LNTuningConfig(target_modules=list(facts.head)), facts.commit)
        check_head_only(wrapped, facts.head)
        return wrapped

    def trainable_parameters(self, facts: BackboneFacts, num_labels: int) -> int:
        """The head's weights and biases."""
        from hf_finetune.adapters.resolve import head_parameters

        return head_parameters(facts, num_labels)
