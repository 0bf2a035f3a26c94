"""Every way of training that is compared: its name, its command line, and where its result and its times are found.

A reference is a script of references/ that writes about itself by references/record.py's contract; ours is the command
line of the product, whose run.json says the same.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
FIRST = "transformers example"  # its validation accuracy minus half a point is everyone's target


@dataclass(frozen=True)
class Method:
    """`variant`: as shipped, or tuned. `budget`: ours alone, seconds, 0 for the probe, None for no limit; `share`: the
    budget is this share of what the first reference took with the same seed.

    `warm`: the caches of the same method's cold run are there. `environment`: of its own, by name (environments.py).
    `work`: stage -> kind of work and precision (work.py), where its cost is known. `stock`: its result is scored by
    benchmarks/stock_accuracy.py; others predict the test photos themselves.
    """

    name: str
    variant: str = "as shipped"
    script: str = ""
    arguments: tuple[str, ...] = ()
    environment: str = ""
    stock: bool = True
    budget: float | None = None
    share: float | None = None
    warm: bool = False
    work: Mapping[str, tuple[str, str]] = field(default_factory=dict)

    @property
    def title(self) -> str:
        caches = ", warm caches" if self.warm else ""
        return f"{self.name}{caches}" + (f" ({self.variant})" if self.variant != "as shipped" else "")

    @property
    def slug(self) -> str:
        return "-".join("".join(c if c.isalnum() else " " for c in self.title).split())


FULL = {"train": ("full", "fp32"), "validation": ("forward", "fp32")}
LORA = {"train": ("lora", "bf16"), "validation": ("forward", "bf16")}
FEATURES = {"features": ("forward", "fp32")}


def _references(tuned: bool) -> list[Method]:
    variant = "tuned" if tuned else "as shipped"
    fastai = {"all layers": ("full", "fp32")}
    found = [
        Method(FIRST, variant, "transformers_example.py", work=FULL),
        Method("PEFT example", variant, "peft_example.py", work=LORA),
        Method("timm script", variant, "timm_script.py", stock=False, work=FULL),
        Method("fastai fine_tune", variant, "fastai_fine_tune.py", environment="fastai", stock=False, work=fastai),
        Method("AutoGluon MultiModal", variant, "autogluon_multimodal.py", environment="autogluon", stock=False),
    ]
    if not tuned:  # these two choose their one setting on validation anyway
        for title, kind in (("logistic regression", "logistic"), ("linear SVM", "svm")):
            name = f"frozen features + {title}"
            found.append(Method(name, variant, "frozen_features.py", ("--kind", kind), stock=False, work=FEATURES))
    return found


def _ours() -> list[Method]:
    """Nothing is set but model, data and budget: there is no tuned variant."""
    found = []
    for title, budget in (
        ("15 s", 15),
        ("20 s", 20),
        ("23 s", 23),
        ("25 s", 25),
        ("30 s", 30),
        ("35 s", 35),
        ("37 s", 37),
        ("40 s", 40),
        ("1 min", 60),
        ("2 min", 120),
        ("4 min", 240),
        ("5 min", 300),
        ("8 min", 480),
    ):
        found += [Method(f"ours, {title}", budget=budget, warm=warm) for warm in (False, True)]
    passed = {"probe": ("forward", "bf16")}
    probe = [
        Method("ours, probe alone", budget=0, work=passed),
        Method("ours, probe alone", budget=0, warm=True),
    ]
    shares = [
        Method("ours, 1/5 of the example's time", share=1 / 5),
        Method("ours, 1/8 of the example's time", share=1 / 8, warm=True),
        Method("ours, 1/3 of the example's time", share=1 / 3),
    ]
    return [*probe, *found, *shares, Method("ours, no limit")]


NO_LIMIT = Method("ours, no limit").slug
METHODS: dict[str, Method] = {method.slug: method for method in (*_references(False), *_ours(), *_references(True))}
# Steps of the first half minute, which `--methods` names: in every case they would be hours that mostly show the probe.
FINE = (20, 23, 35, 37)
# What `make bench-full` runs.
LARGE = tuple(slug for slug, method in METHODS.items() if method.budget not in FINE)
# What `make bench` runs: minutes. The longer budgets are never used up on a hundred photos.
SMALL = tuple(
    slug
    for slug, method in METHODS.items()
    if method.variant == "as shipped" and (method.script or method.budget in {0, 15, 30} or method.slug == NO_LIMIT)
)


def in_order(slugs: Iterable[str]) -> list[str]:
    """The order to run them in: budgets last, after the runs that say how long they can be."""
    return sorted(slugs, key=lambda slug: METHODS[slug].share is not None or bool(METHODS[slug].budget))


def first() -> str:
    """The slug of the reference that sets the target."""
    return next(slug for slug, method in METHODS.items() if method.name == FIRST and method.variant == "as shipped")


@dataclass(frozen=True)
class Told:
    """What a method said about itself, seconds from the start of its process.

    `validations`: (seconds, accuracy) whenever a model was validated. `stages`: name -> (images, seconds).
    """

    saved_s: float
    baseline_bytes: int
    device_bytes: int
    validations: list[tuple[float, float]] = field(default_factory=list)
    stages: Mapping[str, tuple[int, float]] = field(default_factory=dict)


def command_of(
    method: Method,
    model: Path,
    photos: Path,
    out: Path,
    cache: Path,
    seed: int,
    settings: Mapping[str, Any],
    flip: bool,
) -> list[str]:
    """The command line of one run; `settings` are the tuned ones of the reference (tune.py), `python` among them."""
    if method.script:
        python = str(settings.get("python", sys.executable))
        command = [python, str(HERE / "references" / method.script), "--model", str(model), "--data", str(photos)]
        command += ["--out", str(out), "--seed", str(seed), *method.arguments]
        return command + (["--learning-rate", str(settings["learning_rate"])] if "learning_rate" in settings else [])
    command = [sys.executable, "-m", "hf_finetune", "train", str(HERE / "recipes" / "shipped.yaml")]
    command += [f"model.name={model}", f"data.name={photos}"]
    command += [f"data.cache_dir={cache}", f"output.dir={out / 'run'}", f"train.seed={seed}"]
    command += [] if flip else ["augment.flip=0"]
    return command + ([] if method.budget is None else [f"budget.time={method.budget:g}s"])


def result_of(method: Method, out: Path) -> Path:
    """The folder that anyone could load."""
    return out / "model" if method.script else out / "run" / "adapter"


def told_by(method: Method, out: Path, seconds: float) -> Told:
    """What the run wrote about itself. Like the references' scripts, ours counts as saved when its result lies on the
    disk, before it scores the test; where no rung was saved at once, when its process ends."""
    if method.script:
        lines = [json.loads(line) for line in (out / "progress.jsonl").read_text("utf-8").splitlines()]
        saved = next(line for line in lines if "saved" in line)
        return Told(
            saved["saved"],
            next((line["anonymous_bytes"] for line in lines if "imported" in line), 0),
            saved.get("device_bytes", 0),
            [(line["seconds"], line["validation"]) for line in lines if "validation" in line],
            {line["stage"]: (line["images"], line["stage_seconds"]) for line in lines if "stage" in line},
        )
    report = json.loads((out / "run" / "run.json").read_text("utf-8"))
    peak, counts = report["peak_bytes"], report["data"]["counts"]
    passed = counts["train"] + counts["validation"]
    stages = {} if method.warm else {"images": (sum(counts.values()), report["seconds"]["images"])}
    for rung in report["rungs"]:
        seen = passed if rung["rung"] == "probe" else rung["images"]
        stages[rung["rung"]] = (seen, rung["seconds"])
    validations = [(rung["at_s"], rung["validation"]["accuracy"]) for rung in report["rungs"]]
    saved_s = [rung["saved_at_s"] for rung in report["rungs"] if rung["kept"]][-1]
    return Told(saved_s or seconds, peak["baseline"], peak["device"], validations, stages)
