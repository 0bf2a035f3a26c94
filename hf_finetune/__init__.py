"""Fast, resource-limited fine-tuning of image models in the Hugging Face ecosystem.

    import hf_finetune
    run = hf_finetune.train({"model": {"name": "timm/vit_tiny_patch16_224.augreg_in21k_ft_in1k"}}, data="photos/")
    run.model.predict("photo.jpg")
    hf_finetune.load("runs/default").predict(["photo.jpg"])

Importing this package imports no torch; the functions do when called.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transformers import TrainerCallback

    from hf_finetune.data.augment.transform import Transform
    from hf_finetune.pipeline.finished import Run
    from hf_finetune.recipe.recipe import Recipe
    from hf_finetune.result.classifier import Classifier
    from hf_finetune.tasks.custom_metrics import Metric
    from hf_finetune.tasks.loss import RowLoss

__version__ = "0.1.0"
__all__ = ["cross_validate", "load", "train"]


def train(
    recipe: Recipe | str | Path | Mapping[str, Any] | None = None,
    *,
    data: Any = None,
    loss: RowLoss | None = None,
    metrics: Mapping[str, Metric] | None = None,
    callbacks: Sequence[TrainerCallback] = (),
    transform: Transform | None = None,
) -> Run:
    """Run a recipe (a file, a mapping or a Recipe) and return the finished run.

    Without a recipe, `data` is a folder or a table file, and everything is planned, the backbone too, as
    `hf-finetune train photos/` does.

    `data` replaces `recipe.data.name`: a datasets.Dataset or DatasetDict, a torch.utils.data.Dataset of (image, label),
    a mapping of split names to such, a folder, or a list of (path, label). The run has `.model` (a Classifier),
    `.report` (run.json) and `.predictions`. Raises hf_finetune.errors.FinetuneError.

    What you bring of your own (docs/python.md has an example of each):

    - `loss(logits float32 [B, C], labels int64 [B])` gives each row's loss, float [B]. It takes the place of
      cross-entropy where the rungs `cached` and `full` train; weights by class, mixing and the mean over an update
      are done around it. The probe's head keeps its closed form.
    - `metrics`: name → function of `Answers` of N rows (`.predicted`, `.top`, `.confidence`, `.loss`) and labels int64
      [N], which gives one finite number; reported for every split beside the product's own.
    - `callbacks`: objects of transformers.TrainerCallback, for both trained rungs.
    - `transform(image uint8 [3, H, W])` gives an image of the same shape and type: one training image of the rung
      `full` at the backbone's size, cropped, turned and coloured as the recipe says, and not yet normalised, erased or
      mixed. Drawn anew for each row and epoch, from torch's, numpy's or Python's random numbers. No other image is
      touched.

    run.json names them, and a folder whose run began with another loss, callback or transform is refused. Under
    `accelerate launch` the program hands over the same on every process.
    """
    from hf_finetune.pipeline.train import train as run_recipe
    from hf_finetune.plan.extensions import Extensions

    if recipe is None:
        from hf_finetune.pipeline.from_data import recipe_of_data

        recipe, data = recipe_of_data(data), None
    extensions = Extensions(loss, {} if metrics is None else metrics, callbacks, transform)
    return run_recipe(recipe, data=data, extensions=extensions)


def load(path: str | Path, *, base: str | None = None, device: str | None = None) -> Classifier:
    """Load a run folder or an adapter folder; nothing needs to be known of its base model.

    Raises hf_finetune.errors.AdapterError where it is damaged, or its base holds other weights than it was trained on.
    """
    from hf_finetune.result.classifier import load as load_folder

    return load_folder(path, base=base, device=device)


def cross_validate(
    recipe: Recipe | str | Path | Mapping[str, Any],
    overrides: Sequence[str] = (),
    folds: int = 5,
    *,
    trained: bool = False,
) -> dict[str, Any]:
    """Score a recipe's backbone over `folds` folds of its data, by a closed-form head on frozen features; with
    `trained` by a run of the whole recipe for each, in `output.dir`/fold-K-of-N.

    `overrides` are `section.key=value`. Gives `metrics` (name → `mean`, `std`, `each`, `pooled`), `pooled` (the full
    score of all rows, each answered by the head that did not see it), `sizes`, `seconds`, `left_out` and `notes`;
    `trained` no `pooled`, but `runs` (`folder`, `kept`).
    Raises hf_finetune.errors.FinetuneError.
    """
    from hf_finetune.pipeline.folds import cross_validate as run_folds

    return run_folds(recipe, overrides, folds, trained=trained)
