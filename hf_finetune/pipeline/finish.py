"""The last stretch of a run: score what was saved and verified (saving.py), and write it down.

Scores are of the result that was saved and loaded again with float32 weights (quantized as in training), and not of the
model in training: they are what the next person gets.
"""

from __future__ import annotations

import gc
import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hf_finetune.labels import Answers
from hf_finetune.machine.peak import PeakMemory, device_peak_bytes
from hf_finetune.pipeline.saving import Saved, keep_interrupted
from hf_finetune.report.fields import RunReport
from hf_finetune.result.manifest import Manifest
from hf_finetune.run.clock import Clock
from hf_finetune.run.folder import plan_as_dict
from hf_finetune.types import PixelRows, Split

if TYPE_CHECKING:
    from torch import nn

    from hf_finetune.data.store.store import Store
    from hf_finetune.ladder.climb import Climbed
    from hf_finetune.plan.context import RunContext
    from hf_finetune.tasks import Target

logger = logging.getLogger(__name__)
PACKAGES = ("torch", "transformers", "peft", "timm", "accelerate", "datasets", "bitsandbytes", "evaluate", "pillow")


@dataclass(frozen=True)
class Scored:
    """What the result says of a split's rows, and its metrics."""

    answers: Answers
    metrics: Mapping[str, Any]
    engine: Mapping[str, Any] = field(default_factory=dict)  # what answered, where there was a choice


def score_saved(
    context: RunContext, saved: Saved, climbed: Climbed, manifest: Manifest, rows: Mapping[Split, PixelRows]
) -> dict[Split, Scored]:
    """Validation as the winning rung answered it, and the test. On Ctrl-C the result is in place: InterruptedRun."""
    try:
        return evaluate_splits(saved.staged, manifest, context, rows, climbed.answers, saved.model)
    except KeyboardInterrupt:
        keep_interrupted(saved, climbed.best, first=context.machine.is_first)


def evaluate_splits(
    staged: Path,
    manifest: Manifest,
    context: RunContext,
    rows: Mapping[Split, PixelRows],
    validation: Answers,
    verified: nn.Module | None,
) -> dict[Split, Scored]:
    """Load the staged result and score test; the rows are shared by the processes, each counted once.

    `validation`: the winning rung's answers, which chose it. The test is scored with float32 weights;
    under a time budget in the precision of training, by `verified`, where this process has it.
    """
    import torch

    from hf_finetune.result.load import load_result, torch_dtype

    target, metrics = manifest.target, context.extensions.metrics
    results = _of_validation(target, validation, rows, metrics)
    if not len(rows.get("test", ())):
        return results
    if verified is None:
        gc.collect()  # the trained model's cycles, before a second one is loaded
        dtype = torch.float32 if context.recipe.budget.time is None else torch_dtype(manifest.dtype)
        compute, cache_dir = context.recipe.compute, context.recipe.data.cache_dir
        verified = load_result(staged, manifest, dtype, context.machine.place, compute=compute, cache_dir=cache_dir)
    answers, figures = _answer_test(verified, rows["test"], manifest, context)
    scores = target.score(answers, rows["test"].labels, full=True, metrics=metrics)
    results["test"] = Scored(answers, scores, figures)
    return results


def scored_validation(
    context: RunContext, climbed: Climbed, manifest: Manifest, rows: Mapping[Split, PixelRows]
) -> dict[Split, Scored]:
    """Validation as the winning rung answered it, of a run that got no further."""
    return _of_validation(manifest.target, climbed.answers, rows, context.extensions.metrics)


def _of_validation(
    target: Target, answers: Answers, rows: Mapping[Split, PixelRows], metrics: Mapping[str, Any]
) -> dict[Split, Scored]:
    answers = target.again(answers)
    return {"validation": Scored(answers, target.score(answers, rows["validation"].labels, full=True, metrics=metrics))}


def _answer_test(
    model: nn.Module, test: PixelRows, manifest: Manifest, context: RunContext
) -> tuple[Answers, Mapping[str, Any]]:
    """Everybody's answers to the test, and what is worth saying of what gave them (`Scored.engine`)."""
    from hf_finetune.adapters.low_memory import answering_lora
    from hf_finetune.machine import processes
    from hf_finetune.result.answers import predict_answers
    from hf_finetune.result.scoring_engine import scoring_engine

    machine, batch = context.machine, context.plan.eval_batch.value
    own, found, choice = machine.own_rows(len(test)), None, None
    if len(own):
        with answering_lora(model):  # in bfloat16, PEFT's own forward takes four times as long (casts to float32)
            if machine.world_size == 1:
                kind = context.recipe.model.engine
                choice = scoring_engine(model, test, manifest, kind, batch=batch, what="test")
            found = predict_answers(
                model,
                test,
                manifest.preprocess,
                manifest.target,
                batch=batch,
                indices=own.tolist(),
                engine=None if choice is None else choice.engine,
            )
    answers = processes.gather_answers(own, found)
    if context.recipe.quantization.kind == "int8" and context.recipe.compute != "llm_int8" and machine.is_first:
        from hf_finetune.result.beside_stock import STOCK_BATCH, beside_stock

        compute, short = context.recipe.compute, context.recipe.budget.time is not None
        at_once = STOCK_BATCH if context.recipe.budget.memory is None else 1
        return answers, beside_stock(model, test, manifest, answers, compute=compute, short=short, batch=at_once)
    return answers, {} if choice is None else choice.figures


