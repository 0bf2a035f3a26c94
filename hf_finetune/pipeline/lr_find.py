"""`hf-finetune lr-find`: a learning-rate range test on a recipe, its reading, and its plot."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from hf_finetune.errors import RecipeError, TrainingError
from hf_finetune.plan.rates import learning_rate
from hf_finetune.recipe.recipe import Recipe
from hf_finetune.types import Plan

SMOOTHING = 0.8  # exponential smoothing of the noisy loss, bias-corrected
BELOW_MINIMUM = 10.0  # never suggest more than a tenth of the rate at which the loss is lowest (Howard's rule, fastai)


@dataclass(frozen=True)
class RangeTest:
    """Rates and losses of each update, the smoothed losses, and what follows: `suggested`, or None with the reason.

    `planned`: what `auto` gives; `written`: the recipe's own rate, None where it says `auto`.
    """

    rates: tuple[float, ...]
    losses: tuple[float, ...]
    smoothed: tuple[float, ...]
    suggested: float | None
    planned: float
    reason: str
    written: float | None = None

    def render(self) -> str:
        """A few lines for the terminal."""
        lines = [f"{len(self.rates)} updates from {self.rates[0]:.1e} to {self.rates[-1]:.1e}"]
        if self.written is not None:
            lines.append(f"the recipe's own: {self.written:.2e}")
        lines.append(f"planned by `learning_rate: auto`: {self.planned:.2e}")
        if self.suggested is None:
            lines.append(f"no suggestion: {self.reason}")
        else:
            lines.append(f"suggested: train.learning_rate={self.suggested:.2e}  ({self.reason})")
        return "\n".join(lines)


def find_learning_rate(recipe: Recipe, *, low: float, high: float, steps: int) -> RangeTest:
    """Run the test on the recipe's data and model; nothing is saved. Raises TrainingError for senseless bounds."""
    if not 0 < low < high <= 100 or steps < 10:
        raise TrainingError(f"0 < low < high ≤ 100 and at least 10 steps are expected; found {low}, {high}, {steps}.")
    from hf_finetune.ladder.trained.full import on_augmented_images
    from hf_finetune.ladder.trained.rung import trainable
    from hf_finetune.pipeline.images import open_images
    from hf_finetune.pipeline.model import build_model
    from hf_finetune.pipeline.prepare import prepare_run, settle_plan
    from hf_finetune.training.fit import FitRows
    from hf_finetune.training.range_test import RisingRate, sweep

    context = prepare_run(recipe)
    images = open_images(context)
    context = settle_plan(context, images.store.rejected)
    model = build_model(context)
    train = images.rows["train"]
    objective, batches = on_augmented_images(context, train, None)
    classes = context.classes_to_balance(train.labels)
    rows = FitRows(batches, None, lambda numbers: [train.names[number] for number in numbers], classes)
    with tempfile.TemporaryDirectory() as folder, trainable(model, context.plan) as form:
        rates, losses = sweep(
            form, recipe.train, context.plan, objective, rows, RisingRate(low, high, steps), Path(folder)
        )
    found = read_curve(rates, losses, planned_rate(context.recipe, context.plan))
    written = recipe.train.learning_rate
    return found if written == "auto" else replace(found, written=written)


def planned_rate(recipe: Recipe, plan: Plan) -> float:
    """What `learning_rate: auto` would give this recipe, whatever it says."""
    train = recipe.train.model_copy(update={"learning_rate": "auto"})
    return learning_rate(recipe.model_copy(update={"train": train}), plan.effective_batch.value).value


def read_curve(rates: list[float], losses: list[float], planned: float) -> RangeTest:
    """The steepest fall of the smoothed loss over log rate, bounded by a tenth of the rate at its minimum."""
    if len(losses) < 5:
        raise TrainingError("The loss diverged within five updates.", "Start lower: `--low 1e-8`.")
    smoothed = smooth(np.asarray(losses))
    lowest = int(smoothed.argmin())
    fall = smoothed[0] - smoothed[lowest]
    curve = tuple(rates), tuple(losses), tuple(map(float, smoothed))
    if lowest < 3 or fall < 0.05 * abs(smoothed[0]):
        reason = f"the loss fell by only {fall:.3f}; try more steps or a higher end"
        return RangeTest(*curve, suggested=None, planned=planned, reason=reason)
    slope = np.gradient(smoothed, np.log(rates))
    steepest = int(slope[: lowest + 1].argmin())
    bound = rates[lowest] / BELOW_MINIMUM
    suggested = float(f"{min(rates[steepest], bound):.2g}")
    reason = f"steepest fall at {rates[steepest]:.1e}; lowest loss at {rates[lowest]:.1e}, a tenth of it at most"
    return RangeTest(*curve, suggested=suggested, planned=planned, reason=reason)


def smooth(losses: np.ndarray) -> np.ndarray:
    """Exponential smoothing with the bias of the start corrected."""
    running, smoothed = 0.0, np.empty_like(losses, dtype=float)
    for step, loss in enumerate(losses):
        running = SMOOTHING * running + (1 - SMOOTHING) * float(loss)
        smoothed[step] = running / (1 - SMOOTHING ** (step + 1))
    return smoothed


def check_plot(path: str | Path) -> None:
    """Raise RecipeError where `plot` could not write there, before minutes of training."""
    folder = Path(path).absolute().parent
    if not folder.is_dir():
        raise RecipeError(f"--plot: there is no folder {folder}.", "Make it, or name a file elsewhere.")
    from matplotlib.figure import Figure

    kinds = sorted(Figure().canvas.get_supported_filetypes())
    if Path(path).suffix.lower().lstrip(".") not in ("", *kinds):
        raise RecipeError(
            f"--plot: an image file is expected, found {path}.", f"Its name may end in {', '.join(kinds)}."
        )


def plot(found: RangeTest, path: str | Path) -> str:
    """Write the curve as an image; returns a line that says where."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    axes.plot(found.rates, found.losses, ".", color="0.7", label="loss of an update")
    axes.plot(found.rates, found.smoothed, "-", color="C0", label="smoothed")
    axes.axvline(found.planned, color="0.3", linestyle=":", label=f"auto {found.planned:.1e}")
    if found.written is not None:
        axes.axvline(found.written, color="0.3", linestyle="--", label=f"the recipe's {found.written:.1e}")
    if found.suggested is not None:
        axes.axvline(found.suggested, color="C1", label=f"suggested {found.suggested:.1e}")
    axes.set(xscale="log", xlabel="learning rate", ylabel="training loss")
    axes.set_ylim(0, 1.15 * max(found.smoothed[0], *found.losses[:3]))
    axes.legend()
    figure.savefig(path, dpi=120)
    return f"Plot: {path}"
