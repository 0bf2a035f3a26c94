"""How far an image is from those of training: the distance beside scikit-learn's, the threshold, the file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from sklearn.covariance import ShrunkCovariance

from hf_finetune.errors import AdapterError
from hf_finetune.pipeline.images import Images
from hf_finetune.pipeline.typical import MOST_TRAIN, rows_to_pass
from hf_finetune.result.typical import MOST_NUMBERS, SHARE, SHRINKAGE, FeatureSums, Typical, read_typical, write_typical


def features(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Three classes of 12 numbers of different scales, the last of which is constant."""
    random = np.random.default_rng(seed)
    classes = random.integers(0, 3, count)
    rows = random.normal(size=(count, 12)) @ np.diag(10.0 ** np.linspace(-2, 2, 12)) + 5 * classes[:, None]
    rows[:, -1] = 7
    return rows.astype(np.float32), classes


def sums_of(rows: np.ndarray, classes: np.ndarray) -> FeatureSums:
    sums = FeatureSums(rows.shape[1], 3)
    sums.add(rows, classes)
    return sums


def test_the_distance_is_mahalanobis_to_the_nearest_class_mean() -> None:
    rows, classes = features(400, 0)
    held, _ = features(200, 1)
    typical = sums_of(rows, classes).typical([held])
    assert typical is not None
    scaled = rows[:, :-1] / rows[:, :-1].std(0)
    means = np.stack([scaled[classes == each].mean(0) for each in range(3)])
    within = ShrunkCovariance(shrinkage=SHRINKAGE, assume_centered=True).fit(scaled - means[classes])
    new = features(50, 2)[0]
    apart = (new[:, :-1] / rows[:, :-1].std(0))[:, None] - means
    expected = np.einsum("ncd,de,nce->nc", apart, within.precision_, apart).min(1)
    assert typical.distances(new) == pytest.approx(expected, rel=1e-3)
    assert np.mean(typical.ratios(held) <= 1) == pytest.approx(SHARE, abs=0.01)
    assert typical.ratios(new + 100 * rows.std(0)).min() > 1
    new.setflags(write=False)  # as rows gathered from processes or mapped from a file are
    assert typical.distances(new) == pytest.approx(expected, rel=1e-3)


def test_rows_of_several_processes_add_up(tmp_path: Path) -> None:
    rows, classes = features(300, 0)
    held, _ = features(100, 1)
    whole = sums_of(rows, classes).typical([held])
    parts = FeatureSums.total([sums_of(rows[start::2], classes[start::2]) for start in range(2)])
    both = parts.typical([held[:40], held[40:], held[:0]])
    assert whole is not None and both is not None
    assert both.threshold == pytest.approx(whole.threshold)
    write_typical(tmp_path, both)
    again = read_typical(tmp_path)
    assert again is not None
    assert again.ratios(held) == pytest.approx(both.ratios(held))
    assert read_typical(tmp_path / "nowhere") is None


def test_few_held_out_rows_promise_nothing() -> None:
    rows, classes = features(300, 0)
    assert sums_of(rows, classes).typical([features(18, 1)[0]]) is None
    assert sums_of(rows, classes).typical([features(19, 1)[0]]) is not None


def test_many_classes_have_one_mean() -> None:
    sums = FeatureSums(12, MOST_NUMBERS // 12 + 1)
    rows, classes = features(300, 0)
    sums.add(rows, classes)
    assert (len(sums.counts), sums.counts[0]) == (1, 300)


def test_distances_to_many_centres_are_taken_some_rows_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(5)
    typical = Typical(rng.normal(size=(40, 6)).astype(np.float32), np.eye(6, dtype=np.float32))
    features = rng.normal(size=(101, 6)).astype(np.float32)
    wanted = np.square(features[:, None].astype(float) - typical.centres[None]).sum(2).min(1)
    for numbers in (MOST_NUMBERS, 40 * 7, 1):  # all at once, seven rows, one
        monkeypatch.setattr("hf_finetune.result.typical.MOST_NUMBERS", numbers)
        assert np.allclose(typical.distances(features), wanted)


def test_the_pass_for_it_is_counted_before_it_is_made() -> None:
    """Under a time budget these seconds are kept free, and nothing is passed over where no rung opened the images."""
    store, validation = SimpleNamespace(), np.zeros(90)
    images = Images(store, np.zeros(5000), {"validation": validation})  # pyright: ignore[reportArgumentType]
    assert rows_to_pass(images, None) == rows_to_pass(images, 600) == (MOST_TRAIN, 90)
    assert [rows_to_pass(images, seconds)[0] for seconds in (5, 60, 100)] == [400, 480, 800]
    none = Images(store, None, {"validation": validation})  # pyright: ignore[reportArgumentType]
    assert rows_to_pass(none, 60) == (0, 0)


@pytest.mark.parametrize("damage", [lambda content: content[:100], lambda content: content[8:], lambda _: b""])
def test_a_damaged_file_is_told(tmp_path: Path, damage: Callable[[bytes], bytes]) -> None:
    write_typical(tmp_path, Typical(np.zeros((2, 3), np.float32), np.eye(3, dtype=np.float32), 1.0))
    assert read_typical(tmp_path) is not None
    (file,) = tmp_path.iterdir()
    file.write_bytes(damage(file.read_bytes()))
    with pytest.raises(AdapterError, match=r"typical\.safetensors is damaged: ") as raised:
        read_typical(tmp_path)
    assert "without that file the result answers" in raised.value.hint
