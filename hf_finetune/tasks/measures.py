"""The formulas of the classification metrics, on numpy arrays.

Owns what each number means. Does not decide which are reported (`scoring.py`), nor how `evaluate` reaches them
(`metrics/`). N is the number of rows, C of classes.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from hf_finetune.errors import DataError, TrainingError
from hf_finetune.labels import TEMPERATURES, Answers, ClassAnswers

ECE_BINS = 15
RESAMPLES = 2_000
_BLOCK = 2**21  # logits held at once as float64 (16 MB), so that 10,000 rows of 20,000 classes need no second copy


def no_rows() -> DataError:
    """The error for a split without rows."""
    return DataError(
        "At least one row is expected to measure a model on, found none.",
        "Give a split with images, or check which of its rows were rejected and why.",
    )


def reduce_logits(logits: np.ndarray, labels: np.ndarray, k: int) -> ClassAnswers:
    """logits float [N, C], labels int64 [N] → `ClassAnswers`, in blocks of rows.

    Raises DataError where there are no rows or a label is not in 0..C−1, ValueError where the shapes do not fit. A
    logit that is not finite makes the row's loss NaN and is for `check_finite`: in training every process must get
    there, since an error on one of them would leave the others waiting.
    """
    if logits.ndim != 2 or labels.shape != logits.shape[:1]:
        raise ValueError(f"logits [N, C] and labels [N] are expected, got {logits.shape} and {labels.shape}")
    rows, classes = logits.shape
    if rows == 0:
        raise no_rows()
    if labels.min() < 0 or labels.max() >= classes:
        wrong = int(labels.min() if labels.min() < 0 else labels.max())
        raise DataError(
            f"Labels from 0 to {classes - 1} are expected for a model with {classes} classes, found label {wrong}.",
            "The split must have the same classes as the model was trained on.",
        )
    top = np.empty((rows, min(k, classes)), np.int64)
    confidence, loss, behind = np.empty(rows), np.empty(rows), np.empty(rows)
    tempered = np.empty((rows, len(TEMPERATURES)), np.float32)
    step = max(1, _BLOCK // classes)
    for start in range(0, rows, step):
        part = slice(start, start + step)
        _reduce_block(logits[part].astype(np.float64), labels[part], top[part], confidence[part], loss[part])
        _temper_block(logits[part].astype(np.float32), labels[part], behind[part], tempered[part])
    return ClassAnswers(loss, top, confidence, behind, tempered)


def _reduce_block(
    block: np.ndarray, labels: np.ndarray, top: np.ndarray, confidence: np.ndarray, loss: np.ndarray
) -> None:
    """Fill `top`, `confidence` and `loss` (views) from `block`, which is used up."""
    finite = np.isfinite(block).all(axis=1)
    block[~finite] = 0
    every = np.arange(len(block))
    highest = block.max(axis=1)
    log_sum = np.log(np.exp(block - highest[:, None]).sum(axis=1))  # of exp(logit − highest), so never overflows
    loss[:] = np.where(finite, log_sum + highest - block[every, labels], np.nan)
    confidence[:] = np.exp(-log_sum)
    for column in range(top.shape[1]):
        top[:, column] = block.argmax(axis=1)
        block[every, top[:, column]] = -np.inf


def _temper_block(block: np.ndarray, labels: np.ndarray, behind: np.ndarray, tempered: np.ndarray) -> None:
    """Fill `behind` and `tempered` (views) from `block`, which is used up. Twice a scale is the square of its powers,
    so that four exponentials do."""
    block[~np.isfinite(block).all(axis=1)] = 0
    block -= block.max(axis=1, keepdims=True)
    behind[:] = -block[np.arange(len(block)), labels]
    powers: dict[int, np.ndarray] = {}
    for place, temperature in enumerate(TEMPERATURES):
        half = powers.pop(place - 4, None)
        powers[place] = np.exp(block / temperature) if half is None else np.square(half, out=half)
        tempered[:, place] = np.log(powers[place].sum(axis=1)) + behind / temperature


def check_finite(answers: Answers) -> None:
    """Raises TrainingError where a logit was not finite."""
    finite = np.isfinite(answers.loss)
    if not finite.all():
        raise TrainingError(
            f"Finite logits are expected, found NaN or infinity in row {int(np.argmin(finite))} "
            f"({int((~finite).sum())} of the {len(answers)} rows looked at).",
            "The weights or the pixels are not finite; use train.precision=fp32 or a lower train.learning_rate.",
        )


def accuracy(predicted: np.ndarray, labels: np.ndarray) -> float:
    """Share of rows whose prediction is their label."""
    return float(np.mean(predicted == labels))


def top_k_accuracy(top: np.ndarray, labels: np.ndarray) -> float:
    """Share of rows whose label is among `top` int64 [N, k]."""
    return float(np.mean((top == labels[:, None]).any(axis=1)))


def per_class(predicted: np.ndarray, labels: np.ndarray, classes: int) -> dict[str, np.ndarray]:
    """Precision, recall, F1 (float64 [C]) and support (int64 [C]) of each class; 0 where a quotient is 0/0."""
    hits = np.bincount(labels[predicted == labels], minlength=classes)
    named = np.bincount(predicted, minlength=classes)
    support = np.bincount(labels, minlength=classes)
    return {
        "precision": hits / np.maximum(named, 1),
        "recall": hits / np.maximum(support, 1),
        "f1": 2 * hits / np.maximum(named + support, 1),
        "support": support,
    }


def macro_f1(predicted: np.ndarray, labels: np.ndarray) -> float:
    """Mean F1 over the classes that occur among labels or predictions, as scikit-learn's `f1_score(average="macro")`.

    Classes that occur in neither are left out, else a small split of a dataset with many classes scores near 0.
    """
    _, packed = np.unique(np.concatenate([predicted, labels]), return_inverse=True)
    classes = int(packed.max()) + 1
    return float(per_class(packed[: len(predicted)], packed[len(predicted) :], classes)["f1"].mean())


def balanced_accuracy(predicted: np.ndarray, labels: np.ndarray) -> float:
    """Mean recall over the classes that occur among the labels, as scikit-learn's `balanced_accuracy_score`
    (Brodersen et al. 2010, The Balanced Accuracy and Its Posterior Distribution)."""
    _, packed, sizes = np.unique(labels, return_inverse=True, return_counts=True)
    hits = np.bincount(packed[predicted == labels], minlength=len(sizes))
    return float((hits / sizes).mean())


def calibration_error(confidence: np.ndarray, predicted: np.ndarray, labels: np.ndarray) -> float:
    """Expected calibration error with 15 equal-width bins (Guo et al. 2017, arXiv 1706.04599, equation 3): the mean
    over bins, weighted by rows, of |share correct − mean confidence|."""
    _, sure, right = calibration_bins(confidence, predicted, labels)
    return float(np.abs(right - sure).sum() / len(labels))


def calibration_bins(
    confidence: np.ndarray, predicted: np.ndarray, labels: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of each of the 15 bins its rows int64, the sum of their confidences, and how many are right, float64.

    Bin m holds the rows with confidence in ((m−1)/15, m/15].
    """
    bins = np.clip(np.ceil(confidence * ECE_BINS).astype(np.int64) - 1, 0, ECE_BINS - 1)
    rows = np.bincount(bins, minlength=ECE_BINS)
    sure, right = (np.bincount(bins, weights=each, minlength=ECE_BINS) for each in (confidence, predicted == labels))
    return rows, sure, right


