"""How long the cached rung is where nothing limits it: for its pace and for a forecast of it. Light."""

# Passes after which the cached rung begins to level off, more where images are few: so many images in all, in at most
# so many passes. On held-out photos (docs/experiments.md, "The cached rung on few photos"): 100 images, 4 passes .750,
# 12 .760, 30 .775 (the probe .766); 500, 6 passes .898, 12 .917 (the probe .886).
CACHED_EPOCHS = 4.0
CACHED_IMAGES = 6_000
LARGEST_EPOCHS = 30.0
# It is looked at so many times meanwhile, and goes on while it gains, for at most so many times as long.
EVALUATIONS = 4
LONGEST = 4.0
USUAL = 1.5  # times as long as it is forecast to be before anything is known of it. Assumption.
FEWEST_UPDATES = 10  # of any rung: without a probe there is nothing to lose


def whole_epochs(rows: int) -> float:
    """Those passes, of so many training rows."""
    return max(CACHED_EPOCHS, min(LARGEST_EPOCHS, CACHED_IMAGES / max(1, rows)))
