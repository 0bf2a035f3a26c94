"""What rounding may change: how far two runs of the same weights on the same pixels may be apart. Torch-free."""

from __future__ import annotations

import numpy as np

# The share of the numbers' range by which they may differ. With the same kernels: float additions in another order,
# such as W x + B A x against (W + B A) x. With others: another kind of device; bitsandbytes' 4-bit weights, which stock
# code repacks for a bfloat16 kernel on CPUs with AVX512-BF16 and this package keeps as they were trained. In between,
# one model run in two ways in the types of training: bfloat16 and int8 round after each of some hundred products.
SAME_KERNELS, ANOTHER_ORDER, OTHER_KERNELS = 1e-3, 1e-2, 5e-2
# Of the largest number: what float32 rounds in any case, where all numbers are alike and their range says nothing.
FLOAT32 = 1e-6


def difference(expected: np.ndarray, found: np.ndarray, tolerance: float) -> tuple[float, float]:
    """The largest difference of two arrays of one shape, and what is allowed: `tolerance` times `expected`'s range, and
    what float32 rounds.

    A difference may be NaN; ask `not difference <= allowed`.
    """
    allowed = tolerance * float(np.ptp(expected)) + FLOAT32 * float(np.abs(expected).max())
    return float(np.abs(found - expected).max()), allowed
