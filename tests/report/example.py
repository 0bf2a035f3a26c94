"""Reports as a run leaves them: real keys, metrics scored from seeded logits, paths and names of the awkward kind."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from hf_finetune.recipe.recipe import load_recipe
from hf_finetune.report.fields import DataFields, MachineFields, ModelFields, PeakFields, RunReport
from hf_finetune.run.folder import plan_as_dict
from hf_finetune.tasks.scoring import answers_of, score_answers
from hf_finetune.types import Candidate, Decision, Note, Plan

TRASHNET = ["cardboard", "glass", "metal", "paper", "plastic", "trash"]
AWKWARD = [
    "n/a",
    "yes",
    "null",
    "1",
    "True",
    "a|b",
    "`x`",
    "<script>",
    "[l](u)",
    "Zürich 漢字 🐝",
    "/m/01g317",
    "w" * 300,
]
# A base and data that lie in folders of a person's machine.
LOCAL_BASE = "/home/anna/weights/vit_tiny_timm"
LOCAL_DATA = "/home/anna/photos/trashnet"
FORECAST = {"frozen weights": 11_400_000, "trained weights": 3_000_000, "activations": 610_000_000, "process": 1 << 30}


def plan(**changes: Decision[Any]) -> Plan:
    """A plan for a two-core CPU."""
    decided = Plan(
        device=Decision("cpu", "AMD EPYC 9R14, 1 process(es)"),
        precision=Decision("bf16", "AMD EPYC 9R14 multiplies bfloat16 in hardware"),
        effective_batch=Decision(64, "train.effective_batch_size, over all processes"),
        micro_batch=Decision(32, "1.67 GB forecast of 5.1 GB usable"),
        accumulation=Decision(2, "64 images a process and update"),
        eval_batch=Decision(128, "no gradients are kept"),
        checkpointing=Decision(0, "not needed"),
        decode_workers=Decision(2, "2 usable cores; they decode before training starts"),
        store=Decision("decoded once", "449 MB of uint8 pixels"),
        train_side=Decision(256, "8/7 of the 224 px that the backbone sees: room for crops"),
        epochs=Decision(12.5, "20,000 images in all over 1,768 rows, between 3 and 30 epochs"),
        steps=Decision(1_337, "1768 rows // 64 = 27 updates an epoch"),
        warmup_steps=Decision(134, "train.warmup_share 0.1"),
        learning_rate=Decision(
            0.001,
            "0.001 for lora with adamw × √(batch/64), Malladi et al. 2022, and a reason long enough to be wrapped",
        ),
        trainable_parameters=Decision(594_438, "10.4% of the backbone's"),
        memory_bytes=FORECAST,
        memory_note="",
    )
    return replace(decided, **changes)


def scores(names: list[str], rows: int, seed: int, strength: float = 3.0) -> dict[str, Any]:
    """A full score of seeded logits that are right most of the time."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, len(names), rows)
    logits = rng.normal(size=(rows, len(names)))
    logits[np.arange(rows), labels] += strength
    return score_answers(answers_of(logits, labels), labels, names, full=True)


def example(
    labels: list[str] = TRASHNET,
    *,
    model: str = LOCAL_BASE,
    commit: str | None = None,
    data: str = LOCAL_DATA,
    data_commit: str | None = None,
    overrides: tuple[str, ...] = (),
    quantization_config: dict[str, Any] | None = None,
    test: bool = True,
) -> RunReport:
    """A finished run on `labels`."""
    recipe = load_recipe(
        {
            "model": {"name": model},
            "data": {"name": data, "cache_dir": "/home/anna/.cache/x"},
            "output": {"dir": "/r/x"},
            "train": {"best_by": "accuracy"},  # settled, as a run leaves it
        },
        overrides,
    )
    base: ModelFields = {
        "name": model,
        "library": "builtin" if model.startswith("builtin:") else "timm",
        "architecture": "TimmWrapperForImageClassification",
        "commit": commit,
        "fingerprint": "3f" * 32,
        "licence": "apache-2.0",
        "parameters": 5_525_766,
        "builtin": model.startswith("builtin:"),
        "quantization_config": quantization_config,
    }
    dataset: DataFields = {
        "name": data,
        "revision": "ab" * 20,
        "commit": data_commit,
        "licence": "mit",
        "labels": labels,
        "counts": {"train": 1_768, "validation": 328, "test": 431},
        "cut": ["validation"],
        "rejected": [
            {"name": "train/glass/empty.jpg", "split": "train", "reason": f"cannot open '{data}/train/glass/empty.jpg'"}
        ],
        "notes": [Note("3 images lie in two splits under other labels", f"{data}: C:\\Users\\anna\\a.jpg | b")],
    }
    machine: MachineFields = {
        "device": "cpu",
        "device_name": "AMD EPYC 9R14",
        "cores": 2,
        "ram_bytes": 7_900_000_000,
        "world_size": 1,
        "system": "Linux 6.8, Python 3.11.9",
    }
    peak: PeakFields = {"anonymous": 1_480_000_000, "resident": 2_020_000_000, "device": 0}
    validation = scores(labels, 328, seed=1)
    return RunReport(
        recipe=recipe.model_dump(mode="json"),
        plan={**plan_as_dict(plan()), "used": {"micro_batch": 32, "replays": 0}},
        versions={"hf_finetune": "0.1.0", "torch": "2.15.0+cu128", "transformers": "5.23.0", "peft": "0.21.2"},
        machine=machine,
        model=base,
        data=dataset,
        rungs=(Candidate("full", {"accuracy": validation["accuracy"]}, 141.23456789, peak["anonymous"], 1_200),),
        validation=validation,
        test=scores(labels, 431, seed=2) if test else {},
        seconds={
            "scan and imports": 9.81234567,
            "images": 6.2,
            "model": 1.9,
            "training": 141.23456789,
            "saving": 2.2,
            "test": 3.4,
            "total": 166.9,
        },
        peak_bytes=peak,
    )
