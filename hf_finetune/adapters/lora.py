"""Low-rank adapters on the backbone's layers, head trained in full (through PEFT)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from hf_finetune.section import Section
from hf_finetune.types import BackboneFacts

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel


class Lora(Section):
    """LoRA (Hu et al. 2021, arXiv 2106.09685)."""

    kind: Literal["lora"] = "lora"
    rank: int = Field(default=8, ge=1)
    alpha: float | None = Field(default=None, gt=0, description="scale of the update is alpha / rank; null: 2 · rank")
    dropout: float = Field(
        default=0.0, ge=0, lt=1, description="0 saves memory: no mask and no copy of the input is kept"
    )
    rslora: bool = Field(default=False, description="scale by alpha / √rank (arXiv 2312.03732)")
    dora: bool = Field(default=False, description="magnitude and direction apart (arXiv 2402.09353); slower")
    targets: Literal["all"] | tuple[str, ...] = Field(
        default="all", description="roles (attention, mlp, conv), or names or endings of names of modules"
    )

    def apply(self, model: PreTrainedModel, facts: BackboneFacts) -> PeftModel:
        """Wrap `model` so that exactly the low-rank factors and the head train, in float32.

        Raises ModelError for a target that the backbone does not have, or where nothing can be adapted.
        """
        from peft import LoraConfig

        from hf_finetune.adapters.resolve import resolve_targets
        from hf_finetune.adapters.trained import check_lora, wrap

        targets = resolve_targets(self.targets, facts)
        config = LoraConfig(
            r=self.rank,
            lora_alpha=2 * self.rank if self.alpha is None else self.alpha,  # pyright: ignore[reportArgumentType]
            lora_dropout=self.dropout,
            use_rslora=self.rslora,
            use_dora=self.dora,
            target_modules=list(targets),
            modules_to_save=list(facts.head),
        )
        wrapped = wrap(model, config, facts.commit)
        check_lora(wrapped, targets, facts.head)
        return wrapped

    def trainable_parameters(self, facts: BackboneFacts, num_labels: int) -> int:
        """rank · (in + out) for each target, one magnitude per output with DoRA, and the head."""
        from hf_finetune.adapters.resolve import head_parameters, resolve_targets

        shapes = [facts.module_shapes[name] for name in resolve_targets(self.targets, facts)]
        return sum(self.rank * (wide + out) + self.dora * out for wide, out in shapes) + head_parameters(
            facts, num_labels
        )
