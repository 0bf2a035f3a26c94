"""Fast, resource-limited fine-tuning of image models in the Hugging Face ecosystem.

    import hf_finetune
    run = hf_finetune.train({"model": {"name": "timm/vit_tiny_patch16_224.augreg_in21k_ft_in1k"}}, data="photos/")
    run.model.predict(["photo.jpg"])
    hf_finetune.load("runs/default").predict(["photo.jpg"])

Importing this package imports no torch; the functions do when called.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hf_finetune.pipeline.train import Run
    from hf_finetune.recipe.recipe import Recipe
    from hf_finetune.result.classifier import Classifier

__version__ = "0.1.0"
__all__ = ["load", "train"]


def train(recipe: Recipe | str | Path | Mapping[str, Any], *, data: Any = None) -> Run:
    """Run a recipe (a file, a mapping or a Recipe) and return the finished run.

    `data` replaces `recipe.data.name`: a datasets.Dataset or DatasetDict, a folder, or a list of (path, label). The
    run has `.model` (a Classifier), `.report` (run.json) and `.predictions`. Raises hf_finetune.errors.FinetuneError.
    """
    from hf_finetune.pipeline.train import train as run_recipe

    return run_recipe(recipe, data=data)


def load(path: str | Path, *, base: str | None = None, device: str | None = None) -> Classifier:
    """Load a run folder or an adapter folder; nothing needs to be known of its base model.

    Raises hf_finetune.errors.AdapterError where it is damaged, or its base holds other weights than it was trained on.
    """
    from hf_finetune.result.classifier import load as load_folder

    return load_folder(path, base=base, device=device)
