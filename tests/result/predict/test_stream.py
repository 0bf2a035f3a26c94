"""A stream of images in batches: every image in its place, nothing lost, little of it in memory."""

from __future__ import annotations

import gc
import json
import os
import threading
import time
import weakref
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hf_finetune.adapters import HeadOnly
from hf_finetune.backbones.checkpoint import builtin_path
from hf_finetune.data.config import Data
from hf_finetune.data.sources.given import AllGiven, Given
from hf_finetune.errors import DataError
from hf_finetune.preprocess.pixels import quiet_pillow
from hf_finetune.result.classifier import Classifier, load
from hf_finetune.result.predict.stream import AHEAD, Answered, Stream
from tests.result.predict.dirty import READ, UNREAD, write_dirty
from tests.result.results import save_result


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> Classifier:
    """Of a result that knows the scale of 16-bit images."""
    folder = save_result(builtin_path("builtin:starter"), HeadOnly(), tmp_path_factory.mktemp("result") / "adapter")
    manifest = folder / "hf_finetune.json"
    content = json.loads(manifest.read_text("utf-8"))
    content["preprocess"]["value_range"] = [0, 50_000]
    manifest.write_text(json.dumps(content), "utf-8")
    return load(folder, device="cpu")


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> list[Given]:
    """Fifty small pictures, no two alike."""
    folder, random = tmp_path_factory.mktemp("photos"), np.random.default_rng(0)
    found = []
    for number in range(50):
        pixels = random.integers(0, 256, (20, 30, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")
        found.append(Given(f"{number}.png", str(folder / f"{number}.png")))
    return found


def answers(stream: Stream, images: list[Given], **options: bool) -> list[Answered]:
    with quiet_pillow():
        return [each for batch in stream.run(images, **options) for each in batch]


@pytest.mark.parametrize("batch", [1, 7, 32, 64])
def test_answers_are_those_of_one_image_at_a_time_in_order(
    classifier: Classifier, photos: list[Given], batch: int
) -> None:
    stream = Stream(classifier, batch)
    found = answers(stream, photos)
    assert [each.given for each in found] == photos
    for each, expected in zip(found, classifier.predict([photo.locator for photo in photos]), strict=True):
        assert each.prediction is not None
        assert each.prediction.label == expected.label  # pyright: ignore
        assert np.allclose(each.prediction.probabilities, expected.probabilities, atol=1e-6)  # pyright: ignore
    assert (stream.counts.answered, stream.counts.failed) == (50, 0) and stream.counts.forward_s > 0


def test_whatever_lies_in_a_folder_is_answered_or_named(classifier: Classifier, tmp_path: Path) -> None:
    folder = write_dirty(tmp_path / "dirty")
    stream = Stream(classifier, 4)
    found = {Path(each.given.name).name: each for each in answers(stream, list(AllGiven([str(folder)], Data())))}
    assert sorted(found) == sorted((*READ, *UNREAD))
    assert {name for name, each in found.items() if each.prediction is not None} == set(READ)
    for name, reason in UNREAD.items():
        assert reason in found[name].error
        assert found[name].problem.startswith(f"{folder / name} cannot be read as an image: {found[name].error}.")
    assert "--max-pixels" in found["huge.png"].problem
    assert (stream.counts.answered, stream.counts.failed) == (len(READ), len(UNREAD))
    clipped = {name for name in READ if found[name].prediction.clipped}  # pyright: ignore
    assert clipped == {"16bit.png"}


def test_what_cannot_even_be_opened_keeps_its_place(
    classifier: Classifier, photos: list[Given], tmp_path: Path
) -> None:
    odd = [
        Given("gone.jpg", str(tmp_path / "gone.jpg")),
        Given("folder", str(tmp_path)),
        Given("nul\0.jpg", "nul\0.jpg"),
        Given("table.csv line 3", "", "no path"),
        Given("ftp://host/a.jpg", "ftp://host/a.jpg"),
    ]
    found = answers(Stream(classifier), [odd[0], photos[0], *odd[1:], photos[1]])
    assert [each.prediction is not None for each in found] == [False, True, *[False] * 4, True]
    said = [each.error for each in found if each.error]
    assert said[0] == "No such file or directory" and said[1] == "Is a directory" and "null" in said[2]
    assert said[3] == "no path" and "it is a ftp: address" in said[4]


def test_mirrored_is_the_same_for_an_image_and_its_mirror_image(
    classifier: Classifier, photos: list[Given], tmp_path: Path
) -> None:
    mirror = tmp_path / "mirror.png"
    Image.open(photos[0].locator).transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(mirror)
    both = [photos[0], Given("mirror", str(mirror))]

    def shares(mirrored: bool) -> np.ndarray:
        found = answers(Stream(classifier, mirrored=mirrored), both)
        return np.array([each.prediction.probabilities for each in found])  # pyright: ignore

    one, other = shares(True)
    assert np.allclose(one, other, atol=1e-6)
    plain = shares(False)
    assert np.abs(plain[0] - plain[1]).max() > 1e-4
    # the mean is of logits: of probabilities the geometric one, made to sum to one (the temperature is 1 here)
    mean = np.sqrt(plain[0] * plain[1])
    assert np.allclose(one, mean / mean.sum(), atol=1e-5)
    assert np.allclose(classifier.predict(photos[0].locator, mirrored=True)[0].probabilities, one, atol=1e-6)  # pyright: ignore


def test_only_a_window_of_images_is_read_ahead_and_let_go_behind(classifier: Classifier, photos: list[Given]) -> None:
    handed = 0

    def counted() -> Iterator[Given]:
        nonlocal handed
        for number in range(400):
            handed += 1
            yield photos[number % 50]

    batch, kept = 4, []
    done = 0
    for found in Stream(classifier, batch, keep_pixels=True).run(counted()):
        done += len(found)
        time.sleep(0.002)  # time enough to run ahead
        assert handed <= done + AHEAD * batch + batch + 1
        kept += [weakref.ref(each.pixels) for each in found]
    assert done == handed == 400
    del found
    gc.collect()
    assert sum(each() is not None for each in kept) <= batch
    assert [thread.name for thread in threading.enumerate() if thread.name.startswith("image")] == []


def test_names_that_come_slowly_are_answered_as_they_come(classifier: Classifier, photos: list[Given]) -> None:
    answered, asked = threading.Event(), []

    def slow() -> Iterator[Given]:
        yield photos[0]
        asked.append(answered.wait(20))  # the next name comes only once the first was answered
        yield photos[1]

    sizes = []
    for batch in Stream(classifier, 32).run(slow(), waits=False):
        sizes.append(len(batch))
        answered.set()
    assert asked == [True] and sizes == [1, 1]


def test_an_error_of_the_names_is_raised_behind_the_answers_before_it(
    classifier: Classifier, photos: list[Given]
) -> None:
    def broken() -> Iterator[Given]:
        yield from photos[:5]
        raise DataError("the list is damaged")

    found: list[Answered] = []
    with pytest.raises(DataError, match="the list is damaged"):
        for batch in Stream(classifier, 4).run(broken()):
            found += batch
    assert [each.given for each in found] == photos[:5]


def test_leaving_early_ends_the_threads(classifier: Classifier, photos: list[Given]) -> None:
    stream = Stream(classifier, 2).run(photos * 20)
    next(stream)
    stream.close()  # pyright: ignore[reportAttributeAccessIssue]
    for _ in range(100):
        if not [thread for thread in threading.enumerate() if thread.name.startswith("image")]:
            break
        time.sleep(0.05)
    assert [thread.name for thread in threading.enumerate() if thread.name.startswith("image")] == []


def test_a_lack_of_memory_halves_the_batch(
    classifier: Classifier, photos: list[Given], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The model itself raises what torch raises where more than three images come at once."""
    whole, sizes = classifier.model.forward, []

    def small(*arguments: object, **given: object) -> object:
        count = len(given["pixel_values"])  # pyright: ignore[reportArgumentType]
        sizes.append(count)
        if count > 3:
            raise MemoryError("out of memory")
        return whole(*arguments, **given)

    monkeypatch.setattr(classifier.model, "forward", small)
    found = answers(Stream(classifier, 8), photos[:8])
    assert all(each.prediction is not None for each in found)
    assert sizes == [8, 4, 2, 2, 2, 2]


@pytest.mark.skipif(os.name == "nt", reason="pipes and devices have no paths there")
def test_what_is_no_file_is_neither_waited_for_nor_read_for_ever(classifier: Classifier, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "endless.png").symlink_to("/dev/zero")
    names = ("pipe.png", "endless.png")
    said = answers(Stream(classifier, 2), [Given(name, str(tmp_path / name)) for name in names])
    assert [each.error for each in said] == ["no file, but a named pipe", "no file, but a device"]
    for name in names:
        with pytest.raises(DataError, match="cannot be read: no file, but a"):
            classifier.predict(tmp_path / name)
