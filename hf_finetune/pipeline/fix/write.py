"""What a fixed run's folder holds: the result, its scores and report, and everything that the next fix needs."""

from __future__ import annotations

import math
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hf_finetune.errors import FinetuneError
from hf_finetune.labels import LabelColumn
from hf_finetune.ladder.candidates import Climbed
from hf_finetune.machine.peak import PeakMemory, device_peak_bytes
from hf_finetune.pipeline.finish import Scored, evaluate_splits
from hf_finetune.pipeline.fix.added import decoded
from hf_finetune.pipeline.fix.advice import advice_on, changed_since, on_training_without
from hf_finetune.pipeline.fix.corrections import write_corrections
from hf_finetune.pipeline.fix.opened import MOVED, OpenedRun
from hf_finetune.pipeline.fix.refit import Refitted, features_of_rows
from hf_finetune.pipeline.keep_features import write_rows
from hf_finetune.pipeline.publish import Ended, publish
from hf_finetune.pipeline.saving import Saved, calibrated, save_verified
from hf_finetune.pipeline.typical import typical_from
from hf_finetune.plan.context import RunContext
from hf_finetune.recipe.recipe import dump_recipe, load_recipe
from hf_finetune.report.fields import FixFields, RunReport
from hf_finetune.result.evaluate import rows_in_label_order
from hf_finetune.result.manifest import Manifest
from hf_finetune.result.own_rows import own_rows
from hf_finetune.result.split_record import CORRECTIONS, SplitRecord, save_record
from hf_finetune.result.typical import write_typical
from hf_finetune.run.clock import Clock
from hf_finetune.run.features_file import KeptFeatures, KeptRows
from hf_finetune.run.folder import RunFolder
from hf_finetune.types import SPLITS, Candidate, PixelRows, Split

if TYPE_CHECKING:
    from torch import nn

    from hf_finetune.pipeline.fix.taught import Taught


@dataclass(frozen=True)
class Scores:
    """The scores of splits and their rows, and why the test has none (empty: it has)."""

    results: Mapping[Split, Scored]
    rows: Mapping[Split, Any]
    untested: str


