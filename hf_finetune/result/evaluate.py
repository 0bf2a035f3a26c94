"""Score a saved result on a split of its own dataset or of another one with the same labels."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from hf_finetune.data.config import Data
from hf_finetune.data.sources.source import count, listing
from hf_finetune.errors import DataError, RecipeError
from hf_finetune.labels import Answers, Labels
from hf_finetune.recipe.recipe import Recipe, load_recipe
from hf_finetune.result.adjust import adjust
from hf_finetune.result.classifier import Classifier, load
from hf_finetune.result.load import find_result
from hf_finetune.result.manifest import Manifest, read_manifest
from hf_finetune.result.own_rows import OwnRows, own_rows
from hf_finetune.result.split_record import read_record
from hf_finetune.tasks import Target
from hf_finetune.types import Index, PixelRows, Rejected, Row, Split

BATCH = 64
# Of a score: further apart are two runs over the same images by nothing that a precision does. Assumption.
FAR = 0.03
# What the run's own recipe says of reading images holds for another dataset too; column and split names do not.
KEPT_OPTIONS = ("max_bad_share", "max_pixels", "download_limit", "store_limit", "cache_dir")
# Keys of `data` that would cut the rows anew, which scoring never does.
_CUTTING = ("validation_share", "test_share", "split_seed", "group_column", "group_pattern", "shots", "fold")


@dataclass(frozen=True)
class Evaluated:
    """What `evaluate` gives as `score`, and what it was made of: the rows of `split` and the answers to them."""

    score: dict[str, Any]
    split: Split
    source: str
    classifier: Classifier
    target: Target
    answers: Answers
    rows: PixelRows


def evaluate(
    path: str | Path,
    *,
    split: Split = "test",
    data: str | None = None,
    base: str | None = None,
    overrides: Sequence[str] = (),
    logit_adjustment: float = 0.0,
    mirrored: bool = False,
) -> dict[str, Any]:
    """The task's metrics for a split of the result's own dataset as the run split it, or of `data`.

    A dataset without splits counts as a whole. `overrides` are `data.key=value`: columns, a split's own name, where
    the run's own images are now (`data.name`), how many unusable rows to accept. `logit_adjustment`: as if
    that had been done to the result (`adjust.py`). `mirrored`: by the mean of each image's logits and those of its
    mirror image. Beside the metrics: `task`, as the result has it; `precision` of the weights; `images_s`, how many
    decoded images the model answered a second; `engine`, what answered, where there was a choice; `left_out`, the rows
    that were not scored, as {name, reason}; `notes`; and, for the rows that the run scored itself, `in_training` with
    what it said of them.
    Raises DataError where the labels are not the result's, or more rows than `data.max_bad_share` cannot be scored.
    """
    return evaluated(
        path,
        split=split,
        data=data,
        base=base,
        overrides=overrides,
        logit_adjustment=logit_adjustment,
        mirrored=mirrored,
    ).score


def evaluated(
    path: str | Path,
    *,
    split: Split = "test",
    data: str | None = None,
    base: str | None = None,
    overrides: Sequence[str] = (),
    logit_adjustment: float = 0.0,
    mirrored: bool = False,
) -> Evaluated:
    """As `evaluate`, with rows and answers."""
    folder = find_result(path)
    manifest = read_manifest(folder)
    recipe, options, chosen = _chosen(folder, manifest, split, data, overrides)
    classifier = load(folder, base=base, cache_dir=options.cache_dir)
    adjusted = []
    if logit_adjustment:
        manifest = adjust(classifier.model, folder, manifest, logit_adjustment)
        adjusted.append(f"logits adjusted after training, by {logit_adjustment:g} times the logarithm of class shares")
    if mirrored:
        adjusted.append("the mean of each image's logits and those of its mirror image")
    rows, unreadable, clipped = decoded(chosen.index, folder, manifest, options, split)
    from hf_finetune.result.answers import predict_answers
    from hf_finetune.result.scoring_engine import scoring_engine

    choice = scoring_engine(classifier.model, rows, classifier.manifest, recipe.model.engine, batch=BATCH, what=split)
    engine = None if choice is None else choice.engine
    preprocess, target = manifest.preprocess, manifest.target
    started = time.perf_counter()
    answers = predict_answers(classifier.model, rows, preprocess, target, batch=BATCH, engine=engine, mirrored=mirrored)
    seconds = time.perf_counter() - started
    score = target.score(answers, rows.labels, full=True)
    left_out = [{"name": row.name, "reason": row.reason} for row in (*chosen.index.rejected, *unreadable)]
    by = [choice.text] if choice is not None and choice.sample is not None else []
    score |= {
        "task": dict(manifest.task),
        "precision": "fp32",
        "images_s": len(rows) / max(seconds, 1e-9),
        "left_out": left_out,
        "notes": [*chosen.notes, *clipped, *by, *adjusted],
    }
    if choice is not None:
        score["engine"] = choice.figures
    if chosen.same and not adjusted and (before := _in_training(folder, recipe, manifest, split, score)):
        score["in_training"] = before
    return Evaluated(score, split, chosen.index.source, classifier, target, answers, rows)


def _chosen(
    folder: Path, manifest: Manifest, split: Split, data: str | None, overrides: Sequence[str]
) -> tuple[Recipe, Data, OwnRows]:
    """The result's recipe, how images are read, and the rows to score: the run's own, or those of `data`."""
    from hf_finetune.data.index.scan import scan_split

    told = told_keys(overrides)
    recipe = load_recipe(folder / "recipe.yaml", overrides if data is None else ())
    if not (folder.parent / "run.json").is_file() and "cache_dir" not in told:
        # Of a result that came from elsewhere: where to write is not for its author to say.
        recipe = recipe.model_copy(update={"data": recipe.data.model_copy(update={"cache_dir": None})})
    if data is None:
        own = own_rows(folder, recipe.data, manifest, split, recipe.train.seed, moved="name" in told)
        return recipe, recipe.data, own
    kept = {name: getattr(recipe.data, name) for name in KEPT_OPTIONS}
    options = load_recipe({"data": {**kept, "name": data}}, overrides).data
    index = scan_split(options, split, manifest.labels, manifest.target.reading)
    return recipe, options, OwnRows(index, _trained_on(folder, index, split, manifest), same=False)


def told_keys(overrides: Sequence[str]) -> set[str]:
    """The keys of `data` that the command line sets. Raises RecipeError for any other key."""
    keys = [text.partition("=")[0].strip() for text in overrides]
    if other := [key for key in keys if not key.startswith("data.") or key.removeprefix("data.") in _CUTTING]:
        raise RecipeError(
            f"{other[0]}: to score a result, keys that say where images are and how they are read are expected.",
            "Such as data.label_column=diagnosis, data.test_split=holdout, data.max_bad_share=0.05.",
        )
    return {key.removeprefix("data.") for key in keys}


def decoded(
    index: Index, folder: Path, manifest: Manifest, data: Data, split: Split
) -> tuple[PixelRows, tuple[Rejected, ...], tuple[str, ...]]:
    """The split decoded at the checkpoint's own geometry, with the result's label ids; what could not be read; and a
    note on values beyond the scale of the run, which holds here too unless `data.value_range` sets another."""
    from hf_finetune.data.store.open_views import Options, open_views
    from hf_finetune.data.store.rejects import check_rejected
    from hf_finetune.data.store.store import evaluation_geometry
    from hf_finetune.machine.detect import usable_cores

    labels = Labels(tuple(manifest.labels))
    rows = rows_in_label_order(index, labels, split)
    chosen = replace(index, splits={split: rows}, labels=labels)
    cache = Path(data.cache_dir).expanduser() if data.cache_dir else None
    preprocess = manifest.preprocess
    if data.value_range is not None:
        preprocess = replace(preprocess, value_range=data.value_range)
    geometry = evaluation_geometry(preprocess, (str(folder), None))
    options = Options(usable_cores(), cache, data.store_limit, data.max_pixels)
    (view,) = open_views(chosen, [(split, geometry)], options)
    check_rejected(chosen, view.rejected, {split: view.rows}, data.max_bad_share)
    return view.rows, view.rejected, () if view.clipped is None else (view.clipped.text,)


def rows_in_label_order(index: Index, labels: Labels, split: Split) -> tuple[Row, ...]:
    """The split's rows with the result's label ids."""
    if not index.splits.get(split):
        there = ", ".join(name for name, rows in index.splits.items() if rows)
        raise DataError(f"{index.source} has no {split} split; it has {there}.", "Choose one with `--split`.")
    if not index.of_classes:  # read in the result's own terms already
        return index.splits[split]
    there = [(row, index.labels.names[row.label]) for row in index.splits[split] if isinstance(row.label, int)]
    names = {name for _, name in there}
    unknown = sorted(names - set(labels.names))
    if unknown:
        raise DataError(
            f"{index.source} has labels that the result does not know: {', '.join(unknown[:10])}.",
            f"It knows {', '.join(labels.names[:10])}{'…' if len(labels.names) > 10 else ''}.",
        )
    ids = labels.label2id
    return tuple(replace(row, label=ids[name]) for row, name in there)


def _trained_on(folder: Path, index: Index, split: Split, manifest: Manifest) -> tuple[str, ...]:
    """A note where rows of another dataset are files that the run trained on, as far as the run folder knows."""
    record = read_record(folder.absolute().parent)
    if record is None or record.place is None:
        return ()
    place = Path(record.place)
    trained = {name for fitted in manifest.fitted_on for name in record.names.get(fitted, ())}
    if place.exists():
        root = place if place.is_dir() else place.parent
        files = {str(root / name) for name in trained}
        seen = [row.name for row in index.splits[split] if row.locator in files]
        words = "the run was trained on"
    else:  # moved: by name below their folder, which other images may bear too
        seen = [row.name for row in index.splits[split] if row.name in trained]
        words = "bear names that the run was trained on (data.name=PLACE scores what it was not)"
    return (f"{count(len(seen), 'image')} of these {words}: {listing(sorted(seen), 3)}",) if seen else ()


def _in_training(
    folder: Path, recipe: Recipe, manifest: Manifest, split: Split, score: Mapping[str, Any]
) -> dict[str, Any] | None:
    """What the run itself reported for these rows, in which precision it scored them, and why `score` differs; None
    where it did not."""
    first = manifest.target.chosen_by[0]
    try:
        metrics: Mapping[str, Any] = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
        told = metrics.get(split) or {}
        found = {key: told[key] for key in ("rows", "loss", first)}
    except (OSError, ValueError, KeyError, AttributeError):
        return None
    if found["rows"] != score["rows"]:
        return None
    exact = split == "test" and recipe.budget.time is None
    precision = "fp32" if exact else _trained_in(folder, manifest)
    why = "another machine, or other versions of the libraries, round otherwise"
    if manifest.quantization != "none":
        why = "a quantized layer's answer to an image depends a little on what else is in its batch"
    if precision != "fp32":
        why = f"it scored them in {precision}, in which it trained, and here weights are float32"
    if abs(found[first] - score[first]) > FAR * max(1.0, abs(found[first])):
        why = "so much is no rounding: images, labels or libraries are others than then"
    if split != "train" and split in manifest.fitted_on:
        why = "the head was fitted on them too in the end, and its figure is of heads that had not seen the image"
    return {**found, "precision": precision, "why": why}


def _trained_in(folder: Path, manifest: Manifest) -> str:
    """The precision of training, as the run planned it; of a result by itself, that of the frozen weights."""
    try:
        plan = json.loads((folder.absolute().parent / "plan.json").read_text(encoding="utf-8"))
        return str(plan["precision"]["value"])
    except (OSError, ValueError, LookupError, TypeError):
        return manifest.dtype
