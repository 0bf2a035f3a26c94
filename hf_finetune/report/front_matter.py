"""The YAML block that opens a model card: what the Hub reads of a result."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from hf_finetune.report.fields import RunReport
from hf_finetune.report.references import base_name, dataset_name, is_hub_data, is_hub_model, last_component, title
from hf_finetune.report.wording import words_of
from hf_finetune.types import BUILTIN

# The licences that image checkpoints carry most, by the Hub's ids (hf.co/docs/hub/repositories-licenses); any other is
# valid there as `other` with its name.
_LICENCES = {
    "agpl-3.0",
    "apache-2.0",
    "apple-amlr",
    "apple-ascl",
    "bsd",
    "bsd-2-clause",
    "bsd-3-clause",
    "cc-by-3.0",
    "cc-by-4.0",
    "cc-by-nc-2.0",
    "cc-by-nc-4.0",
    "cc-by-nc-nd-4.0",
    "cc-by-nc-sa-4.0",
    "cc-by-nd-4.0",
    "cc-by-sa-4.0",
    "cc0-1.0",
    "gemma",
    "gpl-3.0",
    "isc",
    "lgpl-3.0",
    "mit",
    "mpl-2.0",
    "openrail",
    "unknown",
}


def front_matter(report: RunReport, *, merged: bool = False) -> str:
    """The block's YAML, without the dashes around it. `merged`: of the whole model that the adapter was merged into."""
    from huggingface_hub import EvalResult, ModelCardData

    full = merged or report.whole
    score, split = (report.test, "test") if report.test else (report.validation, "validation")
    figures = [figure for figure in words_of(report).figures if figure.hub and figure.key in score]
    results = [
        EvalResult(
            task_type="image-classification",
            dataset_type=dataset_name(report) if is_hub_data(report) else _slug(dataset_name(report)),
            dataset_name=last_component(dataset_name(report)),
            dataset_config=report.recipe["data"]["config"],
            dataset_split=split,
            dataset_revision=report.data["commit"],
            metric_type=figure.hub,
            metric_name=figure.name[:1].upper() + figure.name[1:],
            metric_value=float(f"{score[figure.key]:.4g}"),
            metric_args=_interval(score, figure.key),
        )
        for figure in figures
    ]
    licence = (report.model["licence"] or "unknown").strip()
    known = licence.lower() in _LICENCES
    tags = [
        "hf_finetune",
        *(["lora"] if report.recipe["adapter"]["kind"] == "lora" and not merged else []),
        report.model["library"],
        *([report.task["kind"]] if report.task["kind"] != "classification" else []),
    ]
    data = ModelCardData(
        license=licence.lower() if known else "other",
        license_name=None if known else licence,
        library_name="transformers" if full else "peft",
        pipeline_tag="image-classification",
        tags=[tag for tag in tags if tag != "builtin"],
        base_model=base_name(report) if is_hub_model(report) else None,
        base_model_relation=("finetune" if full else "adapter") if is_hub_model(report) else None,
        datasets=[dataset_name(report)] if is_hub_data(report) else None,
        metrics=list(dict.fromkeys(figure.hub for figure in figures)),
        model_name=title(report),
        eval_results=results,
    )
    return data.to_yaml()


def _interval(score: Mapping[str, Any], key: str) -> dict[str, float] | None:
    """The bootstrap interval, in the only place that the Hub's schema has for it."""
    if f"{key}_low" not in score:
        return None
    low, high = (float(f"{score[f'{key}_{edge}']:.4g}") for edge in ("low", "high"))
    return {"confidence": 0.95, "low": low, "high": high}


def _slug(name: str) -> str:
    """The Hub wants an id-like dataset type, for local data too."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name.removeprefix(BUILTIN)).strip("-") or "local"
