"""What a model looked at in some images: those that it is farthest off about, and some that it is right about."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from hf_finetune.errors import reason_of
from hf_finetune.report.page.content.evidence import Evidence, Images
from hf_finetune.report.page.content.maker import Maker
from hf_finetune.report.page.structure import Gallery, Section, Thumb
from hf_finetune.report.page.texts import short
from hf_finetune.report.page.thumbnails import thumbnail

WORST, RIGHT = 6, 6
_SIDE = 208  # pixels of two images beside each other
_TEXT = (
    "Beside each image the same in grey, with what spoke for the answer in colour: the warmer, the more. It tells "
    "where the model looked and not why; a model that looks at the background or at a frame has learnt those."
)


@dataclass(frozen=True)
class Look:
    """`maps` gives float [n, H, W], from 0 to 1, of images uint8 [n, 3, H, W]: how much each place speaks for the
    answer. `cost_s`: about what that takes for a page, with loading the model."""

    maps: Callable[[np.ndarray], np.ndarray]
    cost_s: float = 0.0


def looked_at(evidence: Evidence, look: Look | None, maker: Maker) -> tuple[Section, ...]:
    """A section, where there is a model and time."""
    images = evidence.images
    if look is None or images is None or not images.there.any():
        return ()
    rows = _chosen(evidence, images)
    what = "what the model looked at"

    def made() -> Gallery | None:
        from hf_finetune.report.predicted.overlay import overlay

        try:
            pixels = images.gather(rows)
            maps = look.maps(pixels)
        except Exception as error:  # noqa: BLE001  a model that is loaded once more may fail in any way: memory is one
            maker.left_out.append(f"{what} ({reason_of(error)})")
            return None
        thumbs = []
        for row, image, heat in zip(map(int, rows), pixels, maps, strict=True):
            both = np.asarray(overlay(image, heat)).transpose(2, 0, 1)
            thumbs.append(Thumb(evidence.names[row], thumbnail(both, _SIDE), _said(evidence, row)))
        return Gallery(
            "The image, and where it looked",
            tuple(thumbs),
            "Those that it is farthest off about come first.",
            wide=True,
        )

    gallery = maker.if_time(what, look.cost_s, made)
    return () if gallery is None else (Section("What it looked at", (_TEXT,), (gallery,)),)


def _chosen(evidence: Evidence, images: Images) -> np.ndarray:
    """Rows int64: the worst, then some of the best, evenly over all of them."""
    words = evidence.words
    errors = np.array([words.error(dict(zip(evidence.columns, line, strict=True))) for line in evidence.lines])
    order = np.argsort(-errors, kind="stable")
    order = order[images.there[order]]
    worst = order[errors[order] > 0][:WORST]
    rest = np.sort(order[len(worst) :][errors[order[len(worst) :]] <= np.median(errors)])
    even = np.unique(np.linspace(0, len(rest) - 1, min(RIGHT, len(rest))).astype(np.int64)) if len(rest) else []
    return np.concatenate([worst, rest[even]]).astype(np.int64)


def _said(evidence: Evidence, row: int) -> tuple[str, ...]:
    told = zip(evidence.columns, evidence.lines[row], strict=True)
    return tuple(
        short(f"{column}: {cell}", 80) for column, cell in told if column.endswith(("label", "labels", "predicted"))
    )[:4]
