"""The recipe: what a person writes. Loads, overrides, validates and dumps it.

Owns the top level and every message about a wrong recipe; each section lives with its component. Light: no torch.
Precedence: defaults < file < command line.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import Field, ValidationError, model_validator

from hf_finetune.adapters import Adapter, Lora
from hf_finetune.backbones.config import Model
from hf_finetune.data.config import Augment, Data
from hf_finetune.errors import RecipeError
from hf_finetune.quantizers import Quantizer, Unquantized
from hf_finetune.recipe.hub import Hub
from hf_finetune.recipe.ladder import Ladder
from hf_finetune.recipe.overrides import apply_overrides, blames_command_line, command_line_problems
from hf_finetune.recipe.parse import LineNumbers, parse_override, parse_yaml, set_path
from hf_finetune.recipe.problems import find_problems
from hf_finetune.recipe.truth_values import spell_truth_values
from hf_finetune.section import Section
from hf_finetune.tasks import Auto, Task, kind_with
from hf_finetune.tracking.config import Tracking, as_section, take_a_list
from hf_finetune.training.config import Budget, Train
from hf_finetune.types import Compute

Existing = Literal["resume", "number", "overwrite", "extend"]


class Output(Section):
    """Where the run is kept."""

    dir: str = Field(default="runs/default", min_length=1, description="run folder; the same recipe resumes in it")
    existing: Existing = Field(
        default="resume",
        description="where dir holds a run: resume (the same recipe goes on, another is refused), number (dir-2, …), "
        "overwrite, or extend (go on from its adapter, with another budget or another train section)",
    )
    report: bool = Field(default=True, description="make report.html in dir: a page with charts and small images")

    @property
    def folder(self) -> Path:
        """`dir` with a leading ~ resolved: a shell leaves the one of `output.dir=~/run` alone."""
        return Path(self.dir).expanduser()


class Recipe(Section):
    """A whole recipe. Every section has defaults: an empty recipe trains the built-in example."""

    model: Model = Model()
    data: Data = Data()
    task: Task = Auto()
    adapter: Adapter = Lora()
    quantization: Quantizer = Unquantized()
    augment: Augment = Augment()
    ladder: Ladder = "auto"
    train: Train = Train()
    budget: Budget = Budget()
    output: Output = Output()
    tracking: Tracking = Field(default=Tracking(), json_schema_extra=take_a_list)
    hub: Hub = Hub()

    @property
    def compute(self) -> Compute:
        """How int8 layers are multiplied; `model.engine: int8` insists on integers."""
        if self.quantization.kind != "int8":
            return "auto"
        asked = self.quantization.compute
        return "integer" if self.model.engine == "int8" and asked == "auto" else asked

    @property
    def balances(self) -> tuple[str, ...]:
        """What makes rare classes count as much as frequent ones, as `key=value`."""
        weights, adjustment = getattr(self.task, "class_weights", "none"), getattr(self.task, "logit_adjustment", 0)
        asked = {
            "task.class_weights=auto": weights == "auto",
            f"task.logit_adjustment={adjustment:g}": adjustment > 0,
            "train.sampler=balanced": self.train.sampler == "balanced",
        }
        return tuple(text for text, on in asked.items() if on)

    @model_validator(mode="after")
    def _refuse_what_cannot_be_had(self) -> Recipe:
        problems = []
        if self.budget.time == 0 and self.ladder != "auto" and "probe" not in self.ladder:
            problems.append("budget.time: 0 means the probe alone, but ladder does not name it; add probe to ladder")
        if self.data.group_column is not None and self.data.group_pattern is not None:
            problems.append("data.group_pattern: groups are told by a column or by names, found both; leave one out")
        if self.model.engine == "int8" and self.quantization.kind != "int8":
            problems.append(
                f"model.engine: int8 runs the layers of quantization.kind int8, found {self.quantization.kind}; leave "
                "model.engine out (auto), or set quantization.kind=int8"
            )
        if self.model.engine == "int8" and self.compute not in ("auto", "integer"):
            problems.append(
                f"model.engine: int8 multiplies integers, found quantization.compute {self.compute}; leave one of them "
                "out (auto)"
            )
        if self.model.engine == "graph" and self.quantization.kind != "none":
            problems.append(
                f"model.engine: graph runs layers in floating point, found quantization.kind {self.quantization.kind}; "
                "leave model.engine out (auto), or set quantization.kind=none"
            )
        if self.quantization.kind != "none" and self.adapter.whole:
            problems.append(
                f"quantization.kind: {self.quantization.kind} keeps the backbone frozen, but adapter.kind is "
                f"{self.adapter.kind}; use adapter.kind lora or head_only, or quantization.kind none"
            )
        if len(self.balances) > 1:
            first, *others = self.balances
            problems.append(
                f"{first.partition('=')[0]}: one of the ways to balance classes is expected, found {first} and "
                f"{' and '.join(others)}; rare classes would be favoured twice, so leave all but one out"
            )
        if problems:
            raise ValueError("\n".join(problems))
        return self


# The kind that a section means when the recipe names none.
_DEFAULT_KINDS = {"adapter": "lora", "quantization": "none"}


def load_recipe(source: str | Path | Mapping[str, Any], overrides: Sequence[str] = ()) -> Recipe:
    """Read a YAML file (or take a mapping), apply `section.key=value` overrides, validate.

    Raises RecipeError with every problem at once, each with its YAML path and, for a file, its line; those of the
    command line by themselves.
    """
    if isinstance(source, Mapping):
        content, lines, where = dict(source), {}, "recipe"
    else:
        content, lines = parse_yaml(Path(source))
        where = str(source)
    before = content
    content = {key: dict(value) if isinstance(value, Mapping) else value for key, value in content.items()}
    if "tracking" in content:  # a list in the file, of which the command line may set `tracking.project`
        content["tracking"] = as_section(content["tracking"])
    written = apply_overrides(content, overrides, Recipe)
    for section, value in content.items():
        if isinstance(value, dict) and "kind" not in value and section in ("task", *_DEFAULT_KINDS):
            value["kind"] = kind_with(value) if section == "task" else _DEFAULT_KINDS[section]
    spell_truth_values(content, Recipe)
    try:
        return Recipe.model_validate(content)
    except ValidationError as error:
        raise RecipeError(_all_problems(error, where, lines, before, written)) from None


def changed(recipe: Recipe, overrides: Sequence[str]) -> Recipe:
    """The recipe with `section.key=value` overrides; another kind of a section begins with its defaults.

    Raises RecipeError.
    """
    content: dict[str, Any] = recipe.model_dump(mode="json")
    for override in overrides:
        path, value = parse_override(override)
        if path[1:] == ("kind",):
            content[path[0]] = {}
        set_path(content, path, value)
    return load_recipe(content)


def _all_problems(
    error: ValidationError,
    where: str,
    lines: LineNumbers,
    before: Mapping[str, Any],
    written: Mapping[tuple[str, ...], str],
) -> str:
    """The problems of the recipe with their lines, then those of the command line. `before`: the recipe without it."""
    ours: list[str] = []
    theirs: list[str] = []
    for problem in find_problems(error, Recipe):
        if blames_command_line(problem.path, before, written, problem.sentence):
            theirs.append(problem.render({}))
        else:
            ours.append(problem.render(lines))
    parts = ["\n  - ".join([f"{where} is not a valid recipe:", *ours])] if ours else []
    if theirs:
        parts.append(command_line_problems(theirs))
    return "\n".join(parts)


def dump_recipe(recipe: Recipe) -> str:
    """The resolved recipe as YAML that `load_recipe` reads back to an equal recipe."""
    return yaml.safe_dump(recipe.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def recipe_schema() -> dict[str, Any]:
    """JSON schema of a recipe, for editors (`# yaml-language-server: $schema=…`)."""
    return Recipe.model_json_schema()
