"""Whether a fixed run should be trained again: where an adapter was trained, its head alone was taught.

Owns the rule and the words.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from hf_finetune.data.sources.source import count, listing
from hf_finetune.pipeline.fix.opened import PROBE, OpenedRun
from hf_finetune.pipeline.fix.refit import Refitted
from hf_finetune.plan.context import RunContext
from hf_finetune.training.best import is_more_than_luck

if TYPE_CHECKING:
    from hf_finetune.pipeline.fix.taught import Taught

# Of the training rows. Assumption: a tenth of wrong labels costs a trained adapter about as much as a rung gains over
# the probe; half of that is the mark.
WORTH = 0.05
START = "start"


def advice_on(opened: OpenedRun, taught: Taught, context: RunContext, refitted: Refitted) -> list[str]:
    """Sentences for people: what the result still carries, and whether training again is worth it."""
    if opened.frozen:
        return [*_of_the_probe(opened), *_unjudged(taught)]
    rows = taught.rows["train"]
    wrong = sum(taught.changes.count("train"))
    whole = len(rows) - taught.added + taught.changes.count("train")[0]
    share = changed_since(opened, taught) / max(1, whole)
    if opened.rung == START:
        return ["The run's own head came with its base or its starting adapter; this one was fitted in its place."]
    carried = _carried(opened, wrong, taught.added)
    reasons = []
    if share >= WORTH:
        reasons.append(f"{100 * share:.0f} % of the training rows changed")
    if taught.new_classes:
        reasons.append(f"{count(len(taught.new_classes), 'class', 'classes')} came in that it never saw")
    if _lost(taught, context, refitted):
        reasons.append("the head in closed form answers validation worse than the trained one, by more than chance")
    lead = _lead(opened)
    if reasons:
        worth = f"Training again is worth it: {'; '.join(reasons)}{lead}."
    else:
        worth = f"Training again is not worth it yet: {100 * share:.1f} % of the training rows changed since, "
        worth += f"{100 * WORTH:.0f} % is the mark, and validation is answered no worse than by chance{lead}."
    return [carried, worth, *_unjudged(taught)]


def changed_since(opened: OpenedRun, taught: Taught) -> int:
    """Training rows that earlier fixes and this one took out, labelled otherwise or added."""
    earlier = opened.report.fix["changed_since"] if opened.report.fix else 0
    return earlier + sum(taught.changes.count("train")) + taught.added


def on_training_without(only_here: Mapping[str, int], foreign: Sequence[str]) -> list[str]:
    """Sentences on rows that training again with corrections.csv would lack, since it corrects the dataset's own rows
    and names no class that the dataset does not have."""
    said = []
    if number := only_here["new_class"]:
        said.append(
            f"corrections.csv leaves out {count(number, 'row')} of {listing(foreign)}: data.corrections gives no new "
            f"class. Training again learns {'it' if number == 1 else 'them'} only once the dataset itself has that "
            "class: move the images into a class folder of that name, or label them so in its table."
        )
    if number := only_here["added"]:
        said.append(
            f"{count(number, 'added row')} {'is' if number == 1 else 'are'} not in the dataset: training again learns "
            f"{'it' if number == 1 else 'them'} only once {'it is' if number == 1 else 'they are'} put there, in class "
            "folders or in its table."
        )
    return said


def _carried(opened: OpenedRun, wrong: int, added: int) -> str:
    """What is below the head still."""
    what, has = ("weights", "have") if opened.manifest.whole else ("adapter", "has")
    rows = f"{count(wrong, 'row')} as {'it was' if wrong == 1 else 'they were'}" if wrong else "the rows of then"
    new = f", and nothing from the {count(added, 'row')} that came in" if added else ""
    return f"What {opened.rung} trained below the head stays: the {what} still {has} learnt from {rows}{new}."


def _of_the_probe(opened: OpenedRun) -> list[str]:
    others = [each.rung for each in opened.report.rungs if each.rung not in (PROBE, START)]
    tried = f"; {' and '.join(others)}, which lost to it then, {'was' if len(others) == 1 else 'were'} not tried"
    return [f"The head is what the probe would fit on these rows{tried if others else ''}."]


def _unjudged(taught: Taught) -> list[str]:
    """New classes that no score tells of."""
    if not taught.new_classes:
        return []
    there = set(taught.rows["validation"].labels.tolist())
    names = taught.columns[0].names
    without = [name for name in taught.new_classes if names.index(name) not in there]
    return [f"Validation has no image of {listing(without)}: no score tells how well that is known."] if without else []


def _lost(taught: Taught, context: RunContext, refitted: Refitted) -> bool:
    if refitted.before is None:
        return False
    labels, by = taught.rows["validation"].labels, context.recipe.train.best_by
    return is_more_than_luck(context.target.gains(refitted.before, refitted.probed.answers, labels, by))


def _lead(opened: OpenedRun) -> str:
    """What the rung had over the probe, where that ran."""
    by, rungs = opened.recipe.train.best_by, {each.rung: each for each in opened.report.rungs}
    if PROBE not in rungs or by not in rungs[PROBE].validation:
        return ""
    ours, probe = rungs[opened.rung].validation[by], rungs[PROBE].validation[by]
    return f" ({opened.rung} had {by.replace('_', ' ')} {ours:.3f}, the probe {probe:.3f})"
