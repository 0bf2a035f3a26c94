"""Draws the labelled images that the starter backbone is pretrained on: invented characters, letters, shapes, textures.

Owns what is drawn and how it looks. Does not own training (`pretrain.py`). No digit is ever drawn: `LETTERS` holds no
character of Unicode category N, and the other kinds know no writing at all.

An image is a pure function of (seed, number), whoever draws it and in whatever order. Python's Pillow and numpy only.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, final

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from dev.starter.strokes import Character, invent, write

SIDE = 32
CANVAS = 64  # drawn at twice the side and averaged down: smooth edges

# What Pillow's built-in font (Aileron) draws and a person tells apart at 32 pixels. No digits.
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabdefghijkmnpqrtuy!#$%&()*+/<=>?@[]{}~©«±»…™"
SHAPES = (
    "disc", "ring", "square", "frame", "triangle", "pentagon", "hexagon", "star", "cross", "crescent", "arrow",
    "half disc", "bar", "diamond", "sector", "two discs",
)  # fmt: skip
COLOURS = {
    "red": (0.97, 1.04), "orange": (0.06, 0.11), "yellow": (0.14, 0.18), "green": (0.27, 0.40), "blue": (0.55, 0.68),
    "purple": (0.74, 0.88),
}  # fmt: skip  # ranges of hue, from 0 to 1
TEXTURES = tuple(
    [f"grating {turn * 30} degrees, {pitch}" for turn in range(6) for pitch in ("fine", "medium", "coarse")]
    + [f"{name}, {pitch}" for name in ("checks", "noise", "dots", "rings", "rays") for pitch in ("fine", "coarse")]
    + ["ramp", "blotch"]
)
_PITCH = {"fine": 4.5, "medium": 7.5, "coarse": 13.0}  # pixels of the period at 32 × 32

Kind = Literal["stroke", "letter", "shape", "texture"]
SHARES: dict[Kind, float] = {"stroke": 0.72, "letter": 0.12, "shape": 0.10, "texture": 0.06}


@final
@dataclass(frozen=True)
class Drawings:
    """An endless labelled dataset: image `number` is the same for the same `seed` and `characters`."""

    seed: int
    characters: int = 640

    @property
    def names(self) -> list[str]:
        """Class names in order of their label."""
        return (
            [f"stroke {number}" for number in range(self.characters)]
            + [f"letter {letter}" for letter in LETTERS]
            + [f"{colour} {shape}" for shape in SHAPES for colour in COLOURS]
            + [f"texture {texture}" for texture in TEXTURES]
        )

    def draw(self, number: int) -> tuple[np.ndarray, int]:
        """uint8 [32, 32, 3] and its label."""
        rng = np.random.default_rng([self.seed, number])
        kind = str(rng.choice(list(SHARES), p=list(SHARES.values())))
        if kind == "stroke":
            pick = int(rng.integers(self.characters))
            return paint(_stroke_mask(_character(self.seed, pick), rng), rng), pick
        if kind == "letter":
            pick = int(rng.integers(len(LETTERS)))
            return paint(_letter_mask(LETTERS[pick], rng), rng), self.characters + pick
        first = self.characters + len(LETTERS)
        if kind == "shape":
            shape, colour = int(rng.integers(len(SHAPES))), int(rng.integers(len(COLOURS)))
            ink = _colour(rng, *list(COLOURS.values())[colour])
            return paint(_shape_mask(SHAPES[shape], rng), rng, ink), first + shape * len(COLOURS) + colour
        pick = int(rng.integers(len(TEXTURES)))
        return paint(_texture_mask(TEXTURES[pick], rng), rng), first + len(SHAPES) * len(COLOURS) + pick

    def batch(self, first: int, count: int) -> tuple[np.ndarray, np.ndarray]:
        """Images `first` to `first + count - 1`: uint8 [count, 3, 32, 32] and int64 [count]."""
        drawn = [self.draw(number) for number in range(first, first + count)]
        pixels = np.stack([image for image, _ in drawn]).transpose(0, 3, 1, 2)
        return np.ascontiguousarray(pixels), np.array([label for _, label in drawn], dtype=np.int64)


# --------------------------------------------------------------------------------------------------------------- masks
# A mask is a Pillow "L" image of 64 × 64 in which 255 is ink.


@lru_cache(maxsize=4096)
def _character(seed: int, number: int) -> Character:
    return invent(seed, number)


@lru_cache(maxsize=256)
def _glyph(letter: str) -> Image.Image:
    """The letter, 64 pixels tall in Pillow's built-in font, cut to its ink. ImportError where Pillow lacks FreeType."""
    font = ImageFont.load_default(size=64)
    left, top, right, bottom = font.getbbox(letter)
    image = Image.new("L", (round(right - left) + 4, round(bottom - top) + 4))
    ImageDraw.Draw(image).text((2 - left, 2 - top), letter, fill=255, font=font)
    return image


