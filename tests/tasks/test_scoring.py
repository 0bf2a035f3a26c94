"""The metrics against scikit-learn, by hand, and on degenerate input."""

from __future__ import annotations

import json
import time
from typing import Any

import numpy as np
import pytest
from sklearn import metrics as reference

from hf_finetune.errors import DataError, TrainingError
from hf_finetune.labels import ClassAnswers
from hf_finetune.tasks import measures
from hf_finetune.tasks.scoring import answers_of, score_answers


def score(logits: np.ndarray, labels: np.ndarray, names: list[str], *, full: bool) -> dict[str, Any]:
    """Logits float [N, C] as the product scores them: reduced to answers first."""
    return score_answers(answers_of(logits, labels), labels, names, full=full)


def random_rows(rows: int, classes: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Logits that are right about half of the time; the last class never occurs as a label."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, max(1, classes - 1), rows)
    logits = rng.normal(size=(rows, classes)).astype(np.float32)
    logits[np.arange(rows), labels] += 1.5
    return logits, labels, [f"class {i}" for i in range(classes)]


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize(("rows", "classes"), [(1, 1), (1, 2), (300, 2), (500, 6), (700, 300)])
def test_every_metric_equals_scikit_learns(rows: int, classes: int, full: bool) -> None:
    logits, labels, names = random_rows(rows, classes)
    result = score(logits, labels, names, full=full)
    every = np.arange(classes)
    wide = logits.astype(np.float64)
    probabilities = np.exp(wide) / np.exp(wide).sum(1, keepdims=True)
    predicted = logits.argmax(1)
    assert result["rows"] == rows
    assert result["accuracy"] == pytest.approx(reference.accuracy_score(labels, predicted))
    assert result["macro_f1"] == pytest.approx(reference.f1_score(labels, predicted, average="macro", zero_division=0))
    recall = reference.recall_score(labels, predicted, labels=np.unique(labels), average="macro", zero_division=0)
    assert result["balanced_accuracy"] == pytest.approx(recall)
    assert result["loss"] == pytest.approx(-np.log(probabilities[np.arange(rows), labels]).mean())
    if classes > 5:
        top = reference.top_k_accuracy_score(labels, wide, k=5, labels=every)
        assert result["top5"] == pytest.approx(top)
    else:
        assert "top5" not in result
    assert full == ("per_class" in result)


def test_per_class_table_equals_scikit_learns_with_0_for_an_absent_class() -> None:
    logits, labels, names = random_rows(60, 9)
    result = score(logits, labels, names, full=True)
    columns = reference.precision_recall_fscore_support(labels, logits.argmax(1), labels=np.arange(9), zero_division=0)
    for name, expected in zip(("precision", "recall", "f1", "support"), columns, strict=True):
        assert [row[name] for row in result["per_class"].values()] == pytest.approx(expected.tolist())
    assert list(result["per_class"]) == names
    assert result["per_class"]["class 8"]["support"] == 0
    assert result["per_class"]["class 8"]["recall"] == 0.0


def test_confusion_matrix_equals_scikit_learns_and_pairs_are_its_off_diagonal() -> None:
    logits, labels, names = random_rows(400, 6)
    result = score(logits, labels, names, full=True)
    matrix = reference.confusion_matrix(labels, logits.argmax(1), labels=np.arange(6))
    assert result["confusion"] == matrix.tolist()
    pairs = {(p["label"], p["predicted"]): p["count"] for p in result["confused_pairs"]}
    assert pairs == {
        (names[i], names[j]): matrix[i, j] for i in range(6) for j in range(6) if i != j and matrix[i, j] > 0
    }
    counts = [p["count"] for p in result["confused_pairs"]]
    assert counts == sorted(counts, reverse=True)


def test_more_than_200_classes_give_the_50_most_confused_pairs_and_no_matrix() -> None:
    logits, labels, names = random_rows(2_000, 201)
    result = score(logits, labels, names, full=True)
    assert "confusion" not in result
    assert len(result["confused_pairs"]) == 50


def test_a_quick_score_holds_the_same_numbers_as_a_full_one() -> None:
    logits, labels, names = random_rows(500, 12)
    quick, full = score(logits, labels, names, full=False), score(logits, labels, names, full=True)
    assert quick == {key: full[key] for key in quick}
    assert set(full) - set(quick) == {"per_class", "confused_pairs", "confusion", "calibration"}


def test_a_full_score_is_plain_json() -> None:
    result = score(*random_rows(50, 7), full=True)
    assert json.loads(json.dumps(result, allow_nan=False)) == result


def test_calibration_error_by_hand() -> None:
    # Bins ((m−1)/15, m/15]: 0.62 and 0.65 share bin 10, 0.95 is in bin 15; 2/3 is the last point of bin 10.
    confidence = np.array([0.62, 0.65, 2 / 3, 0.95])
    predicted = np.array([0, 0, 0, 1])
    labels = np.array([0, 1, 0, 0])
    expected = (abs((1 + 0 + 1) - (0.62 + 0.65 + 2 / 3)) + abs(0 - 0.95)) / 4
    assert measures.calibration_error(confidence, predicted, labels) == pytest.approx(expected, abs=1e-12)


def test_calibration_error_of_a_sure_and_right_model_is_0_and_of_a_sure_and_wrong_one_1() -> None:
    logits = np.array([[60.0, -60.0], [-60.0, 60.0]])
    assert score(logits, np.array([0, 1]), ["a", "b"], full=False)["ece"] == pytest.approx(0.0)
    assert score(logits, np.array([1, 0]), ["a", "b"], full=False)["ece"] == pytest.approx(1.0)


def test_loss_of_enormous_logits_is_finite() -> None:
    result = score(np.array([[1e4, -1e4], [3e38, 0.0]], np.float64), np.array([1, 0]), ["a", "b"], full=False)
    assert result["loss"] == pytest.approx(1e4)


def test_ties_go_to_the_lowest_class_id_and_top5_never_counts_more_than_5_classes() -> None:
    result = score(np.zeros((8, 8)), np.arange(8), [str(i) for i in range(8)], full=True)
    assert result["accuracy"] == 1 / 8
    assert result["top5"] == 5 / 8


def test_bootstrap_interval_is_seeded_and_that_of_resampled_rows() -> None:
    assert measures.accuracy_interval(0.9, 431) == measures.accuracy_interval(0.9, 431)
    right = np.arange(400) < 340
    rng = np.random.default_rng(1)
    resampled = [right[rng.integers(0, 400, 400)].mean() for _ in range(4_000)]
    assert measures.accuracy_interval(0.85, 400) == pytest.approx(np.percentile(resampled, [2.5, 97.5]), abs=0.006)


def test_bootstrap_interval_covers_the_true_accuracy_about_95_times_in_100() -> None:
    draws = np.random.default_rng(2).binomial(400, 0.85, 500) / 400
    covered = [low <= 0.85 <= high for low, high in (measures.accuracy_interval(share, 400) for share in draws)]
    assert 0.92 <= np.mean(covered) <= 0.975


def test_no_rows_are_refused() -> None:
    with pytest.raises(DataError) as error:
        score(np.zeros((0, 3)), np.zeros(0, np.int64), ["a", "b", "c"], full=False)
    assert error.value.message == "At least one row is expected to measure a model on, found none."


@pytest.mark.parametrize(("wrong", "found"), [(-100, -100), (3, 3)])
def test_a_label_that_the_model_does_not_have_is_refused(wrong: int, found: int) -> None:
    with pytest.raises(DataError) as error:
        score(np.zeros((2, 3)), np.array([0, wrong]), ["a", "b", "c"], full=False)
    assert error.value.message == (f"Labels from 0 to 2 are expected for a model with 3 classes, found label {found}.")


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_logit_that_is_not_finite_is_refused_with_its_row(bad: float) -> None:
    logits = np.zeros((5, 3))
    logits[3, 1] = bad
    with pytest.raises(TrainingError) as error:
        score(logits, np.zeros(5, np.int64), ["a", "b", "c"], full=False)
    assert (
        error.value.message == "Finite logits are expected, found NaN or infinity in row 3 (1 of the 5 rows looked at)."
    )


def test_twenty_thousand_classes_are_scored_in_seconds_without_a_copy_of_the_logits() -> None:
    import tracemalloc

    logits = np.random.default_rng(0).standard_normal((1_000, 20_000), dtype=np.float32)
    labels = np.random.default_rng(1).integers(0, 20_000, 1_000)
    names = [str(i) for i in range(20_000)]
    tracemalloc.start()
    started = time.perf_counter()
    result = score(logits, labels, names, full=False)
    seconds, peak = time.perf_counter() - started, tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert result["rows"] == 1_000
    assert peak < logits.nbytes
    assert seconds < 10


def test_answers_batch_by_batch_score_like_all_logits_at_once() -> None:
    logits, labels, names = random_rows(103, 12)
    parts = [answers_of(logits[i : i + 10], labels[i : i + 10]) for i in range(0, 103, 10)]
    found, wanted = (
        score_answers(ClassAnswers.joined(parts), labels, names, full=True),
        score(logits, labels, names, full=True),
    )
    for name in ("loss", "ece"):  # of exponentials in float64, which the last rows of a block may compute otherwise
        assert found.pop(name) == pytest.approx(wanted.pop(name), rel=1e-12)
    assert found == wanted  # counts, and shares of counts


def test_answers_of_several_processes_are_put_at_their_rows() -> None:
    logits, labels, _ = random_rows(11, 7)
    places = [np.arange(rank, 11, 3) for rank in (2, 0, 1)]
    joined = ClassAnswers.joined([answers_of(logits[place], labels[place]) for place in places], places)
    whole = answers_of(logits, labels)
    np.testing.assert_array_equal(joined.top, whole.top)
    for name in ("confidence", "loss"):  # exponentials in float64, which the last rows of a block may compute otherwise
        np.testing.assert_allclose(getattr(joined, name), getattr(whole, name), rtol=1e-12)


def test_a_logit_that_is_not_finite_stops_the_score_and_not_a_batch_of_it() -> None:
    """In training an error on one process alone would leave the others waiting for its rows."""
    logits, labels, names = random_rows(30, 4)
    logits[17, 2] = np.nan
    joined = ClassAnswers.joined([answers_of(logits[i : i + 10], labels[i : i + 10]) for i in (0, 10, 20)])
    assert np.flatnonzero(np.isnan(joined.loss)).tolist() == [17]
    with pytest.raises(TrainingError, match=r"NaN or infinity in row 17 \(1 of the 30 rows looked at\)"):
        score_answers(joined, labels, names, full=False)