def assemble_report(
    context: RunContext,
    store: Store,
    climbed: Climbed,
    results: Mapping[Split, Scored],
    manifest: Manifest,
    clock: Clock,
    peak: PeakMemory,
    findings: Mapping[str, Any] | None = None,
) -> RunReport:
    """Everything that run.json and the card say."""
    memory = {
        "anonymous": peak.anonymous_bytes,
        "baseline": peak.baseline_bytes,
        "resident": peak.resident_bytes,
        "device": device_peak_bytes(context.plan.device.value),
    }
    validation = dict(results["validation"].metrics)
    used = climbed.fit
    engines = {"pass": climbed.engine, **{split: scored.engine for split, scored in results.items()}}
    machine = asdict(context.machine)
    return RunReport(
        recipe=context.recipe.model_dump(mode="json"),
        plan={
            **plan_as_dict(context.plan),
            "used": {"micro_batch": used.micro_batch if used else None, "replays": used.replays if used else 0},
        },
        versions={"hf_finetune": version("hf_finetune"), **{name: version(name) for name in PACKAGES}},
        machine={key: machine[key] for key in ("device", "device_name", "cores", "ram_bytes", "world_size", "system")},
        model=_model_fields(context, manifest),
        data=_data_fields(context, store),
        rungs=climbed.candidates,
        validation=validation,
        test=dict(results["test"].metrics) if "test" in results else {},
        seconds={**clock.seconds, "total": clock.total()},
        peak_bytes=memory,
        memory=_memory_fields(context, memory),
        extensions=context.extensions.described(),
        engine={name: figures for name, figures in engines.items() if figures},
        task=manifest.task,
        findings=findings or {},
    )


def _memory_fields(context: RunContext, peak: Mapping[str, int]) -> dict[str, Any]:
    parts = dict(context.plan.memory_bytes)
    on_cpu = context.plan.device.value == "cpu"
    measured = {"total": peak["anonymous"], "process": peak["baseline"]} if on_cpu else {"total": peak["device"]}
    return {"forecast": {"total": sum(parts.values()), "parts": parts}, "measured": measured}


def _model_fields(context: RunContext, manifest: Manifest) -> dict[str, Any]:
    facts = context.facts
    kind = context.recipe.quantization
    quantization = kind.config(manifest.head, manifest.unquantized)
    flattened = kind.kind == "int8" and not facts.mapped_linears <= kind.left_out(facts).keys()
    return {
        "name": context.recipe.model.name,
        "library": facts.library,
        "architecture": facts.architecture,
        "commit": facts.commit,
        "fingerprint": manifest.fingerprint,
        "licence": facts.licence,
        "parameters": facts.parameters,
        "builtin": facts.library == "builtin",
        "whole": manifest.whole,
        "quantization_config": quantization.to_diff_dict() if quantization is not None else None,
        "quantized_maps": flattened,
        "fitted_on": list(manifest.fitted_on),
        "start": _start_fields(context),
        "head": context.base_head.text if context.base_head is not None else None,
    }


def _start_fields(context: RunContext) -> dict[str, Any] | None:
    if context.start is None:
        return None
    fetched = context.start.fetched
    head = f"{'kept' if context.start.keeps_head else 'fresh'}: {context.start.head_note}"
    return {"name": fetched.name, "commit": fetched.commit, "digest": context.start.digest, "head": head}


def _data_fields(context: RunContext, store: Store) -> dict[str, Any]:
    index = context.index
    return {
        "name": index.source,
        "revision": index.revision,
        "commit": index.commit,
        "licence": index.licence,
        "labels": list(index.labels.names),
        "counts": {split: len(rows) for split, rows in store.rows.items()},
        "cut": list(index.cut),
        "rejected": [asdict(row) for row in (*index.rejected, *store.rejected)],
        "notes": [*index.notes, *store.notes],
        "value_range": context.facts.preprocess.value_range,
    }
