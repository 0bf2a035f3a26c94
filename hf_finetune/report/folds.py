"""What `hf-finetune evaluate --folds` prints."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hf_finetune.files.visible import one_line
from hf_finetune.report.tables import plain_table, terminal_width, wrapped

_SHOWN = 10  # folds


def render_folds(found: Mapping[str, Any], *, width: int | None = None) -> str:
    """Of what `cross_validate` gives: a line a metric, what was folded, and the notes."""
    width = width or terminal_width()
    pooled = "pooled" in found
    rows = [("metric", "mean ± std", *["pooled"] * pooled, "folds")]
    for name, figures in found["metrics"].items():
        each = [_number(value) for value in figures["each"][:_SHOWN]]
        more = [f"and {len(figures['each']) - _SHOWN} more"] * (len(figures["each"]) > _SHOWN)
        spread = f"{_number(figures['mean'])} ± {_number(figures['std'])}"
        whole = [_number(figures["pooled"])] if pooled else []
        rows.append((name, spread, *whole, " ".join(each + more)))
    smallest, largest = min(found["sizes"]), max(found["sizes"])
    size = f"{smallest}" if smallest == largest else f"{smallest} to {largest}"
    said = f"{found['folds']} folds of {size} rows, {found['rows']:,} in all, in {found['seconds']:.1f} s: " + (
        f"a closed-form head on the frozen features of {found['model']}, fitted anew to the other folds' rows each "
        "time. Pooled: all rows scored together, each by the head that did not see it."
        if pooled
        else f"a run of {found['model']} for each. Kept: "
        + "; ".join(f"{run['kept'] or 'the start'} in {run['folder']}" for run in found["runs"])
    )
    notes = [f"note: {note}" for note in found["notes"]]
    if lost := found["left_out"]:
        shown = "; ".join(one_line(f"{row['name']}: {row['reason']}") for row in lost[:5])
        notes.append(f"left out: {len(lost):,} row{'s' * (len(lost) > 1)} that cannot be used: {shown}")
    return "\n".join([plain_table(rows, width), "", *(wrapped(text, width, "  ") for text in (said, *notes))])


def _number(value: float) -> str:
    """`0.483`, `264,441`."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3f}"
