"""What is said of the data at the end of a run: its worst faults, and the test's score without what leaked into it.

From what the run has decoded and passed over already; `hf-finetune doctor` looks at more, and shows it.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from hf_finetune.errors import reason_of
from hf_finetune.pipeline.images import Images
from hf_finetune.plan.context import RunContext
from hf_finetune.run.clock import Clock
from hf_finetune.types import SPLITS, PixelRows, Split

if TYPE_CHECKING:
    from hf_finetune.ladder.climb import Climbed
    from hf_finetune.pipeline.finish import Scored

logger = logging.getLogger(__name__)
MOST_TOLD = 3
# Of a run's seconds, and seconds, whichever is more, that looking may take; and seconds that it takes a row (measured
# on 2,527 photos of TrashNet on two cores).
_SHARE, _LEAST_S, _ROW_S = 0.05, 2.0, 0.0006


def look_back(
    context: RunContext, images: Images, climbed: Climbed, results: Mapping[Split, Scored], clock: Clock
) -> dict[str, Any]:
    """`RunReport.findings`; empty where training rows were never decoded as the others are, or looking would take long
    beside the run. Raises nothing, and Ctrl-C only ends the looking: the result is not in its place yet."""
    try:
        return _look_back(context, images, climbed, results, clock)
    except KeyboardInterrupt:
        logger.warning("Looking for faults of the data was interrupted; the result is put in its place.")
    except Exception as error:  # noqa: BLE001  the run is done: whatever is wrong with its data must not fail it
        logger.warning("No faults of the data are told: %s", reason_of(error))
    return {}


def _look_back(
    context: RunContext, images: Images, climbed: Climbed, results: Mapping[Split, Scored], clock: Clock
) -> dict[str, Any]:
    if images.probe_rows is None:
        return {}
    rows: dict[Split, PixelRows] = {
        split: images.probe_rows if split == "train" else images.rows[split]
        for split in SPLITS
        if len(images.rows.get(split, ()))
    }
    # Where the disk had no room for them, every image would be decoded once more.
    if not images.store.on_disk or _ROW_S * sum(map(len, rows.values())) > max(_LEAST_S, _SHARE * clock.total()):
        logger.info("`hf-finetune doctor` looks for duplicates and wrong labels; here it would take long.")
        return {}
    from hf_finetune.doctor.everything import Everything
    from hf_finetune.doctor.examine import Wishes, leaked_into_test, of_pictures, suspected
    from hf_finetune.doctor.looks import Looks, look_at
    from hf_finetune.doctor.words import worst

    preprocess, max_pixels = context.facts.preprocess, context.recipe.data.max_pixels
    everything = Everything(context.index, context.target, rows, {}, {}, preprocess, max_pixels)
    looks = Looks.joined([look_at(rows[split]) for split in everything.splits])
    found = of_pictures(everything, looks, Wishes())
    if climbed.frozen is not None:
        found += suspected(everything, "train", climbed.frozen.rows, climbed.frozen.answers)
    findings: dict[str, Any] = {"worst": worst(found, MOST_TOLD)}
    if (leaked := leaked_into_test(found)) and "test" in results:
        kept = np.flatnonzero([name not in leaked for name in rows["test"].names])
        if len(kept):
            labels = np.asarray(rows["test"].labels)[kept]
            score = context.score(results["test"].answers.take(kept), labels, full=False)
            findings["without_leaks"] = {**score, "leaked": len(leaked)}
    return findings
