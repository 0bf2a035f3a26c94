"""Small JPEGs that travel inside the page."""

from __future__ import annotations

import base64
import io

import numpy as np

SIDE = 96  # pixels of the longer edge
_QUALITY = 78


def thumbnail(pixels: np.ndarray, side: int = SIDE) -> str:
    """uint8 [3, H, W] as the data URI of a JPEG whose longer edge is `side` pixels at most."""
    from PIL import Image

    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[0] != 3:
        raise ValueError(f"uint8 [3, H, W] is expected, got {pixels.dtype} {list(pixels.shape)}")
    image = Image.fromarray(np.ascontiguousarray(pixels.transpose(1, 2, 0)))
    image.thumbnail((side, side), Image.Resampling.BICUBIC, reducing_gap=2.0)
    found = io.BytesIO()
    image.save(found, "JPEG", quality=_QUALITY, optimize=True)
    return f"data:image/jpeg;base64,{base64.b64encode(found.getvalue()).decode('ascii')}"