def accuracy_interval(share: float, rows: int) -> tuple[float, float]:
    """95 % percentile bootstrap interval of an accuracy (Efron & Tibshirani 1993, chapter 13), 2,000 resamples.

    Rows are right or wrong, so resampling `rows` of them with replacement and counting the right ones is a binomial
    draw with probability `share`: drawing that instead is the same distribution, exactly. Seeded.
    """
    draws = np.random.default_rng(0).binomial(rows, share, RESAMPLES) / rows
    low, high = np.percentile(draws, [2.5, 97.5])
    return float(low), float(high)


def confusion_matrix(predicted: np.ndarray, labels: np.ndarray, classes: int) -> np.ndarray:
    """int64 [C, C]: rows are labels, columns predictions."""
    return np.bincount(labels * classes + predicted, minlength=classes**2).reshape(classes, classes)


def confused_pairs(predicted: np.ndarray, labels: np.ndarray, most: int) -> list[Mapping[str, int]]:
    """The `most` frequent mistakes as `{label, predicted, count}`, the most frequent first; never builds [C, C]."""
    wrong = predicted != labels
    pairs, counts = np.unique(np.stack([labels[wrong], predicted[wrong]], axis=1), axis=0, return_counts=True)
    order = np.argsort(-counts, kind="stable")[:most]
    return [{"label": int(pairs[i, 0]), "predicted": int(pairs[i, 1]), "count": int(counts[i])} for i in order.tolist()]
