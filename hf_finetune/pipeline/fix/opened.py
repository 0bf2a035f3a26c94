"""A finished run that is to be taught again: what its folder holds, and the context that its rows are fitted in."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from hf_finetune.backbones.config import Model
from hf_finetune.data.config import Data
from hf_finetune.data.index.corrections import Correction, read_corrections
from hf_finetune.data.sources.readers import FileReader
from hf_finetune.errors import AdapterError, DataError, MachineError
from hf_finetune.labels import Label, LabelColumn, Labels
from hf_finetune.pipeline.fix.rows import Rows
from hf_finetune.plan.context import RunContext
from hf_finetune.recipe.recipe import Recipe, load_recipe
from hf_finetune.report.fields import RunReport
from hf_finetune.result.evaluate import told_keys
from hf_finetune.result.held_rows import Held, read_held
from hf_finetune.result.manifest import Manifest, read_manifest
from hf_finetune.result.split_record import SplitRecord, kept_corrections, local_place, read_record
from hf_finetune.run.folder import RunFolder, read_plan
from hf_finetune.types import BackboneFacts, Decision, Index, Plan, Row, Split

if TYPE_CHECKING:
    import numpy as np

logger = logging.getLogger(__name__)
PROBE = "probe"
MOVED = "Where they have moved, name the place: data.name=PLACE"


@dataclass(frozen=True)
class OpenedRun:
    """`result`: its adapter/ or model/ folder. `recipe` as it was settled. `rung`: whose weights the result has but for
    its head, as far as run.json says. `data`: how the run's own images are read now; `moved`: whether the command line
    says where they are."""

    folder: RunFolder
    result: Path
    report: RunReport
    manifest: Manifest
    recipe: Recipe
    plan: Plan
    record: SplitRecord
    held: Held
    data: Data
    moved: bool

    @property
    def rung(self) -> str:
        """The rung that the result comes from; of one that was fixed before, the one before that."""
        return [each.rung for each in self.report.rungs if each.kept and each.rung != "fix"][-1]

    @property
    def place(self) -> str | None:
        """The folder or table file of the run's own images, where it is one."""
        return local_place(self.data.name) if self.moved else self.record.place

    @cached_property
    def own_corrections(self) -> Sequence[Correction]:
        """The lines of the table that the run was trained with; none where it cannot be read any more, which is
        said."""
        written = self.data.corrections
        if written is None:
            return ()
        try:
            return read_corrections(Path(written))
        except DataError as error:
            logger.warning("The run's own corrections are not known, and corrections.csv lacks them. %s", error.message)
            return ()

    @property
    def frozen(self) -> bool:
        """Whether the head stands on the backbone as the run found it, so that fitting it anew is all there is."""
        return self.rung == PROBE

    @property
    def base(self) -> Model:
        """Where the base is."""
        model = self.recipe.model
        return model.model_copy(update={"name": self.manifest.base, "revision": self.manifest.revision})


def open_run(place: Path, overrides: Sequence[str] = ()) -> OpenedRun:
    """`overrides`: `data.key=value`, such as where the images are now. Raises AdapterError where there is no finished
    run, or its folder is damaged, RecipeError for other keys, MachineError for several processes."""
    from hf_finetune.hub.stage import finished_run

    if int(os.environ.get("WORLD_SIZE", 1)) > 1:
        raise MachineError("fix: one process is expected, found several.", "Start it without a launcher.")
    finished = finished_run(place)
    manifest = read_manifest(finished.result)
    record = read_record(finished.folder.path)
    if record is None:
        raise AdapterError(
            f"{finished.folder.path} holds no splits.json: it says which rows the run was trained on.",
            "Copy the run folder again, or train again.",
        )
    told = told_keys(overrides)
    recipe = load_recipe(finished.result / "recipe.yaml")
    data = load_recipe(finished.result / "recipe.yaml", overrides).data
    if "corrections" not in told:
        data = data.model_copy(update={"corrections": kept_corrections(finished.folder.path, data.corrections)})
    return OpenedRun(
        finished.folder,
        finished.result,
        finished.report,
        manifest,
        recipe,
        read_plan(finished.folder),
        record,
        read_held(finished.folder.held),
        data,
        "name" in told,
    )


def facts_of(opened: OpenedRun, outputs: int) -> BackboneFacts:
    """Of the base, with the preprocessing of training."""
    from hf_finetune.backbones.facts import read_facts

    return replace(read_facts(opened.base, outputs), preprocess=opened.manifest.preprocess)


def context_of(
    opened: OpenedRun,
    rows: Mapping[Split, Rows],
    columns: tuple[LabelColumn, ...],
    facts: BackboneFacts,
    *,
    settle: bool = True,
) -> RunContext:
    """The context of a run on these rows. Raises DataError where the task cannot learn them, unless it need not
    (`settle`)."""
    from hf_finetune.machine.detect import detect

    recipe, report = opened.recipe, opened.report
    index = Index(
        source=report.data["name"],
        revision=report.data["revision"],
        commit=report.data["commit"],
        licence=report.data["licence"],
        labels=Labels(columns[0].names if len(columns) == 1 else ()),
        splits={split: _index_rows(its) for split, its in rows.items()},
        cut=opened.record.cut,
        rejected=(),
        notes=(),
        reader=FileReader(),
        columns=columns,
    )
    machine = detect(recipe.budget.memory)
    plan = opened.plan
    if plan.device.value != machine.device:
        plan = replace(plan, device=Decision(machine.device, f"the run was trained on {plan.device.value}"))
    recipe = recipe.model_copy(update={"model": opened.base})
    context = RunContext(recipe, index, machine, facts, plan, recipe, None)
    if not settle:
        return context
    return replace(context, index=replace(index, labels=context.target.outputs))


def _index_rows(rows: Rows) -> tuple[Row, ...]:
    return tuple(
        Row(name, label_of(label), name, int(unit))
        for name, label, unit in zip(rows.names, rows.labels, rows.units, strict=True)
    )


def label_of(label: np.ndarray) -> Label:
    """A row's label as an index has it."""
    return int(label) if not label.ndim else tuple(map(float, label))
