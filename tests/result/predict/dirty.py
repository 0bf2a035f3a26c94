"""A folder of everything that comes along in a folder of thousands of images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

HEIC = Path(__file__).parents[2] / "preprocess" / "files" / "red_corner.heic"
READ = ("1x1.png", "16bit.png", "animated.gif", "animated.webp", "cmyk.jpg", "grey.jpg", "palette.png", "photo.heic",
        "plain.jpg")  # fmt: skip
# Each with what is said of it.
UNREAD = {
    "corrupt.png": "cannot be decoded",
    "empty.jpg": "the file is empty (0 bytes)",
    "huge.png": "9000 × 6000 is more than 50,000,000 pixels",
    "text.jpg": "not an image",
    "truncated.jpg": "cannot be decoded",
}


def write_dirty(folder: Path) -> Path:
    """READ, UNREAD, and files that a folder's walk leaves out."""
    folder.mkdir(parents=True)
    random = np.random.default_rng(0)
    picture = Image.fromarray(random.integers(0, 256, (48, 64, 3), dtype=np.uint8))
    frames = [picture, picture.rotate(90), picture.rotate(180)]
    picture.save(folder / "plain.jpg")
    Image.new("RGB", (1, 1), (200, 10, 10)).save(folder / "1x1.png")
    picture.convert("L").save(folder / "grey.jpg")
    picture.convert("CMYK").save(folder / "cmyk.jpg")
    Image.fromarray(random.integers(0, 65536, (48, 64), dtype=np.uint16)).save(folder / "16bit.png")
    picture.quantize(64).save(folder / "palette.png", transparency=bytes(range(64)))
    frames[0].save(folder / "animated.gif", save_all=True, append_images=frames[1:])
    frames[0].save(folder / "animated.webp", save_all=True, append_images=frames[1:])
    (folder / "photo.heic").write_bytes(HEIC.read_bytes())
    Image.new("1", (9000, 6000)).save(folder / "huge.png")
    whole = (folder / "plain.jpg").read_bytes()
    (folder / "truncated.jpg").write_bytes(whole[: len(whole) // 2])
    picture.save(folder / "corrupt.png")
    damaged = bytearray((folder / "corrupt.png").read_bytes())
    damaged[100:400] = bytes(300)
    (folder / "corrupt.png").write_bytes(damaged)
    (folder / "empty.jpg").touch()
    (folder / "text.jpg").write_text("this is no image", "utf-8")
    (folder / "readme.txt").write_text("left out", "utf-8")
    (folder / ".hidden.jpg").write_bytes(whole)
    return folder