def _stroke_mask(character: Character, rng: np.random.Generator) -> Image.Image:
    half = CANVAS / 2 * rng.uniform(0.62, 0.97)
    centre = CANVAS / 2 + rng.normal(0, 0.3, 2) * (CANVAS / 2 - half)
    width = int(rng.integers(3, 11))
    mask = Image.new("L", (CANVAS, CANVAS))
    pen = ImageDraw.Draw(mask)
    for path in write(character, rng, shake=rng.uniform(0.05, 0.3)):
        points = path * (half - width / 2) + centre
        pen.line(points.ravel().tolist(), fill=255, width=width)
        if width > 4:  # round ends; the bends of thick lines stay a little frayed
            for x, y in (points[0], points[-1]):
                pen.circle((x, y), width / 2, fill=255)
    return mask


def _letter_mask(letter: str, rng: np.random.Generator) -> Image.Image:
    glyph = _glyph(letter)
    size = CANVAS * rng.uniform(0.55, 0.95)
    scale = max(glyph.size) / size
    angle, slant, stretch = rng.normal(0, 0.15), rng.normal(0, 0.2), np.exp(rng.normal(0, 0.15))
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    matrix = scale * turn @ np.array([[stretch, slant], [0.0, 1 / stretch]])
    middle = np.array(glyph.size) / 2 - matrix @ (CANVAS / 2 + rng.normal(0, 2, 2))
    (a, b), (d, e) = matrix
    mask = glyph.transform(
        (CANVAS, CANVAS), Image.Transform.AFFINE, (a, b, middle[0], d, e, middle[1]), Image.Resampling.BILINEAR
    )
    thicken = rng.random()
    return mask.filter(ImageFilter.MaxFilter(3)) if thicken < 0.3 else mask


def _shape_mask(shape: str, rng: np.random.Generator) -> Image.Image:
    mask = Image.new("L", (CANVAS, CANVAS))
    pen = ImageDraw.Draw(mask)
    radius = CANVAS / 2 * rng.uniform(0.5, 0.9)
    centre = CANVAS / 2 + rng.normal(0, 3, 2)
    box = [*(centre - radius), *(centre + radius)]
    start = rng.uniform(0, 2 * np.pi)
    corners = {"triangle": 3, "square": 4, "pentagon": 5, "hexagon": 6}
    if shape in corners:
        pen.polygon(_polygon(centre, radius, start, np.ones(corners[shape])), fill=255)
    elif shape == "star":
        pen.polygon(_polygon(centre, radius, start, np.tile([1.0, 0.4], 5)), fill=255)
    elif shape == "frame":
        pen.polygon(_polygon(centre, radius, start, np.ones(4)), fill=255)
        pen.polygon(_polygon(centre, radius * 0.65, start, np.ones(4)), fill=0)
    elif shape in ("cross", "arrow", "bar", "diamond"):
        pen.polygon(_outline(shape, centre, radius, start), fill=255)
    elif shape == "half disc":
        pen.pieslice(box, np.degrees(start), np.degrees(start) + 180, fill=255)
    elif shape == "sector":
        pen.pieslice(box, np.degrees(start), np.degrees(start) + 290, fill=255)
    elif shape == "two discs":
        offset = radius * 0.55 * np.array([np.cos(start), np.sin(start)])
        for place in (centre - offset, centre + offset):
            pen.circle(tuple(place), radius * 0.45, fill=255)
    else:  # disc, ring, crescent
        pen.ellipse(box, fill=255)
        if shape != "disc":
            offset = radius * (0.45 if shape == "crescent" else 0.0) * np.array([np.cos(start), np.sin(start)])
            pen.circle(tuple(centre + offset), radius * (0.85 if shape == "crescent" else 0.6), fill=0)
    return mask


def _polygon(centre: np.ndarray, radius: float, start: float, spokes: np.ndarray) -> list[float]:
    angles = start + np.arange(len(spokes)) * 2 * np.pi / len(spokes)
    points = np.stack([np.cos(angles), np.sin(angles)], axis=1) * spokes[:, None] * radius + centre
    return points.ravel().tolist()


def _outline(shape: str, centre: np.ndarray, radius: float, start: float) -> list[float]:
    outlines = {
        "cross": [(1, 0.3), (0.3, 0.3), (0.3, 1), (-0.3, 1), (-0.3, 0.3), (-1, 0.3), (-1, -0.3), (-0.3, -0.3),
                  (-0.3, -1), (0.3, -1), (0.3, -0.3), (1, -0.3)],
        "arrow": [(1, 0), (0.2, 0.75), (0.2, 0.25), (-1, 0.25), (-1, -0.25), (0.2, -0.25), (0.2, -0.75)],
        "bar": [(1, 0.22), (-1, 0.22), (-1, -0.22), (1, -0.22)],
        "diamond": [(1, 0), (0, 0.55), (-1, 0), (0, -0.55)],
    }  # fmt: skip
    turn = np.array([[np.cos(start), -np.sin(start)], [np.sin(start), np.cos(start)]])
    return (np.array(outlines[shape]) @ turn.T * radius + centre).ravel().tolist()


