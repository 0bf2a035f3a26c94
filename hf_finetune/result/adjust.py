"""Logit adjustment of a finished result: no training, only the biases of its head are moved.

In training the loss does it (`task.logit_adjustment`); owns what is done to a model that was trained without.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hf_finetune.errors import AdapterError, RecipeError
from hf_finetune.result.manifest import Manifest

if TYPE_CHECKING:
    from torch import nn

LARGEST = 10.0


def adjust(model: nn.Module, folder: Path, manifest: Manifest, strength: float) -> Manifest:
    """Take `strength` times the logarithm of each class's share of the training rows from the logits of the result in
    `folder`, which `model` holds; in place. With 1 it answers as if classes were equally frequent (the post-hoc form of
    Menon et al. 2021, arXiv 2007.07314). Gives what is then true of the result: without its temperature and sets, which
    were chosen for other answers.

    Raises RecipeError for a strength outside 0 to 10, AdapterError where the result does not say what its classes were,
    where its training balanced them already, or where its head has no biases.
    """
    import torch

    from hf_finetune.adapters.trained import trained_module
    from hf_finetune.recipe.recipe import load_recipe
    from hf_finetune.tasks.classification import ClassTarget, log_prior

    if not 0 <= strength <= LARGEST:
        raise RecipeError(f"--logit-adjustment: a number from 0 to {LARGEST:g} is expected, found {strength:g}.")
    target = manifest.target
    if not isinstance(target, ClassTarget):
        raise AdapterError(
            f"--logit-adjustment: a result of one class an image is expected, found task.kind={manifest.task['kind']}."
        )
    if balanced := load_recipe(folder / "recipe.yaml").balances:
        raise AdapterError(
            f"--logit-adjustment: a result whose training did not balance its classes is expected, found {balanced[0]}."
        )
    if not target.counts:
        raise AdapterError(
            "--logit-adjustment: a result that says how many training rows each class had is expected; this one is "
            "from before 2026-11-29.",
            "Train again, with task.logit_adjustment or without.",
        )
    head: Any = trained_module(model, manifest.head[0])
    bias = getattr(head, "bias", None)
    if not isinstance(bias, torch.Tensor) or bias.shape != (len(target.counts),):
        raise AdapterError(
            f"--logit-adjustment: a head with a bias for each class is expected, found {type(head).__name__}.",
            "Train with task.logit_adjustment instead.",
        )
    # A model with several heads answers with their mean.
    offsets = torch.tensor(log_prior(target.counts, strength * len(manifest.head)))
    with torch.no_grad():
        bias.sub_(offsets.to(bias.device, bias.dtype))
    return replace(manifest, task=target.uncalibrated().settings)
