"""How long the cached rung is where nothing limits it: for its pace and for a forecast of it. Light."""

from __future__ import annotations

# Passes after which the cached rung levels off, more where images are few: so many images in all, in at most so many
# passes. On held-out photos (docs/experiments.md, "The cached rung on few photos"): 100 images, 4 passes .750, 12 .760,
# 30 .775 (the probe .766); 500, 6 passes .898, 12 .917 (the probe .886).
CACHED_EPOCHS = 4.0
CACHED_IMAGES = 6_000
LARGEST_EPOCHS = 30.0
CACHED_EVALUATIONS = 3
FEWEST_UPDATES = 10  # of any rung: without a probe there is nothing to lose
