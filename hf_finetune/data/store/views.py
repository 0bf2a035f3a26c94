"""How an image becomes a row of the store: squashed whole, exactly as the checkpoint sees it, or only checked.

Each geometry says its row's shape, what of it belongs in a cache key, and draws one image. Does not own files, caches
or processes. Light and picklable (except `Stock`), since worker processes draw.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any, ClassVar, NamedTuple, Protocol

import numpy as np
from PIL import Image

from hf_finetune.preprocess.pixels import UnreadableImage, check_aspect, look_at, open_sized, render, squash
from hf_finetune.preprocess.stock import STOCK_FAILURES, library_words
from hf_finetune.preprocess.value_range import Seen
from hf_finetune.types import PixelStep, Preprocess, ValueRange

Size = tuple[int, int]  # width, height


class Drawn(NamedTuple):
    """A row's pixels, the original's width and height, and how many of its values lay beyond the value range."""

    pixels: np.ndarray
    size: Size
    clipped: int = 0


@dataclass(frozen=True)
class Squash:
    """The whole image at side × side: training rows, from which crops are drawn in original coordinates."""

    side: int
    resample: int
    value_range: ValueRange | None = None
    in_workers: ClassVar[bool] = True

    @property
    def shape(self) -> tuple[int, ...]:
        return (3, self.side, self.side)

    def key(self) -> dict[str, Any]:
        return {"squash": self.side, "resample": self.resample, **_range_key(self.value_range)}

    def draw(self, data: bytes, max_pixels: int) -> Drawn:
        """uint8 [3, side, side] and the original's width and height. Raises UnreadableImage.

        A JPEG much larger than the row is decoded at a fraction, both edges still at least twice the side: 54 to 60 dB
        from the full decode and 2.3 times as fast at 2048 × 1536 (measured 2026-11-23, Pillow 13.0, one core).
        """
        image, size, clipped = open_sized(data, max_pixels, draft_side=2 * self.side, value_range=self.value_range)
        return Drawn(squash(image, self.side, self.resample), size, clipped)


@dataclass(frozen=True)
class Exact:
    """The checkpoint's own output before normalisation: evaluation rows, and features."""

    preprocess: Preprocess
    in_workers: ClassVar[bool] = True

    @property
    def value_range(self) -> ValueRange | None:
        return self.preprocess.value_range

    @property
    def shape(self) -> tuple[int, ...]:
        return (3, self.preprocess.height, self.preprocess.width)

    def key(self) -> dict[str, Any]:
        return {"steps": repr(self.preprocess.steps), "shape": list(self.shape), **_range_key(self.value_range)}

    def draw(self, data: bytes, max_pixels: int) -> Drawn:
        """uint8 [3, height, width] and the original's width and height. Raises UnreadableImage."""
        image, size, clipped = open_sized(data, max_pixels, value_range=self.value_range)
        return Drawn(render(image, self.preprocess), size, clipped)


@dataclass(frozen=True)
class Stock:
    """As `Exact`, through the stock processor itself, in this process: for rules that steps cannot say."""

    preprocess: Preprocess
    renderer: Callable[[Image.Image], np.ndarray]
    in_workers: ClassVar[bool] = False

    @property
    def value_range(self) -> ValueRange | None:
        return self.preprocess.value_range

    @property
    def shape(self) -> tuple[int, ...]:
        return (3, self.preprocess.height, self.preprocess.width)

    def key(self) -> dict[str, Any]:
        # The source text carries a digest of the processor's settings; the pixels are those of today's libraries.
        libraries = {name: version(name) for name in ("transformers", "timm", "torchvision")}
        return {
            "stock": self.preprocess.source,
            "shape": list(self.shape),
            **_range_key(self.value_range),
            **libraries,
        }

    def draw(self, data: bytes, max_pixels: int) -> Drawn:
        """uint8 [3, height, width] and the original's width and height. Raises UnreadableImage."""
        image, size, clipped = open_sized(data, max_pixels, value_range=self.value_range)
        try:
            return Drawn(self.renderer(image), size, clipped)
        except STOCK_FAILURES as error:
            raise UnreadableImage(f"the stock processor fails on it: {library_words(error)}") from error


@dataclass(frozen=True)
class Check:
    """No pixels: finds out, as cheaply as can be, whether the image decodes, and its size.

    A JPEG is decoded at an eighth: all of its bytes are read, so a truncated one is found.
    """

    steps: tuple[PixelStep, ...] = ()
    value_range: ValueRange | None = None
    in_workers: ClassVar[bool] = True

    @property
    def shape(self) -> tuple[int, ...]:
        return (0,)

    def key(self) -> dict[str, Any]:
        return {"check": repr(self.steps), **_range_key(self.value_range)}

    def draw(self, data: bytes, max_pixels: int) -> Drawn:
        """An empty array and the original's width and height. Raises UnreadableImage."""
        _, (width, height), clipped = open_sized(data, max_pixels, draft_side=1, value_range=self.value_range)
        check_aspect(width, height, self.steps)
        return Drawn(np.empty(0, np.uint8), (width, height), clipped)


@dataclass(frozen=True)
class Values:
    """No pixels: which values a high-bit grey image holds, as four float64 (see `seen_of`); NaN for another image."""

    in_workers: ClassVar[bool] = True
    value_range: ClassVar[ValueRange] = (0.0, 1.0)  # any: where rows are only checked, none is refused for want of one

    @property
    def shape(self) -> tuple[int, ...]:
        return (4 * 8,)

    def key(self) -> dict[str, Any]:
        return {"values": 1}

    def draw(self, data: bytes, max_pixels: int) -> Drawn:
        """uint8 [32] and the image's width and height as stored. Raises UnreadableImage."""
        seen, size = look_at(data, max_pixels)
        numbers = (np.nan,) * 4 if seen is None else (seen.low, seen.high, seen.whole, seen.is_float)
        return Drawn(np.array(numbers, np.float64).view(np.uint8), size)


def seen_of(rows: np.ndarray) -> list[Seen]:
    """The high-bit images among rows uint8 [N, 32] of the geometry `Values`."""
    numbers = np.ascontiguousarray(rows).view(np.float64)
    return [Seen(low, high, bool(whole), bool(is_float)) for low, high, whole, is_float in numbers if low == low]


Geometry = Squash | Exact | Stock | Check | Values


def _range_key(value_range: ValueRange | None) -> dict[str, Any]:
    """Nothing for 8-bit images, whose entries from before stay good."""
    return {} if value_range is None else {"value_range": list(value_range)}


class RowShape(Protocol):
    """What the store's files must know of a row: its shape in bytes, and what of it belongs in a cache key."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    def key(self) -> dict[str, Any]: ...


def row_bytes(geometry: RowShape) -> int:
    """Bytes of one stored row."""
    return int(np.prod(geometry.shape))
