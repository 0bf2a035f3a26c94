"""Invented alphabets: every character is a few pen strokes that a random walk of the pen made up.

Owns a character's plan (the same for every drawing of it) and a drawing's pen path (shaky, slanted, never the same
twice). Does not own pixels: `draw.py` puts them on a canvas. Nothing here knows any real writing, digits included; a
random pen may well draw a circle or a bar, as every alphabet does.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

POINTS_PER_SEGMENT = 9


@dataclass(frozen=True)
class Character:
    """Strokes of pen segments. Each array has one row a segment: length, bend (radians over the segment), corner
    (radians turned before it). `starts` are [x, y] in units of the segment length; `headings` are radians."""

    starts: tuple[tuple[float, float], ...]
    headings: tuple[float, ...]
    segments: tuple[np.ndarray, ...]


def invent(seed: int, number: int) -> Character:
    """The character that (seed, number) stands for: one to three strokes of one to four segments."""
    rng = np.random.default_rng([seed, number])
    count = int(rng.choice([1, 2, 3], p=[0.5, 0.35, 0.15]))
    starts, headings, strokes = [], [], []
    for place in range(count):
        segments = int(rng.integers(2 if count == 1 else 1, 6 - count))
        length = rng.uniform(0.5, 1.5, segments)
        bend = np.where(
            rng.random(segments) < 0.35, 0.0, rng.uniform(0.5, 4.5, segments) * rng.choice([-1, 1], segments)
        )
        corner = np.where(
            rng.random(segments) < 0.5, 0.0, rng.uniform(0.6, 2.6, segments) * rng.choice([-1, 1], segments)
        )
        starts.append((0.0, 0.0) if place == 0 else tuple(rng.uniform(-0.8, 0.8, 2)))
        headings.append(float(rng.uniform(0, 2 * np.pi)))
        strokes.append(np.stack([length, bend, corner], axis=1))
    return Character(tuple(starts), tuple(headings), tuple(strokes))


def write(character: Character, rng: np.random.Generator, shake: float) -> list[np.ndarray]:
    """One drawing: a path [points, 2] for each stroke, fitted into [-1, 1] squared by its longer side.

    `shake` is the standard deviation of bends and corners in radians; lengths vary by half of it, relative.
    """
    paths = []
    anchor = np.zeros(2)
    for start, heading, segments in zip(character.starts, character.headings, character.segments, strict=True):
        noise = rng.normal(0, shake, segments.shape) * (0.5, 1.0, 1.0)
        length = segments[:, 0] * np.exp(noise[:, 0])
        bend = segments[:, 1] * (1 + 0.5 * noise[:, 1]) + 0.5 * noise[:, 1]
        corner = segments[:, 2] + noise[:, 2]
        turns = np.repeat(bend / POINTS_PER_SEGMENT, POINTS_PER_SEGMENT)
        turns[::POINTS_PER_SEGMENT] += corner
        angles = heading + rng.normal(0, 0.5 * shake) + np.cumsum(turns)
        steps = np.repeat(length / POINTS_PER_SEGMENT, POINTS_PER_SEGMENT)
        path = np.zeros((len(angles) + 1, 2))
        np.cumsum(steps * np.cos(angles), out=path[1:, 0])
        np.cumsum(steps * np.sin(angles), out=path[1:, 1])
        if paths:  # later strokes start relative to the middle of the first, as a crossbar does
            path += anchor + np.asarray(start) + rng.normal(0, 0.25 * shake, 2)
        else:
            anchor = path.mean(axis=0)
        paths.append(path)
    return _fit(paths, rng)


def _fit(paths: list[np.ndarray], rng: np.random.Generator) -> list[np.ndarray]:
    """Slant, rotate and stretch as a hand does, then centre and scale so that the longer side spans [-1, 1]."""
    angle, slant = rng.normal(0, 0.12), rng.normal(0, 0.18)
    stretch = np.exp(rng.normal(0, 0.12))
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    matrix = turn @ np.array([[stretch, slant], [0.0, 1 / stretch]])
    moved = [path @ matrix.T for path in paths]
    points = np.concatenate(moved)
    low, high = points.min(axis=0), points.max(axis=0)
    half = max(float((high - low).max()) / 2, 1e-6)
    return [(path - (low + high) / 2) / half for path in moved]
