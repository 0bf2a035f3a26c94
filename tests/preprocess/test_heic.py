"""HEIC photos, as phones take them: read with the extra, and without it the message names it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from hf_finetune.data.config import Data
from hf_finetune.data.index.scan import scan
from hf_finetune.preprocess import pixels
from hf_finetune.preprocess.pixels import UnreadableImage, open_sized
from tests.data.pictures import class_folders

# 64 × 48, red where x < 32 and y < 24 as stored; its EXIF says "turned", which libheif has undone already.
PHOTO = Path(__file__).parent / "files" / "red_corner.heic"


@pytest.fixture
def without_extra(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setitem(sys.modules, "pi_heif", None)
    monkeypatch.delitem(Image.OPEN, "HEIF", raising=False)
    pixels._formats.cache_clear()
    yield
    pixels._formats.cache_clear()


def test_a_photo_is_decoded_upright_once() -> None:
    image, size, _ = open_sized(PHOTO.read_bytes(), 10_000)
    assert (image.size, size, image.mode) == ((64, 48), (64, 48), "RGB")
    red, other = image.getpixel((5, 5)), image.getpixel((60, 40))
    assert red[0] > 200 and red[1] < 60  # type: ignore[index]
    assert other[1] > 150  # type: ignore[index]
    with pytest.raises(UnreadableImage, match="is more than 1,000 pixels"):
        open_sized(PHOTO.read_bytes(), 1_000)
    with pytest.raises(UnreadableImage, match="not an image"):
        open_sized(PHOTO.read_bytes()[:400], 10_000)


@pytest.mark.usefixtures("without_extra")
def test_without_the_extra_the_message_names_it() -> None:
    with pytest.raises(UnreadableImage, match=r"pip install 'hf_finetune\[heic\]'"):
        open_sized(PHOTO.read_bytes(), 10_000)


def test_a_folder_of_them_is_a_dataset(tmp_path: Path) -> None:
    class_folders(tmp_path, {"a": 6, "b": 6})
    (tmp_path / "a" / "phone.HEIC").write_bytes(PHOTO.read_bytes())
    found = scan(Data(name=str(tmp_path), validation_share=0, test_share=0), seed=0)
    assert "a/phone.HEIC" in [row.name for row in found.splits["train"]]
