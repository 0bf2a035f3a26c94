"""What may be handed to `predict`, alone or in a list, and what is refused with a remedy."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from hf_finetune.adapters import Lora
from hf_finetune.backbones.checkpoint import builtin_path
from hf_finetune.errors import DataError
from hf_finetune.result.classifier import Classifier, load
from tests.result.results import save_result

pytestmark = pytest.mark.e2e
PIXELS = np.random.default_rng(0).integers(0, 256, (40, 48, 3), np.uint8)


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> Classifier:
    result = tmp_path_factory.mktemp("result") / "adapter"
    return load(save_result(builtin_path("builtin:starter"), Lora(rank=4), result), device="cpu")


def encoded(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


FORMS: dict[str, Callable[[Path], Any]] = {
    "str": str,
    "path": lambda path: path,
    "bytes": lambda path: path.read_bytes(),
    "picture": Image.open,
    "array": lambda _: PIXELS,
    "a view": lambda _: PIXELS[::-1][::-1],
    "RGBA": lambda _: np.dstack([PIXELS, np.full((40, 48, 1), 9, np.uint8)]),
    "tensor": lambda _: torch.from_numpy(PIXELS.copy()),
    "batch": lambda _: PIXELS[None],
    "tuple": lambda path: (path,),
    "generator": lambda path: (each for each in [path]),
}


@pytest.mark.parametrize("form", FORMS)
def test_one_picture_alone_is_one_answer(form: str, classifier: Classifier, tmp_path: Path) -> None:
    (tmp_path / "a b.png").write_bytes(encoded(PIXELS))
    (expected,) = classifier.predict([tmp_path / "a b.png"])
    (found,) = classifier.predict(FORMS[form](tmp_path / "a b.png"))
    assert found == expected


def test_grey_arrays_are_the_pictures_of_their_type(classifier: Classifier) -> None:
    manifest = classifier.manifest
    grey_too = replace(manifest, preprocess=replace(manifest.preprocess, value_range=(0.0, 65535.0)))
    classifier = replace(classifier, manifest=grey_too)  # as of a run on 16-bit grey
    for grey in (PIXELS[..., 0], PIXELS[..., 0].astype(np.uint16) << 8, PIXELS[..., :1], PIXELS[..., 0] > 127):
        plain = grey.astype(np.uint8) * 255 if grey.dtype == bool else grey.squeeze()
        assert classifier.predict(grey) == classifier.predict([encoded(plain)])
    two = classifier.predict(np.stack([PIXELS, PIXELS[::-1]]))
    for found, alone in zip(two, (PIXELS, PIXELS[::-1]), strict=True):
        assert found.probabilities == pytest.approx(classifier.predict(alone)[0].probabilities, rel=1e-3)
    assert classifier.predict([]) == []


@pytest.mark.parametrize(
    ("images", "said"),
    [
        (PIXELS.transpose(2, 0, 1), r"found \[3, 40, 48\].\n  Put the channels last"),
        (PIXELS / 255, "found float64.\n  From 0 to 1: "),
        (PIXELS[:0], r"found \[0, 48, 3\]"),
        (np.zeros(5, np.uint8), r"An array \[H, W\] or \[H, W, 3\] is expected, found \[5\]"),
        (3, "or several; found int."),
        (None, "or several; found NoneType."),
        ({"image": PIXELS}, "or several; found dict."),
        ([3], "or an array is expected; found int."),
        ("nowhere.jpg", "nowhere.jpg cannot be read: No such file"),
        (Path(), "is a folder; an image is expected"),
    ],
)
def test_anything_else_is_refused_with_what_would_do(images: Any, said: str, classifier: Classifier) -> None:
    with pytest.raises(DataError, match=said):
        classifier.predict(images)


def test_what_is_shown_of_a_model_is_one_line(classifier: Classifier) -> None:
    text = repr(classifier)
    assert text.startswith("<Classifier: lora on ") and " classes (" in text
    assert len(text.splitlines()) == 1 and len(text) < 300
    assert repr(classifier.predict(PIXELS)[0]).count(",") == 1
