"""Pictures that are all different, as photos are: soft shapes with some texture; and what a copy may go through."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image, ImageFilter, ImageOps


class Rows:
    """PixelRows over an array uint8 [N, 3, H, W]."""

    def __init__(self, pixels: np.ndarray, labels: np.ndarray | None = None, names: list[str] | None = None) -> None:
        self.pixels = pixels
        self.labels = np.zeros(len(pixels), np.int64) if labels is None else labels
        self.sizes = np.full((len(pixels), 2), pixels.shape[2], np.int32)
        self.names = [f"{number}.jpg" for number in range(len(pixels))] if names is None else names

    def __len__(self) -> int:
        return len(self.pixels)

    def gather(self, indices: np.ndarray) -> np.ndarray:
        return self.pixels[np.asarray(indices)]


def picture(number: int, side: int = 160) -> Image.Image:
    """RGB of `side` × `side`; another number, another picture."""
    random = np.random.default_rng(number)
    found = Image.new("RGB", (side, side))
    for coarse, weight in ((5, 0.5), (20, 0.5)):
        small = Image.fromarray(random.integers(0, 256, (coarse, coarse, 3), dtype=np.uint8))
        found = Image.blend(found, small.resize((side, side), Image.Resampling.BICUBIC), weight)
    return found.filter(ImageFilter.GaussianBlur(1))


def copy(image: Image.Image, how: str, random: np.random.Generator) -> Image.Image:
    """A copy as others make it: `resized`, `re-encoded`, `cropped` by 5 % somewhere, or `mirrored`."""
    width, height = image.size
    if how == "resized":
        image = image.resize((width // 2, height // 2), Image.Resampling.BILINEAR)
    elif how == "cropped":
        left, top = int(random.integers(0, width // 20 + 1)), int(random.integers(0, height // 20 + 1))
        image = image.crop((left, top, left + width - width // 20, top + height - height // 20))
    elif how == "mirrored":
        image = ImageOps.mirror(image)
    file = io.BytesIO()
    image.save(file, "JPEG", quality=55 if how == "re-encoded" else 85)
    return Image.open(file).convert("RGB")


def pixels(images: list[Image.Image], side: int = 160) -> np.ndarray:
    """uint8 [N, 3, side, side], as a checkpoint sees them."""
    sized = [image.resize((side, side), Image.Resampling.BICUBIC) for image in images]
    return np.stack([np.asarray(image).transpose(2, 0, 1) for image in sized])
