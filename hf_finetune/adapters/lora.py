"""Low-rank adapters on the backbone's layers, head trained in full (through PEFT)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypeVar

from pydantic import Field, ValidationInfo, field_validator

from hf_finetune.section import Section
from hf_finetune.types import BackboneFacts

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel

T = TypeVar("T")


def _unless_from(value: T) -> Callable[[dict[str, Any]], T | None]:
    """A default for a recipe that starts from nothing; with `from`, null: as that adapter has it."""
    return lambda known: value if known.get("start") is None else None


class Lora(Section):
    """LoRA (Hu et al. 2021, arXiv 2106.09685)."""

    kind: Literal["lora"] = "lora"

    whole: ClassVar[bool] = False
    trains_backbone: ClassVar[bool] = True
    trains_suffix: ClassVar[bool] = True
    # LoRA on a frozen block saves the adapters' inputs too, but not what only weight gradients need. Assumption, from
    # the 21–46 against 16 token maps a block that autograd keeps for PEFT's LoRA and for full fine-tuning.
    activation_share: ClassVar[float] = 1.6
    # About ten times the rate of full fine-tuning ("LoRA Without Regret", Thinking Machines Lab, 2025-09).
    base_rates: ClassVar[Mapping[str, float]] = {"adamw": 1e-3, "sgd": 1e-1, "lion": 2e-4}

    start: str | None = Field(
        default=None,
        alias="from",
        min_length=1,
        description="a LoRA adapter to start from, instead of zeros: a Hub id (user/adapter, or user/adapter@revision "
        "with a branch, tag or commit), an adapter folder, or a run folder; what is null below is as in that adapter",
    )
    rank: int | None = Field(
        default_factory=_unless_from(8), ge=1, json_schema_extra={"default": 8}, description="null: that of `from`"
    )
    alpha: float | None = Field(
        default=None, gt=0, description="scale of the update is alpha / rank; null: 2 · rank, or that of `from`"
    )
    dropout: float = Field(
        default=0.0, ge=0, lt=1, description="0 saves memory: no mask and no copy of the input is kept"
    )
    rslora: bool | None = Field(
        default_factory=_unless_from(False),
        json_schema_extra={"default": False},
        description="scale by alpha / √rank (arXiv 2312.03732); null: as `from` has it",
    )
    dora: bool = Field(default=False, description="magnitude and direction apart (arXiv 2402.09353); slower")
    targets: Literal["all"] | tuple[str, ...] | None = Field(
        default_factory=_unless_from("all"),
        json_schema_extra={"default": "all"},
        description="roles (attention, mlp, conv), or names or endings of names of modules; null: those of `from`",
    )

    @field_validator("rank", "rslora", "targets")
    @classmethod
    def _refuse_null_without_a_start(cls, value: Any, known: ValidationInfo) -> Any:
        if value is None and known.data.get("start") is None:
            raise ValueError("a value is expected where adapter.from names no adapter to take it from")
        return value

    def apply(self, model: PreTrainedModel, facts: BackboneFacts) -> PeftModel:
        """Wrap `model` so that exactly the low-rank factors and the head train, in float32.

        The factors are fresh; start.py puts those of `from` on. Raises ModelError for a target that the backbone does
        not have, or where nothing can be adapted. With DoRA, modules with a filter of zeros are left out, unless `from`
        adapts them.
        """
        from peft import LoraConfig

        from hf_finetune.adapters.dora import without_zero_filters
        from hf_finetune.adapters.resolve import resolve_targets
        from hf_finetune.adapters.trained import check_lora, wrap

        rank, wanted = self._known()
        targets = resolve_targets(wanted, facts)
        if self.dora and self.start is None:
            targets = without_zero_filters(model, targets)
        config = LoraConfig(
            r=rank,
            lora_alpha=2 * rank if self.alpha is None else self.alpha,  # pyright: ignore[reportArgumentType]
            lora_dropout=self.dropout,
            use_rslora=bool(self.rslora),
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

        rank, wanted = self._known()
        shapes = [facts.module_shapes[name] for name in resolve_targets(wanted, facts)]
        return sum(rank * (wide + out) + self.dora * out for wide, out in shapes) + head_parameters(facts, num_labels)

    def _known(self) -> tuple[int, str | tuple[str, ...]]:
        """Rank and targets. Raises ValueError before `start.follow` has filled in what `from` leaves open."""
        if self.rank is None or self.targets is None:
            raise ValueError("the section still follows the adapter that it starts from")
        return self.rank, self.targets
