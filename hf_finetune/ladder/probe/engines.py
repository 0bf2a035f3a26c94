"""The engine of a run's pass over the frozen backbone: the choice, and where it is kept.

The choice holds for the whole run: features of two engines are never mixed, and a run that goes on uses the engine that
it began with.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hf_finetune.backbones.engines.choose import LARGEST_ERROR, SAMPLE, Offer, agreement, choose, evenly
from hf_finetune.backbones.engines.engine import EngineRefusedError, Outputs
from hf_finetune.ladder.probe.extractor import FeatureExtractor
from hf_finetune.ladder.probe.feature_cache import SplitFeatures
from hf_finetune.ladder.probe.heads import Head
from hf_finetune.types import PixelRows, Split

logger = logging.getLogger(__name__)
PASS = "frozen pass"
SPLITS: tuple[Split, ...] = ("validation", "train")


class Gone:
    """Stands where nothing may be run: all features are expected in the cache."""

    name, identity, device = "none", "", torch.device("cpu")

    def __call__(self, inputs: Tensor) -> Outputs:
        """Raises EngineRefusedError."""
        raise EngineRefusedError(f"features of {len(inputs)} images are not in the cache")


@dataclass(frozen=True)
class PassEngine:
    """The chosen engine of a pass, which takes `image_s` seconds an image; `eager_s`: the torch model, where both were
    measured. `figures` go into run.json; `sample`: features of the same images by the torch model and by the engine,
    both [n, d], where the engine is another."""

    extractor: FeatureExtractor
    identity: str
    image_s: float
    figures: Mapping[str, Any] = field(default_factory=dict)
    sample: tuple[Tensor, Tensor] | None = None
    eager_s: float | None = None

    def compare_answers(self, head: Head) -> Mapping[str, Any]:
        """The figures, with what the head says of the sample by both engines; logs it. Features alone are no answer."""
        if self.sample is None:
            return self.figures
        one, other = (torch.from_numpy(head.logits(each.numpy())) for each in self.sample)
        rows, differ, largest = agreement(one, other)
        logger.info(
            "%s: of %d photos run by both engines the head answers %d otherwise; logits differ by %.1f %% at most.",
            *(PASS, rows, differ, 100 * largest),
        )
        return {**self.figures, "answers_compared": rows, "answers_that_differ": differ, "logits_differ_by": largest}


def choose_engine(
    extractor: FeatureExtractor,
    wanted: str,
    rows: Mapping[Split, PixelRows],
    offer: Offer,
    image_s: float,
    missing: int,
) -> PassEngine:
    """The engine of the pass over `rows`, of which `missing` images are still to be run; the reason is logged.

    `extractor` is the torch model's, which takes `image_s` seconds an image. Raises ModelError where `wanted`
    (`model.engine`) insists on an engine that cannot run it.
    """
    if offer.engine is None and not offer.reason and wanted != "graph":
        return PassEngine(extractor, "", image_s)

    def batches(count: int) -> list[Tensor]:
        return [extractor.inputs(pixels) for _, _, pixels in some_pixels(rows, count, extractor.batch)]

    choice = choose(wanted, PASS, extractor.engine, offer, missing, batches)
    if choice.text:
        logger.info("%s.", choice.text)
    sample = None
    if choice.sample is not None:
        one, other = choice.sample
        if one.features is not None and other.features is not None:
            sample = (one.features, other.features)
    engine = choice.engine
    chosen = replace(extractor, engine=engine)
    return PassEngine(chosen, engine.identity, choice.chosen_s or image_s, choice.figures, sample, choice.eager_s)


def check_kept(
    extractor: FeatureExtractor, kept: Mapping[Split, SplitFeatures], rows: Mapping[Split, PixelRows], identity: str
) -> PassEngine | None:
    """Features that another engine left in an earlier run, compared with the torch model's on a sample; None where they
    are further apart than a choice allows."""
    parts, started = some_pixels(rows, SAMPLE, extractor.batch), time.perf_counter()
    expected = torch.cat([extractor(pixels)[0] for _, _, pixels in parts])
    eager_s = (time.perf_counter() - started) / len(expected)
    found = torch.cat([torch.from_numpy(np.array(kept[split].features[here])) for split, here, _ in parts])
    error = float((found - expected).norm() / expected.norm().clamp_min(1e-12))
    apart = f"{100 * error:.1f} % from the torch model's"
    why, good = (
        f"{PASS}: features that {identity} left in an earlier run; they differ by {apart}",
        error <= LARGEST_ERROR,
    )
    logger.info("%s%s.", why, "" if good else f", more than {100 * LARGEST_ERROR:g} %: not used")
    figures = {"name": identity, "why": why, "images": len(expected), "features_differ_by": error}
    return PassEngine(extractor, identity, 0.0, figures, (expected, found), eager_s) if good else None


def some_pixels(rows: Mapping[Split, PixelRows], count: int, batch: int) -> list[tuple[Split, np.ndarray, np.ndarray]]:
    """Batches of at least `count` images, with their split and row numbers: validation's, which no head is fitted on,
    then training's; of both, rows that lie evenly apart."""
    wanted, found = max(count, min(batch, SAMPLE)), []
    for split in SPLITS:
        there = rows.get(split)
        if there is None or not len(there) or wanted <= 0:
            continue
        chosen = evenly(wanted, len(there))
        pieces = [chosen[start : start + batch] for start in range(0, len(chosen), batch)]
        found += [(split, piece, there.gather(piece)) for piece in pieces]
        wanted -= len(chosen)
    return found


def recorded(path: Path | None) -> str | None:
    """The identity of the engine that this run began with; None where nothing is written."""
    try:
        return None if path is None else str(json.loads(path.read_text(encoding="utf-8"))["engine"])
    except (OSError, ValueError, LookupError, TypeError):
        return None


def record(path: Path | None, identity: str, figures: Mapping[str, Any]) -> None:
    """Keep the engine in the run folder; a disk that cannot be written does not end the run here."""
    if path is not None:
        try:
            path.write_text(json.dumps({"engine": identity, "figures": dict(figures)}), encoding="utf-8")
        except OSError as error:
            logger.info("%s cannot be written (%s).", path, error)
