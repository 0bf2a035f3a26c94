"""Images that are copies of each other, whatever was done to them: re-encoded, resized, cropped a little, mirrored.

The nearest neighbours of an 8 × 8 grey picture are candidates; what is left after two looks at them laid over each
other (alignment.py), the second of which reads the stored pixels, is a copy.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import blake2b
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from hf_finetune.doctor.alignment import Overlap, lay_over
from hf_finetune.doctor.looks import small_grey

_SMALL = 8  # side of the picture that neighbours are looked for by
_FLAT = 2.0  # grey levels of deviation; below, an image is of one colour and like all others of that kind
_BLOCK_ROWS, _BLOCK_COLUMNS = 512, 8_192  # similarities that are held at once: 16 MB
_NEIGHBOURS = 2
_LIKE_ENOUGH = 0.9  # correlation of 8 × 8 pictures; a crop by 5 % keeps .93 and more
# Coarse: correlation at 24 × 24. Fine: of gradients at 96 × 96, which tells another photo of the same thing apart; a
# crop by 5 % has .89 and more, other TrashNet photos that align as well at most .88.
_COARSE, _COARSE_ROUNDS = 0.93, ((12, 6), (24, 4))
_FINE, _FINE_ROUNDS = 0.885, ((48, 4), (96, 4))
_MOST_CHANGE, _LEAST_SHARED = 0.12, 0.8
_PAIRS_AT_ONCE = 128
Rounds = tuple[tuple[int, int], ...]
FINE_SIDE = 96  # of the pictures that the fine look is at

Gather = Callable[[np.ndarray], np.ndarray]


class Pair(NamedTuple):
    """Rows `first` < `second`, how alike they are once laid over each other (0 to 1), and whether mirrored."""

    first: int
    second: int
    score: float
    mirrored: bool


@dataclass(frozen=True)
class Candidates:
    """`first`, `second` int64 [P], `mirrored` bool [P]."""

    first: np.ndarray
    second: np.ndarray
    mirrored: np.ndarray

    def take(self, which: np.ndarray) -> Candidates:
        """Some of them."""
        return Candidates(self.first[which], self.second[which], self.mirrored[which])


def equal_pictures(grey: np.ndarray, gather: Gather) -> list[list[int]]:
    """Groups of rows whose stored pixels are the same, two or more each, in order."""
    alike: defaultdict[bytes, list[int]] = defaultdict(list)
    for row, picture in enumerate(grey):
        alike[blake2b(picture.tobytes(), digest_size=16).digest()].append(row)
    groups: list[list[int]] = []
    for rows in (rows for rows in alike.values() if len(rows) > 1):
        by_pixels: defaultdict[bytes, list[int]] = defaultdict(list)
        for row in rows:
            by_pixels[gather(np.array([row])).tobytes()].append(row)
        groups += [group for group in by_pixels.values() if len(group) > 1]
    return sorted(groups)


def near_pairs(grey: np.ndarray, sharp: Gather, left_out: np.ndarray) -> list[Pair]:
    """Copies among rows with pictures `grey` uint8 [N, 24, 24]; `sharp` gives pixels uint8 [n, 3, H, W] of at least
    FINE_SIDE; rows of `left_out` bool [N] are not compared (all but one of equal ones, tiny images).
    """
    blocks = (grey[start : start + _BLOCK_ROWS] for start in range(0, len(grey), _BLOCK_ROWS))
    deviation = [block.std(axis=(1, 2)) for block in blocks]  # at once it would be float64 of all
    rows = np.flatnonzero(~left_out & (np.concatenate([*deviation, np.zeros(0)]) >= _FLAT))
    if len(rows) < 2:
        return []
    found = _candidates(grey, rows)
    if not len(found.first):
        return []
    coarse = _overlaps(found, lambda which: torch.from_numpy(grey[which]).float(), None, _COARSE_ROUNDS)
    likely = np.flatnonzero(((coarse.alike >= _COARSE) & (coarse.change <= 2 * _MOST_CHANGE)).numpy())
    found = found.take(likely)
    if not len(likely):
        return []
    fine = _overlaps(found, lambda which: small_grey(sharp(which), FINE_SIDE), coarse.map[likely], _FINE_ROUNDS)
    sure = (fine.edges >= _FINE) & (fine.alike >= _COARSE)
    sure &= (fine.change <= _MOST_CHANGE) & (fine.shared >= _LEAST_SHARED)
    best: dict[tuple[int, int], Pair] = {}
    for at in np.flatnonzero(sure.numpy()):
        pair = Pair(int(found.first[at]), int(found.second[at]), float(fine.edges[at]), bool(found.mirrored[at]))
        before = best.get(pair[:2])
        if before is None or pair.score > before.score:
            best[pair[:2]] = pair
    return sorted(best.values())


def _candidates(grey: np.ndarray, rows: np.ndarray) -> Candidates:
    """Of some rows of `grey` the nearest neighbours of each picture, as it is and mirrored."""
    plain = torch.empty(len(rows), _SMALL * _SMALL)
    for start in range(0, len(rows), _BLOCK_ROWS):
        part = slice(start, start + _BLOCK_ROWS)
        plain[part] = _directions(torch.from_numpy(grey[rows[part]]).float())
    pairs = [(*_nearest(plain, mirrored=flip), flip) for flip in (False, True)]
    first = np.concatenate([np.minimum(one, other) for one, other, _ in pairs])
    second = np.concatenate([np.maximum(one, other) for one, other, _ in pairs])
    flipped = np.concatenate([np.full(len(one), flip) for one, _, flip in pairs])
    unique = np.unique(np.stack([first, second, flipped]), axis=1)
    return Candidates(rows[unique[0]], rows[unique[1]], unique[2].astype(bool))


def _directions(grey: Tensor) -> Tensor:
    """float32 [n, 64] of length 1 and mean 0, of pictures [n, S, S]."""
    flat = functional.adaptive_avg_pool2d(grey[:, None], _SMALL).flatten(1)
    return functional.normalize(flat - flat.mean(1, keepdim=True), dim=1)


def _nearest(rows: Tensor, *, mirrored: bool) -> tuple[np.ndarray, np.ndarray]:
    """Numbers of directions [N, 64] that are alike enough: of each its nearest others, itself left out. The mirror
    image of a picture has its direction, each line backwards."""
    ones, twos = [], []
    # Taken once: blocks that are taken and freed by turns leave holes that the next one does not fit into (0.9 GB for
    # 100,000 rows, glibc 2.36).
    held = torch.empty(_BLOCK_ROWS * _BLOCK_COLUMNS)
    for start in range(0, len(rows), _BLOCK_ROWS):
        block = rows[start : start + _BLOCK_ROWS]
        if mirrored:
            block = block.view(-1, _SMALL, _SMALL).flip(2).flatten(1)
        best = torch.full((len(block), 0), -1.0)
        where = torch.zeros((len(block), 0), dtype=torch.int64)
        for left in range(0, len(rows), _BLOCK_COLUMNS):
            columns = rows[left : left + _BLOCK_COLUMNS]
            similar = held[: len(block) * len(columns)].view(len(block), len(columns))
            torch.mm(block, columns.T, out=similar)
            own = torch.arange(start, start + len(block)) - left
            here = (own >= 0) & (own < similar.shape[1])
            similar[here.nonzero()[:, 0], own[here]] = -1.0
            top, at = similar.topk(min(_NEIGHBOURS, similar.shape[1]), dim=1)
            best, where = torch.cat([best, top], 1), torch.cat([where, at + left], 1)
        best, kept = best.topk(min(_NEIGHBOURS, best.shape[1]), dim=1)
        row, place = (best >= _LIKE_ENOUGH).nonzero(as_tuple=True)
        ones.append((row + start).numpy())
        twos.append(where.gather(1, kept)[row, place].numpy())
    return np.concatenate(ones or [np.zeros(0, np.int64)]), np.concatenate(twos or [np.zeros(0, np.int64)])


def _overlaps(
    found: Candidates,
    picture: Callable[[np.ndarray], Tensor],
    start: Tensor | None,
    rounds: Rounds,
) -> Overlap:
    parts = []
    for at in range(0, len(found.first), _PAIRS_AT_ONCE):
        some = found.take(np.arange(at, min(at + _PAIRS_AT_ONCE, len(found.first))))
        second = picture(some.second)
        flipped = torch.from_numpy(some.mirrored)
        second[flipped] = second[flipped].flip(2)
        own = None if start is None else start[at : at + _PAIRS_AT_ONCE]
        parts.append(lay_over(picture(some.first), second, own, rounds))
    return Overlap.joined(parts)
