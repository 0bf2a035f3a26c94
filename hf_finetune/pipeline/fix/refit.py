"""The head of a finished run, fitted again on the features of its rows as they are now, and put into the model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from hf_finetune.errors import ModelError
from hf_finetune.labels import Answers
from hf_finetune.ladder.probe.feature_cache import SplitFeatures
from hf_finetune.ladder.probe.rung import Probed, better_head, check_installed, install, installed
from hf_finetune.pipeline.fix.features import Loaded
from hf_finetune.pipeline.fix.rows import Rows
from hf_finetune.plan.context import RunContext
from hf_finetune.types import Split

if TYPE_CHECKING:
    from torch import nn

    from hf_finetune.ladder.probe.logistic import Kept


@dataclass(frozen=True)
class Refitted:
    """What was fitted. `before`: what the run's head, before it saw validation rows, says of those as they are
    labelled now; None where it does not know one of their classes."""

    probed: Probed
    before: Answers | None


def refit(
    loaded: Loaded, context: RunContext, rows: Mapping[Split, Rows], was: tuple[RunContext, Mapping[Split, Rows]]
) -> Refitted:
    """The better head, as the probe chooses it, in the model of `loaded`. `was`: the run's own context and rows.

    Raises ModelError where the head is no linear layer, or the model then says something else than the head.
    """
    import torch

    names, model = context.facts.head, loaded.model
    own: dict[Split, SplitFeatures] = {split: features_of_rows(its) for split, its in rows.items()}
    # What an adapter was trained on says too much of itself: there validation stays what nothing was fitted on.
    refit = loaded.opened.frozen and context.recipe.train.refit
    before = _before(loaded, was, rows["validation"], refit=refit)
    probed = better_head(context, rows, own, _base_outputs(loaded, context), refit=refit)
    enlarge(model, names, context.target.outputs.names)
    install(model, names, probed.final)
    pixels = loaded.opened.held.pixels
    from hf_finetune.preprocess.normalise import Normaliser

    device = next(model.parameters()).device
    inputs = Normaliser(context.facts.preprocess)({"pixel_values": torch.from_numpy(pixels).to(device)})
    with loaded.as_answering():
        check_installed(model, inputs, probed.final.logits(loaded.held), None)
    return Refitted(probed, before)


def features_of_rows(rows: Rows) -> SplitFeatures:
    """In the form that heads are fitted on."""
    return SplitFeatures(np.arange(len(rows)), rows.features, None, None)


def _before(loaded: Loaded, was: tuple[RunContext, Mapping[Split, Rows]], rows: Rows, *, refit: bool) -> Answers | None:
    target, (context, old) = loaded.opened.manifest.target, was
    head = installed(loaded.model, context.facts.head)
    if refit:  # it was fitted on the validation rows too, and would say nothing but what it was told of them
        own: dict[Split, SplitFeatures] = {split: features_of_rows(its) for split, its in old.items()}
        head = better_head(context, old, own, _base_outputs(loaded, context), refit=False).head
    if rows.labels.ndim == 1 and rows.labels.max() >= len(head.bias):
        return None
    return head.answers(rows.features, rows.labels, target)


def _base_outputs(loaded: Loaded, context: RunContext) -> Kept | None:
    """The outputs of the base's own head that the run could have kept, as its probe looked at them."""
    import torch

    from hf_finetune.backbones.checkpoint import find
    from hf_finetune.backbones.own_head import match_head, read_head
    from hf_finetune.backbones.renamed_modules import module_names
    from hf_finetune.ladder.probe.logistic import Kept

    opened, head = loaded.opened, context.facts.head
    adapter = opened.recipe.adapter
    if not opened.frozen or (adapter.kind == "lora" and adapter.start is not None):
        return None
    outputs = context.facts.outputs
    own = match_head(outputs, context.target.outputs.names, classes=context.index.of_classes)
    if not own.kept or own.answers_all:
        return None
    tensors = read_head(find(opened.base), module_names(opened.base), head, len(outputs))
    if tensors is None or any(f"{name}.bias" not in tensors for name in head):
        return None
    weights = [tensors[f"{name}.weight"].float().flatten(1) for name in head]
    weight = torch.cat(weights, 1) / len(head)
    bias = torch.stack([tensors[f"{name}.bias"].float() for name in head]).mean(0)
    places = torch.tensor([0 if row is None else row for row in own.rows])
    which = torch.tensor([row is not None for row in own.rows])
    return Kept(weight[places], bias[places], which)


def enlarge(model: nn.Module, names: Sequence[str], outputs: Sequence[str]) -> None:
    """Give the trained copies of the head's modules room for so many outputs, and the config their names. Raises
    ModelError for a head of another kind than a linear layer or a convolution."""
    import torch
    from peft import PeftModel

    from hf_finetune.adapters.trained import trained_module

    backbone: Any = model.get_base_model() if isinstance(model, PeftModel) else model
    backbone.config.id2label = dict(enumerate(outputs))
    backbone.config.label2id = {name: number for number, name in enumerate(outputs)}
    for name in names:
        module: Any = trained_module(model, name)
        if len(module.bias) == len(outputs):
            continue
        width = "out_features" if isinstance(module, torch.nn.Linear) else "out_channels"
        if not hasattr(module, width):
            raise ModelError(f"the head {name} is a {type(module).__name__}, which cannot take another class")
        setattr(module, width, len(outputs))
        for part in ("weight", "bias"):
            before = getattr(module, part)
            room = torch.zeros((len(outputs), *before.shape[1:]), dtype=before.dtype, device=before.device)
            setattr(module, part, torch.nn.Parameter(room, requires_grad=before.requires_grad))
