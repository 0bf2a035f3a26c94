"""Counts what the steps of a recipe hold, on its own backbone without weights: the numbers that the forecast takes.

The model is built as the run will build it (types, attention, quantized layers, adapter, training forms), so that what
those do is counted and not assumed. A count takes some tenths of a second for a ViT-B; each is made once, and only when
the plan asks for it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hf_finetune.backbones.counting.step_bytes import StepBytes
from hf_finetune.errors import FinetuneError
from hf_finetune.plan.arithmetic import activations_of
from hf_finetune.recipe.recipe import Recipe
from hf_finetune.types import BackboneFacts, Decision

if TYPE_CHECKING:
    from torch import nn

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Setting:
    """What decides the bytes of a step. `recomputed`: every block or none; `backward` False: a pass without gradients;
    `patches`: the share of an image's patches that a training step sees, where the backbone allows it."""

    recipe: Recipe
    device: str
    precision: str
    recomputed: bool = False
    backward: bool = True
    patches: float = 1.0

    @property
    def key(self) -> tuple[object, ...]:
        """Equal where the bytes are."""
        kind = self.recipe.quantization.model_dump_json()
        common = kind, self.device == "cpu", self.precision, self.recipe.adapter.whole
        if not self.backward:  # nothing is kept, whichever the adapter and however it would be made again
            return common
        activations = activations_of(self.recipe, self.device).value
        return *common, self.recipe.adapter.model_dump_json(), activations, self.recomputed, self.patches


# The bytes of a step under a setting; None where they cannot be counted.
Count = Callable[[Setting], StepBytes | None]


def uncounted(_: Setting) -> StepBytes | None:
    """For a plan without a backbone to count on."""
    return None


class Counter:
    """Counts on one backbone; remembers what it has counted."""

    def __init__(self, facts: BackboneFacts, config: Any, labels: int) -> None:
        self._facts, self._config, self._labels = facts, config, labels
        self._known: dict[object, StepBytes | None] = {}
        self._built: tuple[object, nn.Module] | None = None  # the last, for another form of the same model

    def __call__(self, setting: Setting) -> StepBytes | None:
        if setting.key not in self._known:
            self._known[setting.key] = self._count_if_possible(setting)
        return self._known[setting.key]

    def _count_if_possible(self, setting: Setting) -> StepBytes | None:
        try:
            return self._count(setting)
        except FinetuneError:
            raise
        except Exception as error:  # noqa: BLE001  a network may do on meta what it likes; a plan without a count is coarse
            logger.debug("a step could not be counted: %s", error)
            return None

    def _count(self, setting: Setting) -> StepBytes | None:
        from hf_finetune.backbones.counting.meta_autocast import Autocast
        from hf_finetune.backbones.counting.short_steps import short_steps
        from hf_finetune.backbones.counting.step_trace import trace_step
        from hf_finetune.backbones.recompute import recomputed
        from hf_finetune.training.autocast import autocast_type

        blocks, seen = self._facts.blocks, self._facts.preprocess
        dtype = autocast_type(setting.precision)
        with _quietly(), _as_it_trains(self, setting) as (model, base, needs_autocast):
            autocast = Autocast(dtype, setting.device) if needs_autocast and dtype is not None else None
            short = short_steps(base, blocks, (seen.height, seen.width), setting.patches if setting.backward else 1.0)
            with short, recomputed(model, blocks, len(blocks) if setting.recomputed else 0):
                return trace_step(
                    model,
                    (seen.height, seen.width),
                    blocks=[base.get_submodule(name) for name in blocks],
                    autocast=autocast,
                    backward=setting.backward,
                    by_onednn=setting.device == "cpu",
                )

    def built(self, setting: Setting) -> nn.Module:
        """The adapted model without weights, in whatever mode the last count has left it."""
        recipe = setting.recipe
        key = (
            recipe.adapter.model_dump_json(),
            recipe.quantization.model_dump_json(),
            recipe.compute,
            setting.device,
            setting.precision,
        )
        if self._built is None or self._built[0] != key:
            self._built = key, self.build(setting)
        return self._built[1]

    def build(self, setting: Setting) -> nn.Module:
        """A new one."""
        import torch

        from hf_finetune.backbones.load import load_empty, short_sequence

        recipe, facts = setting.recipe, self._facts
        precision = "fp32" if recipe.adapter.whole else setting.precision
        dtype = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[precision]
        plain = setting.device == "cpu" and short_sequence(facts.preprocess)
        model = load_empty(self._config, self._labels, facts.head, dtype, plain_attention=plain)
        if recipe.quantization.kind != "none":
            from hf_finetune.backbones.counting.quantized_empty import quantize_empty

            left = recipe.quantization.left_out(facts)
            linears = [name for name in facts.linears if name not in left]
            quantize_empty(model, recipe.quantization.kind, linears, setting.device, dtype, recipe.compute)
        return recipe.adapter.apply(model, facts)


@contextmanager
def _as_it_trains(counter: Counter, setting: Setting) -> Iterator[tuple[nn.Module, Any, bool]]:
    """The model in its training form (or in eval mode), its backbone, and whether the step needs autocast."""
    from peft import PeftModel

    from hf_finetune.adapters.low_memory import training_forms
    from hf_finetune.adapters.trained import frozen_norms

    model = counter.built(setting)
    base = model.get_base_model() if isinstance(model, PeftModel) else model
    if not setting.backward:
        yield model.eval(), base, setting.recipe.adapter.whole
        return
    model.train()
    for norm in frozen_norms(model):
        norm.eval()
    activations = activations_of(setting.recipe, setting.device)
    plan: Any = _Forms(Decision(setting.device, ""), Decision(setting.precision, ""), activations)
    with training_forms(model, plan) as autocast:
        yield model, base, autocast


@dataclass(frozen=True)
class _Forms:
    """What the training forms ask of a plan, which is not made yet."""

    device: Decision[str]
    precision: Decision[str]
    activations: Decision[str]


@contextmanager
def _quietly() -> Iterator[None]:
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
