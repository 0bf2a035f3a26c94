"""Whether a fixed run should be trained again: where an adapter was trained, its head alone was taught.

Owns the rule and the words.
"""

from __future__ import annotations

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
    share = (wrong + taught.added) / max(1, whole)
    if opened.rung == START:
        return ["The run's own head came with its base or its starting adapter; this one was fitted in its place."]
    what = "weights" if opened.manifest.whole else "adapter"
    carried = f"The {what}, trained by {opened.rung}, {'are' if opened.manifest.whole else 'is'} as before: "
    carried += f"{'they' if opened.manifest.whole else 'it'} still carr{'y' if opened.manifest.whole else 'ies'} "
    carried += f"{count(wrong, 'row')} as they were" if wrong else "the old rows"
    carried += f", and nothing of the {count(taught.added, 'row')} that came in" if taught.added else ""
    reasons = []
    if share >= WORTH:
        reasons.append(f"{share:.0%} of the training rows changed")
    if taught.new_classes:
        reasons.append(f"{count(len(taught.new_classes), 'class', 'classes')} came in that it never saw")
    if _lost(taught, context, refitted):
        reasons.append("the head in closed form answers validation worse than the trained one, by more than chance")
    lead = _lead(opened)
    if reasons:
        worth = f"Training again is worth it: {'; '.join(reasons)}{lead}."
    else:
        worth = f"Training again is not worth it yet: {share:.1%} of the training rows changed, {WORTH:.0%} is the mark"
        worth += f", and validation is answered as well as before{lead}."
    return [f"{carried}.", worth, *_unjudged(taught)]


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
