"""How an image becomes a row of the store: squashed whole, exactly as the checkpoint sees it, or only checked.

Each geometry says its row's shape, what of it belongs in a cache key, and draws one image. Does not own files, caches
or processes. Light and picklable (except `Stock`), since worker processes draw.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any, ClassVar, Protocol

import numpy as np
from PIL import Image

from hf_finetune.preprocess.pixels import UnreadableImage, check_aspect, open_sized, render, squash
from hf_finetune.preprocess.stock import STOCK_FAILURES, library_words
from hf_finetune.types import PixelStep, Preprocess

Size = tuple[int, int]  # width, height


@dataclass(frozen=True)
class Squash:
    """The whole image at side × side: training rows, from which crops are drawn in original coordinates."""

    side: int
    resample: int
    in_workers: ClassVar[bool] = True

    @property
    def shape(self) -> tuple[int, ...]:
        return (3, self.side, self.side)

    def key(self) -> dict[str, Any]:
        return {"squash": self.side, "resample": self.resample}

    def draw(self, data: bytes, max_pixels: int) -> tuple[np.ndarray, Size]:
        """uint8 [3, side, side] and the original's width and height. Raises UnreadableImage.

        A JPEG much larger than the row is decoded at a fraction, both edges still at least twice the side: 54 to 60 dB
        from the full decode and 2.3 times as fast at 2048 × 1536 (measured 2026-11-23, Pillow 13.0, one core).
        """
        image, size = open_sized(data, max_pixels, draft_side=2 * self.side)
        return squash(image, self.side, self.resample), size


@dataclass(frozen=True)
class Exact:
    """The checkpoint's own output before normalisation: evaluation rows, and features."""

    preprocess: Preprocess
    in_workers: ClassVar[bool] = True

    @property
    def shape(self) -> tuple[int, ...]:
        return (3, self.preprocess.height, self.preprocess.width)

    def key(self) -> dict[str, Any]:
        return {"steps": repr(self.preprocess.steps), "shape": list(self.shape)}

    def draw(self, data: bytes, max_pixels: int) -> tuple[np.ndarray, Size]:
        """uint8 [3, height, width] and the original's width and height. Raises UnreadableImage."""
        image, size = open_sized(data, max_pixels)
        return render(image, self.preprocess), size


@dataclass(frozen=True)
class Stock:
    """As `Exact`, through the stock processor itself, in this process: for rules that steps cannot say."""

    preprocess: Preprocess
    renderer: Callable[[Image.Image], np.ndarray]
    in_workers: ClassVar[bool] = False

    @property
    def shape(self) -> tuple[int, ...]:
        return (3, self.preprocess.height, self.preprocess.width)

    def key(self) -> dict[str, Any]:
        # The source text carries a digest of the processor's settings; the pixels are those of today's libraries.
        libraries = {name: version(name) for name in ("transformers", "timm", "torchvision")}
        return {"stock": self.preprocess.source, "shape": list(self.shape), **libraries}

    def draw(self, data: bytes, max_pixels: int) -> tuple[np.ndarray, Size]:
        """uint8 [3, height, width] and the original's width and height. Raises UnreadableImage."""
        image, size = open_sized(data, max_pixels)
        try:
            return self.renderer(image), size
        except STOCK_FAILURES as error:
            raise UnreadableImage(f"the stock processor fails on it: {library_words(error)}") from error


@dataclass(frozen=True)
class Check:
    """No pixels: finds out, as cheaply as can be, whether the image decodes, and its size.

    A JPEG is decoded at an eighth: all of its bytes are read, so a truncated one is found.
    """

    steps: tuple[PixelStep, ...] = ()
    in_workers: ClassVar[bool] = True

    @property
    def shape(self) -> tuple[int, ...]:
        return (0,)

    def key(self) -> dict[str, Any]:
        return {"check": repr(self.steps)}

    def draw(self, data: bytes, max_pixels: int) -> tuple[np.ndarray, Size]:
        """An empty array and the original's width and height. Raises UnreadableImage."""
        _, (width, height) = open_sized(data, max_pixels, draft_side=1)
        check_aspect(width, height, self.steps)
        return np.empty(0, np.uint8), (width, height)


Geometry = Squash | Exact | Stock | Check


class RowShape(Protocol):
    """What the store's files must know of a row: its shape in bytes, and what of it belongs in a cache key."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    def key(self) -> dict[str, Any]: ...


def row_bytes(geometry: RowShape) -> int:
    """Bytes of one stored row."""
    return int(np.prod(geometry.shape))
