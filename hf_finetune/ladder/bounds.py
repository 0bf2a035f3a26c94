"""What of a rung is worth its time: bounds that were measured, each with its measurement."""

from __future__ import annotations

from dataclasses import dataclass

# A full rung of fewer passes over the data, or in time that the cached one still needs, gained nothing over more of the
# cached one (TrashNet, ViT-Tiny, 63 s of full: .896, the same time of cached: .916; two cores, seed 0, 2026-11-23. A
# minute on 500 photos, a quarter of it cached: TrashNet .870, digits .927; all of it: .873 and .946;
# docs/experiments.md, "A minute on 500 photos").
LEAST_FULL_EPOCHS = 4.0
# Full is counted on where so many times its least updates fit behind the cached rung. With just them it was dropped (a
# minute on 500 drawings, two cores: four of four runs of 60 to 75 updates), or its seconds were nobody's where cached
# left fewer than forecast (16 of 60). Twice as many is too strict: with 100 photos 80 gained (the same page and
# section).
SPARE = 4 / 3
# After the cached rung, fewer passes than this are not worth their time (TrashNet, 150 s in all: 1.5 of them gave .936
# after .951; three, on held-out photos, 1.7 points more with half of the patches, .4 with a quarter; 2026-11-25).
LEAST_EPOCHS_AFTER_CACHED = 3.0
# Passes after which the cached rung levels off, more where images are few: so many images in all, in at most so many
# passes. On held-out photos (docs/experiments.md, "The cached rung on few photos"): 100 images, 4 passes .750, 12 .760,
# 30 .775 (the probe .766); 500, 6 passes .898, 12 .917 (the probe .886).
CACHED_EPOCHS = 4.0
CACHED_IMAGES = 6_000
LARGEST_EPOCHS = 30.0
ALONE = 2.0  # times as many of the cached rung alone
CACHED_EVALUATIONS = 3
# Shorter rungs lose against what they start from (docs/experiments.md, "The shortest cached rung"): of 65 runs of at
# most 60 updates 18 were kept, and validation fell by .6 to 1.8 points on average; of 32 of 60 to 100 updates 22, and
# it rose by .3 to 2.7.
LEAST_UPDATES = 60
FEWEST_UPDATES = 10  # of any rung: without a probe there is nothing to lose
# Where time allows fewer passes than this with the planned share of patches, more passes with fewer patches do better
# (same runs, 22 s of full: a quarter .893, half .875).
FEW_EPOCHS = 3.0
SHORT_KEEP = 0.25
# An update costs at least this many bare forward passes of what is kept: forward, and the gradient of the inputs.
LEAST_PASSES = 2.0
# Updates may take that many times what was measured before evaluations on the way are at their cost (of 17 to 59
# forecast in five runs, 83 to 120 % were done in their time; 100 photos, two cores, 2026-11-25).
SLOWER = 1.1


@dataclass(frozen=True)
class Limits:
    """Of a rung under a budget: at most so many steps and evaluations, of so many seconds each; with `least_s` seconds
    or fewer nothing is measured."""

    steps: int
    evaluation_s: float
    most_evaluations: int
    least_s: float = 0.0

    def evaluations(self, spare_s: float) -> int:
        """How many of them, the last with them, where that many seconds are left for the others."""
        paid = int(max(0.0, spare_s) / max(self.evaluation_s, 1e-9))
        return 1 + min(self.most_evaluations - 1, paid)
