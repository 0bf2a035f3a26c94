"""How many unreadable rows a run accepts, and what it says when there are too many."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from hf_finetune.errors import DataError
from hf_finetune.files.visible import one_line
from hf_finetune.types import Index, PixelRows, Rejected, Split

SHOWN = 10


def check_rejected(
    index: Index, rejected: Sequence[Rejected], rows: Mapping[Split, PixelRows], max_bad_share: float
) -> None:
    """Raises DataError where more than `max_bad_share` of all rows are bad, or where a split or a class lost all."""
    total = sum(len(index.splits[split]) for split in rows)
    if len(rejected) > max_bad_share * total:
        raise DataError(
            f"data.name: at most {max_bad_share:.2%} unreadable images were expected (data.max_bad_share), "
            f"{len(rejected)} of {total} cannot be used ({_counts(rejected)}):\n{listed(rejected)}",
            f"repair or remove them, or set data.max_bad_share to {_share_above(len(rejected), total)}"
            if len(rejected) < total
            else "repair or replace them",
        )
    for split, left in rows.items():
        if index.splits[split] and not len(left):
            raise DataError(
                f"data.name: a readable image in {split} was expected, all {len(index.splits[split])} cannot be used:\n"
                f"{listed([row for row in rejected if row.split == split])}",
                "repair or replace them",
            )
    if "train" in rows and rows["train"].labels.ndim == 1:
        _check_classes(index, rejected, rows["train"])


def _check_classes(index: Index, rejected: Sequence[Rejected], left: PixelRows) -> None:
    before = {row.label for row in index.splits["train"] if isinstance(row.label, int)}
    lost = sorted(before - set(np.unique(left.labels).tolist()))
    if lost:
        names = ", ".join(repr(index.labels.names[label]) for label in lost[:SHOWN])
        raise DataError(
            f"data.name: a readable training image of every class was expected, {len(lost)} of {len(before)} classes "
            f"have none ({names}{' …' if len(lost) > SHOWN else ''}):\n"
            f"{listed([row for row in rejected if row.split == 'train'])}",
            "repair or replace their images, or remove these classes",
        )


def listed(rejected: Sequence[Rejected]) -> str:
    """The first ten, one a line, and how many more there are."""
    lines = [f"    {one_line(f'{row.name} ({row.split}): {row.reason}')}" for row in rejected[:SHOWN]]
    if len(rejected) > SHOWN:
        lines.append(f"    … and {len(rejected) - SHOWN} more")
    return "\n".join(lines)


def _counts(rejected: Sequence[Rejected]) -> str:
    return ", ".join(f"{count} in {split}" for split, count in Counter(row.split for row in rejected).items())


def _share_above(bad: int, total: int) -> str:
    """The smallest share in whole thousandths that lets them pass."""
    return f"{min(-(-1000 * bad // total), 999) / 1000:g}"
