"""Score a saved result on a split of its own dataset or of another one with the same labels."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from hf_finetune.errors import DataError
from hf_finetune.loading import find_result, load
from hf_finetune.recipe import load_recipe
from hf_finetune.types import Index, Labels, Row, Split

BATCH = 64


def evaluate(
    path: str | Path, *, split: Split = "test", data: str | None = None, base: str | None = None
) -> dict[str, Any]:
    """The metrics of `score()` for a split. Raises DataError where the labels are not the result's.

    With `data`, every row of a dataset without splits counts as that split.
    """
    folder = find_result(path)
    recipe = load_recipe(folder / "recipe.yaml", [f"data.name={data}"] if data else [])
    from hf_finetune.data.scan import scan

    index = scan(recipe.data, seed=recipe.train.seed)
    classifier = load(folder, base=base)
    rows = _rows_in_label_order(index, classifier.labels, split)
    from hf_finetune.data.store import open_store
    from hf_finetune.inference import predict_logits
    from hf_finetune.machine import usable_cores
    from hf_finetune.tasks.scoring import score

    chosen = replace(index, splits={split: rows}, labels=classifier.labels)
    store = open_store(
        chosen,
        classifier.manifest.preprocess,
        train_side=max(classifier.manifest.preprocess.height, classifier.manifest.preprocess.width),
        workers=usable_cores(),
        cache_dir=Path(recipe.data.cache_dir).expanduser() if recipe.data.cache_dir else None,
        limit_bytes=recipe.data.store_limit,
        max_bad_share=recipe.data.max_bad_share,
        max_pixels=recipe.data.max_pixels,
        progress=None,
        processor=(str(folder), None),
    )
    logits = predict_logits(classifier.model, store.rows[split], classifier.manifest.preprocess, batch=BATCH)
    return score(logits, store.rows[split].labels, classifier.labels.names, full=True)


def _rows_in_label_order(index: Index, labels: Labels, split: Split) -> tuple[Row, ...]:
    """The split's rows with the result's label ids."""
    if split not in index.splits:
        raise DataError(
            f"{index.source} has no {split} split; it has {', '.join(index.splits)}.", "Choose one with `--split`."
        )
    unknown = sorted(set(index.labels.names) - set(labels.names))
    if unknown:
        raise DataError(
            f"{index.source} has labels that the result does not know: {', '.join(unknown[:10])}.",
            f"It knows {', '.join(labels.names[:10])}{'…' if len(labels.names) > 10 else ''}.",
        )
    ids = labels.label2id
    return tuple(replace(row, label=ids[index.labels.names[row.label]]) for row in index.splits[split])
