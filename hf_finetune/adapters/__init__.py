"""Adapters: which weights are trained.

Beside its own settings, each class says what choosing it implies. `whole`: every weight trains, in float32, and the
result is a whole model; `trains_backbone`: something below the head trains; `trains_suffix`: the last blocks can be
trained alone (the cached rung); `activation_share`: what a step keeps for the backward pass, as a share of what full
fine-tuning keeps; `base_rates`: by the optimizer's family, the learning rate at 64 images an update, values checked on
TrashNet (docs/experiments.md, "Settings of the full rung").
"""

from typing import Annotated, get_args

from pydantic import Field

from hf_finetune.adapters.full import Full
from hf_finetune.adapters.head_only import HeadOnly
from hf_finetune.adapters.lora import Lora

Adapter = Annotated[Lora | HeadOnly | Full, Field(discriminator="kind")]
KINDS: dict[str, type[Lora | HeadOnly | Full]] = {
    member.model_fields["kind"].default: member for member in get_args(get_args(Adapter)[0])
}

__all__ = ["KINDS", "Adapter", "Full", "HeadOnly", "Lora"]
