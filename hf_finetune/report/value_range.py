"""High-bit grey images for those who read a result with stock code: whether it sees other pixels, and the lines that
make it see the same. The scale itself is `preprocess/value_range.py`'s."""

from __future__ import annotations

from hf_finetune.report.fields import RunReport
from hf_finetune.types import ValueRange


def value_range_of(report: RunReport) -> ValueRange | None:
    """Black and white of the high-bit grey images that the run was trained on; None where there were none."""
    found = report.data.get("value_range")
    return None if found is None else (float(found[0]), float(found[1]))


def differs_from_stock(value_range: ValueRange | None) -> bool:
    """Whether stock code sees other pixels: Pillow's `convert("RGB")` clips every value to 0 … 255."""
    return value_range is not None and value_range != (0.0, 255.0)


def range_text(value_range: ValueRange) -> str:
    """`0 to 4095`."""
    return f"{value_range[0]:.10g} to {value_range[1]:.10g}"


def convert_lines(value_range: ValueRange | None) -> tuple[str, str]:
    """Imports beside Pillow's, and Python that makes `image`, 8-bit RGB, of `photo.jpg` as training did."""
    if not differs_from_stock(value_range) or value_range is None:
        return "", 'image = ImageOps.exif_transpose(Image.open("photo.jpg")).convert("RGB")\n'
    low, high = value_range
    return "import numpy as np\n", (
        'image = ImageOps.exif_transpose(Image.open("photo.jpg"))\n'
        f'if image.mode[0] in "IF":  # 16-bit, 32-bit or float grey: {range_text(value_range)} is black to white\n'
        f"    grey = (np.asarray(image, float) - {low!r}) * 255 / ({high!r} - {low!r})\n"
        "    image = Image.fromarray(np.rint(grey.clip(0, 255)).astype(np.uint8))\n"
        'image = image.convert("RGB")\n'
    )
