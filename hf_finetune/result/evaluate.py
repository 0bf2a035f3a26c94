"""Score a saved result on a split of its own dataset or of another one with the same labels."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from hf_finetune.data.config import Data
from hf_finetune.data.sources.naming import was_in_memory
from hf_finetune.errors import DataError
from hf_finetune.recipe.recipe import load_recipe
from hf_finetune.result.classifier import Classifier, load
from hf_finetune.result.load import find_result
from hf_finetune.types import Index, Labels, PixelRows, Row, Split

BATCH = 64
# What the run's own recipe says of reading images holds for another dataset too; column and split names do not.
KEPT_OPTIONS = ("max_bad_share", "max_pixels", "store_limit", "cache_dir")


def evaluate(
    path: str | Path, *, split: Split = "test", data: str | None = None, base: str | None = None
) -> dict[str, Any]:
    """The metrics of `score()` for a split of the result's own dataset, or of `data`.

    A dataset without splits counts as a whole. Raises DataError where the labels are not the result's.
    """
    from hf_finetune.data.index.scan import scan, scan_split

    folder = find_result(path)
    recipe = load_recipe(folder / "recipe.yaml")
    if data is None:
        if was_in_memory(recipe.data.name):
            raise DataError(
                f"The result's own images are not at hand: they were {recipe.data.name}.", "Name images with --data."
            )
        index = scan(recipe.data, seed=recipe.train.seed)
    else:
        options = {name: getattr(recipe.data, name) for name in KEPT_OPTIONS}
        index = scan_split(Data(name=data, **options), split)
    classifier = load(folder, base=base)
    rows = _score_rows(index, classifier, recipe.data, split)
    from hf_finetune.result.answers import predict_answers
    from hf_finetune.tasks.scoring import score_answers

    answers = predict_answers(classifier.model, rows, classifier.manifest.preprocess, batch=BATCH)
    return score_answers(answers, rows.labels, classifier.labels.names, full=True)


def _score_rows(index: Index, classifier: Classifier, data: Data, split: Split) -> PixelRows:
    """The split decoded at the checkpoint's own geometry, with the result's label ids."""
    from hf_finetune.data.store.open_views import Options, open_views
    from hf_finetune.data.store.rejects import check_rejected
    from hf_finetune.data.store.store import evaluation_geometry
    from hf_finetune.machine.detect import usable_cores

    rows = _rows_in_label_order(index, classifier.labels, split)
    chosen = replace(index, splits={split: rows}, labels=classifier.labels)
    cache = Path(data.cache_dir).expanduser() if data.cache_dir else None
    geometry = evaluation_geometry(classifier.manifest.preprocess, (str(classifier.path), None))
    options = Options(usable_cores(), cache, data.store_limit, data.max_pixels)
    (view,) = open_views(chosen, [(split, geometry)], options)
    check_rejected(chosen, view.rejected, {split: view.rows}, data.max_bad_share)
    return view.rows


def _rows_in_label_order(index: Index, labels: Labels, split: Split) -> tuple[Row, ...]:
    """The split's rows with the result's label ids."""
    if not index.splits.get(split):
        there = ", ".join(name for name, rows in index.splits.items() if rows)
        raise DataError(f"{index.source} has no {split} split; it has {there}.", "Choose one with `--split`.")
    unknown = sorted(set(index.labels.names) - set(labels.names))
    if unknown:
        raise DataError(
            f"{index.source} has labels that the result does not know: {', '.join(unknown[:10])}.",
            f"It knows {', '.join(labels.names[:10])}{'…' if len(labels.names) > 10 else ''}.",
        )
    ids = labels.label2id
    return tuple(replace(row, label=ids[index.labels.names[row.label]]) for row in index.splits[split])
