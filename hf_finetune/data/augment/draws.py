"""Random numbers that belong to a row, not to a position in a stream.

Owns: the counter-based generator behind every augmentation. A number depends only on (seed, epoch, row, stream,
counter), so results do not change with the micro-batch, the number of ranks, a resumed run or the device. Does not own
what the numbers are used for (geometry.py, randaugment.py, erase.py, mix.py).
"""

from __future__ import annotations

import numpy as np

# Weyl increment and finaliser of SplitMix64: Steele, Lea and Flood, "Fast splittable pseudorandom number generators"
# (OOPSLA 2014); the two multipliers are Stafford's variant 13, as in Vigna's splitmix64.c.
_GAMMA = np.uint64(0x9E3779B97F4A7C15)
_FIRST = np.uint64(0xBF58476D1CE4E5B9)
_SECOND = np.uint64(0x94D049BB133111EB)
_WORD = (1 << 64) - 1


def _mix(word: np.ndarray) -> np.ndarray:
    """SplitMix64's finaliser, a bijection of uint64 [...]."""
    word = (word ^ (word >> np.uint64(30))) * _FIRST
    word = (word ^ (word >> np.uint64(27))) * _SECOND
    return word ^ (word >> np.uint64(31))


def uniform(seed: int, epoch: int, rows: np.ndarray, stream: int, count: int) -> np.ndarray:
    """float64 [B, count] in [0, 1) for `rows` int64 [B]: multiples of 2⁻⁵³.

    The key (seed, epoch, stream, row) is absorbed word by word, each followed by the finaliser; the counter then walks
    SplitMix64's own sequence from there. `stream` separates uses of the same row in the same epoch.
    """
    state = np.zeros(1, dtype=np.uint64)
    for word in (seed, epoch, stream):
        state = _mix((state + _GAMMA) ^ np.uint64(word & _WORD))
    keys = _mix((state + _GAMMA) ^ np.asarray(rows, dtype=np.int64).view(np.uint64))
    counters = np.arange(1, count + 1, dtype=np.uint64) * _GAMMA
    return (_mix(keys[:, None] + counters[None, :]) >> np.uint64(11)).astype(np.float64) * 2.0**-53


def beta(alpha: float, uniforms: np.ndarray) -> np.ndarray:
    """Beta(alpha, alpha) by inverting its distribution function at `uniforms`, same shape, in [0, 1]."""
    from scipy.special import betaincinv

    return np.clip(betaincinv(alpha, alpha, uniforms), 0.0, 1.0)