def _texture_mask(texture: str, rng: np.random.Generator) -> Image.Image:
    name, _, pitch = texture.partition(", ")
    period = 2 * _PITCH.get(pitch, 8.0) * np.exp(rng.normal(0, 0.08))
    y, x = np.mgrid[0:CANVAS, 0:CANVAS].astype(np.float64)
    phase_x, phase_y = rng.uniform(0, 2 * np.pi, 2)
    tilt = rng.normal(0, 0.07)
    if name.startswith("grating"):
        angle = np.radians(float(name.split()[1])) + tilt
        field = np.sin(2 * np.pi / period * (x * np.cos(angle) + y * np.sin(angle)) + phase_x)
    elif name in ("checks", "dots"):
        u, v = x * np.cos(tilt) - y * np.sin(tilt), x * np.sin(tilt) + y * np.cos(tilt)
        waves = np.sin(2 * np.pi * u / period + phase_x), np.sin(2 * np.pi * v / period + phase_y)
        field = 4 * waves[0] * waves[1] if name == "checks" else 4 * (waves[0] + waves[1] - 0.9)
    elif name in ("rings", "rays"):
        dx, dy = x - rng.uniform(16, 48), y - rng.uniform(16, 48)
        spokes = 12 if pitch == "fine" else 5
        field = (
            np.sin(2 * np.pi * np.hypot(dx, dy) / period + phase_x)
            if name == "rings"
            else 3 * np.sin(spokes * np.arctan2(dy, dx) + phase_x)
        )
    elif name == "noise":
        cells = max(2, round(2 * CANVAS / period))
        grain = Image.fromarray(rng.integers(0, 256, (cells, cells), dtype=np.uint8))
        return grain.resize((CANVAS, CANVAS), Image.Resampling.BILINEAR)
    elif name == "ramp":
        field = ((x - 32) * np.cos(phase_x) + (y - 32) * np.sin(phase_x)) / 32
    else:  # blotch
        field = 2 * np.exp(-((x - 32 - 8 * np.cos(phase_x)) ** 2 + (y - 32 - 8 * np.sin(phase_y)) ** 2) / 400) - 1
    return Image.fromarray((np.clip(field * 0.5 + 0.5, 0, 1) * 255).astype(np.uint8))


# --------------------------------------------------------------------------------------------------------------- paint


def paint(mask: Image.Image, rng: np.random.Generator, ink: np.ndarray | None = None) -> np.ndarray:
    """uint8 [32, 32, 3]: ink on a ground through the mask, then what a poor camera does to it.

    A third is light on black at 8 to 12 pixels, scaled up: small grey scans are what people try first.
    """
    plain = ink is None and rng.random() < 0.35
    if plain or rng.random() < 0.25:
        low = 8 if plain and rng.random() < 0.7 else int(rng.integers(8, 17))
        how = Image.Resampling.BILINEAR if rng.random() < 0.7 else Image.Resampling.BICUBIC
        mask = mask.resize((low, low), Image.Resampling.BOX).resize((SIDE, SIDE), how)
    else:
        mask = mask.reduce(CANVAS // SIDE)
        if rng.random() < 0.2:
            mask = mask.filter(ImageFilter.GaussianBlur(rng.uniform(0.4, 1.2)))
    cover = np.asarray(mask, dtype=np.float32)[:, :, None] / 255
    ground = np.zeros(3, dtype=np.float32)
    if plain:
        ink = np.full(3, rng.uniform(0.85, 1.0), dtype=np.float32)
    else:
        ink, ground = _ink_and_ground(rng, ink)
    image = ground + (ink - ground) * cover
    if not plain and rng.random() < 0.5:
        image = image + rng.normal(0, rng.uniform(0.01, 0.08), image.shape)
    return (np.clip(image, 0, 1) * 255 + 0.5).astype(np.uint8)


def _ink_and_ground(rng: np.random.Generator, ink: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """An ink and a ground at least 0.3 apart in brightness; half of the time grey on grey."""
    if ink is None:
        ink = np.full(3, rng.random(), dtype=np.float32) if rng.random() < 0.5 else _colour(rng, 0.0, 1.0)
    light = float(ink.mean())
    target = light + rng.uniform(0.3, 1.0) * (1 if rng.random() < 0.5 else -1)
    if not 0 <= target <= 1:
        target = 0.0 if light > 0.5 else 1.0
    ground = np.full(3, target, dtype=np.float32)
    if rng.random() < 0.4:
        ground = np.clip(ground + rng.normal(0, 0.15, 3), 0, 1)
    return ink, ground.astype(np.float32)


def _colour(rng: np.random.Generator, low: float, high: float) -> np.ndarray:
    """RGB in [0, 1] of a hue in [low, high], well saturated. HSV formula: Smith 1978, in its one-line form."""
    hue, saturation, value = rng.uniform(low, high), rng.uniform(0.6, 1.0), rng.uniform(0.6, 1.0)
    sector = (np.array([5.0, 3.0, 1.0]) + hue * 6) % 6
    rgb = value - value * saturation * np.clip(np.minimum(sector, 4 - sector), 0, 1)
    return rgb.astype(np.float32)