@dataclass(frozen=True)
class Writer:
    """Writes into `folder`, which is called `place` in the end."""

    opened: OpenedRun
    taught: Taught
    context: RunContext
    folder: RunFolder
    place: Path
    peak: PeakMemory

    def keep(self, kept: KeptFeatures) -> None:
        """Recipe, plan, splits and features: what the next fix, `train` and `evaluate` read."""
        old, new = self.opened.folder, self.folder
        recipe = load_recipe(old.recipe)
        output = recipe.output.model_copy(update={"dir": str(self.place)})
        new.recipe.write_text(dump_recipe(recipe.model_copy(update={"output": output})), encoding="utf-8")
        own = (old.path / CORRECTIONS, new.path / CORRECTIONS)
        for path, copy in ((old.plan, new.plan), (old.engine, new.engine), own):
            if path.is_file():
                shutil.copyfile(path, copy)
        record = self._record()
        save_record(new.path, record)
        write_corrections(self.opened, record, self.taught.columns, self._foreign, new.path)
        rows: dict[Split, KeptRows] = {
            split: KeptRows(its.names, its.labels, its.units, its.features) for split, its in self.taught.rows.items()
        }
        about = {**kept.about, "columns": [asdict(column) for column in self.taught.columns]}
        write_rows(new, KeptFeatures(rows, kept.held, about))

    @property
    def _foreign(self) -> tuple[str, ...]:
        """Classes that the run's dataset does not have."""
        earlier = self.opened.report.fix["foreign_classes"] if self.opened.report.fix else ()
        return (*earlier, *self.taught.new_classes)

    @property
    def _only_here(self) -> dict[str, int]:
        """How many rows training again with corrections.csv would lack."""
        record = self._record()
        added, foreign = record.there & set(record.added), set(self._foreign)
        new = [name for name, label in record.labels.items() if isinstance(label, str) and label in foreign]
        return {"new_class": len(set(new) - added), "added": len(added)}

    def _record(self) -> SplitRecord:
        before, changes = self.opened.record, self.taught.changes
        out = {name for names in changes.left_out.values() for name in names}
        names: dict[Split, list[str]] = {
            split: [name for name in its if name not in out] for split, its in before.names.items()
        }
        known = set(before.names["train"])
        new = [name for name in self.taught.rows["train"].names if name not in known]
        names["train"] += new
        labels = {name: each for name, each in before.labels.items() if name not in out}
        for its in changes.labels.values():
            labels |= {name: _written(label, self.taught.columns) for name, label in its.items()}
        left_out = [name for name in (*before.left_out, *sorted(out)) if name not in new]
        added = list(dict.fromkeys([*before.added, *new]))
        return replace(before, place=self.opened.place, names=names, left_out=left_out, added=added, labels=labels)

    def save(self, model: nn.Module, refitted: Refitted, clock: Clock) -> tuple[Saved, Manifest, Climbed]:
        """The result, written, loaded again and compared; and what is like its training images."""
        from hf_finetune.machine.disk import follow_umask

        opened, context, rows = self.opened, self.context, self.taught.rows
        climbed = self._climbed(refitted, clock)
        manifest = replace(opened.manifest, labels=context.target.outputs.names, task=context.target.settings)
        manifest = calibrated(manifest, climbed, context, rows["validation"])
        target = self.folder.result(whole=manifest.whole)
        staged = target.with_name(f"{target.name}.staged")
        again = save_verified(model, staged, manifest, opened.recipe, opened.held.pixels, self.folder)
        own = {split: features_of_rows(its) for split, its in rows.items()}
        if (typical := typical_from(context, rows["train"].labels, own["train"], own["validation"])) is not None:
            write_typical(staged, typical)
            follow_umask(staged)
        return Saved(staged, target, again), manifest, climbed

    def _climbed(self, refitted: Refitted, clock: Clock) -> Climbed:
        probed, opened = refitted.probed, self.opened
        metrics = {key: value for key, value in probed.metrics.items() if isinstance(value, int | float)}
        peak = device_peak_bytes(self.context.machine.device) or self.peak.anonymous_bytes
        fitted = Candidate(
            "probe" if opened.frozen else "fix", metrics, clock.seconds["head"], peak, 0, note=probed.note,
            at_s=clock.total(),
        )  # fmt: skip
        earlier = () if opened.frozen else tuple(each for each in opened.report.rungs if each.rung != "fix")
        # Rows that an adapter was trained on say too much of themselves when only the head leaves them out.
        left_out = probed.left_out if opened.frozen else None
        return Climbed((*earlier, fitted), probed.answers, None, False, left_out=left_out, refitted=probed.refitted)

    def score(self, saved: Saved, manifest: Manifest, climbed: Climbed, *, score_test: bool) -> Scores:
        """Validation, and the test where its images are there, by the result in the precision of training."""
        rows: dict[Split, Any] = dict(self.taught.rows)
        untested = "" if score_test else "it was not asked for"
        if score_test and not self.opened.record.names.get("test"):
            untested = "the run has no test split"
        elif score_test:
            try:
                rows["test"] = self._test_rows(manifest)
            except FinetuneError as error:
                place = self.opened.place
                gone = place is not None and not Path(place).exists()
                untested = f"{error.message} {MOVED}" if gone else error.message
        results = evaluate_splits(saved.staged, manifest, self.context, rows, climbed.answers, saved.model)
        return Scores(results, rows, untested)

    def _test_rows(self, manifest: Manifest) -> PixelRows:
        opened, seed = self.opened, self.opened.recipe.train.seed
        # Of the new folder's record, which knows the corrected labels and what was left out.
        own = own_rows(self.folder.path / "adapter", opened.data, manifest, "test", seed, moved=opened.moved)
        from hf_finetune.labels import Labels

        ordered = rows_in_label_order(own.index, Labels(manifest.labels), "test")
        index = replace(own.index, splits={"train": ordered}, rejected=(), labels=Labels(manifest.labels))
        return decoded(index, self.opened, "test")

    def publish(
        self, saved: Saved, manifest: Manifest, climbed: Climbed, scores: Scores, refitted: Refitted, clock: Clock
    ) -> None:
        """Report and card, the result into place."""
        report = self._report(manifest, climbed, scores, refitted, clock)
        publish(saved, Ended(report, scores.results, scores.rows, manifest.target), self.folder)

    def _report(
        self, manifest: Manifest, climbed: Climbed, scores: Scores, refitted: Refitted, clock: Clock
    ) -> RunReport:
        old, taught, results = self.opened.report, self.taught, scores.results
        counts = {split: len(taught.rows[split]) for split in ("train", "validation")}
        if "test" in results:
            counts["test"] = len(results["test"].answers)
        more = len(manifest.labels) - len(old.data["labels"])
        device = self.context.machine.device
        used = {"anonymous": self.peak.anonymous_bytes, "resident": self.peak.resident_bytes}
        total = {**clock.seconds, "total": clock.total()}
        return replace(
            old,
            recipe={**old.recipe, "output": {**old.recipe["output"], "dir": str(self.place)}},
            plan={**old.plan, "memory": {"bytes": {}, "note": ""}},
            model={
                **old.model,
                "parameters": old.model["parameters"] + more * self._parameters_of_an_output(),
                "fitted_on": list(manifest.fitted_on),
            },
            data={**old.data, "labels": list(manifest.labels), "counts": counts},
            rungs=climbed.candidates,
            validation=dict(results["validation"].metrics),
            test=dict(results["test"].metrics) if "test" in results else {},
            seconds=total,
            peak_bytes={**old.peak_bytes, **used, "device": device_peak_bytes(device)},
            memory={},
            engine={split: scored.engine for split, scored in results.items() if scored.engine},
            task=manifest.task,
            findings={},
            fix=self._fix(refitted, scores.untested),
        )

    def _parameters_of_an_output(self) -> int:
        return self.context.facts.head_parameters_per_label or 0

    def _fix(self, refitted: Refitted, untested: str) -> FixFields:
        old, taught, changes = self.opened.report, self.taught, self.taught.changes
        labels = self.taught.rows["validation"].labels
        before = None
        if refitted.before is not None:
            before = self.opened.manifest.target.score(refitted.before, labels, full=False)
        changed = {split: changes.count(split) for split in SPLITS}
        return {
            "of": self.opened.folder.path.name,
            "left_out": {split: left_out for split, (left_out, _) in changed.items()},
            "relabelled": {split: relabelled for split, (_, relabelled) in changed.items()},
            "added": taught.added,
            "new_classes": list(taught.new_classes),
            "foreign_classes": list(self._foreign),
            "changed_since": changed_since(self.opened, taught),
            "twins": asdict(taught.twins),
            "rung": self.opened.rung,
            "before": {"validation": dict(old.validation), "test": dict(old.test), "corrected": before},
            "untested": untested,
            "advice": [
                *advice_on(self.opened, taught, self.context, refitted),
                *on_training_without(self._only_here, self._foreign),
            ],
            "only_here": self._only_here,
            "earlier": old.fix["earlier"] + 1 if old.fix else 0,
        }


def _written(label: Any, columns: tuple[LabelColumn, ...]) -> str | list[float | None]:
    if isinstance(label, int):
        return columns[0].names[label]
    return [None if math.isnan(each) else float(each) for each in label]
