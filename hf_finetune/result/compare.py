"""The proof that a folder, loaded again or by stock transformers alone, is the model that it was made from.

Owns the comparison of logits (after a save, before a push, after a merge), of labels and of preprocessing. Does not own
how either model came to be.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from hf_finetune.errors import AdapterError
from hf_finetune.machine.rounding import SAME_KERNELS, difference
from hf_finetune.preprocess.stock import is_timm, stock_processor, stock_renderer
from hf_finetune.types import Preprocess

_NOT_THE_RESULT = "The whole model is not the result that it was made from"
_PUBLISH_ALONE = "It was removed; publish the adapter alone, without merging. This is a bug: please report it."


def generated_pixels(preprocess: Preprocess, count: int = 4) -> np.ndarray:
    """uint8 [count, 3, H, W]: noise of one-pixel and of eight-pixel grain, which filters of every scale respond to."""
    random = np.random.default_rng(0)
    height, width = preprocess.height, preprocess.width
    coarse = random.integers(0, 256, (count, 3, -(-height // 8), -(-width // 8)))
    coarse = coarse.repeat(8, axis=2).repeat(8, axis=3)[:, :, :height, :width]
    fine = random.integers(0, 256, (count, 3, height, width))
    share = np.linspace(0, 1, count)[:, None, None, None]
    return (share * fine + (1 - share) * coarse).astype(np.uint8)


def stock_logits(staged: Path, labels: tuple[str, ...], pixels: np.ndarray, preprocess: Preprocess) -> np.ndarray:
    """What `from_pretrained(folder)` answers. Raises AdapterError where weights or labels did not arrive."""
    from transformers import AutoModelForImageClassification

    from hf_finetune.backbones.load import quiet
    from hf_finetune.result.answers import logits_of

    with quiet():
        model, report = AutoModelForImageClassification.from_pretrained(
            staged, output_loading_info=True, trust_remote_code=False
        )
    lost = {what: sorted(map(str, names)) for what, names in report.items() if names}
    if lost:
        raise _broken(f"stock transformers reports {lost}")
    names = tuple(name for _, name in sorted(model.config.id2label.items()))
    if names != labels or model.config.label2id != {name: number for number, name in enumerate(labels)}:
        raise _broken(f"its labels are {list(names)[:5]} … instead of {list(labels)[:5]} …")
    return logits_of(model, pixels, preprocess)


def compare(expected: np.ndarray, found: np.ndarray, *, what: str, hint: str, tolerance: float = SAME_KERNELS) -> float:
    """The largest difference of logits [N, C].

    Raises AdapterError, which opens with `what` and has the remedy `hint`, above `tolerance` times the range of
    `expected`, and for another shape; and where `expected` holds NaN or infinity.
    """
    if not np.isfinite(expected).all():
        raise AdapterError(
            "The result answers with logits that are no finite numbers.", "Train it again, or copy its folder again."
        )
    if found.shape != expected.shape:
        raise AdapterError(f"{what}: logits of shape {found.shape}, {expected.shape} expected.", hint)
    apart, allowed = difference(expected, found, tolerance)
    if not apart <= allowed:  # NaN is caught too
        raise AdapterError(f"{what}: logits differ by {apart:.3g}, {allowed:.3g} allowed.", hint)
    return apart


def compare_whole(expected: np.ndarray, found: np.ndarray) -> float:
    """The largest difference of a result's logits [N, C] from the whole model's. Raises AdapterError as `compare`."""
    return compare(expected, found, what=_NOT_THE_RESULT, hint=_PUBLISH_ALONE)


def check_preprocessing(folder: Path, staged: Path, preprocess: Preprocess) -> None:
    """Raise AdapterError unless `staged`'s stock processor gives the pixels of the result in `folder`, to the byte."""
    from hf_finetune.preprocess.describe import awkward_images, verify_preprocess

    processor = stock_processor(str(staged), None)
    images = awkward_images(preprocess.height, preprocess.width)
    same = verify_preprocess(preprocess, processor, images)
    if preprocess.steps is None:  # the processor beside the result is all that is known of its rule
        ours, theirs = stock_renderer(processor), stock_renderer(stock_processor(str(folder), None))
        same = same and all(np.array_equal(ours(image), theirs(image)) for image in images)
    if not same:
        where = "config.json" if is_timm(processor) else "preprocessor_config.json"
        raise _broken(f"the preprocessing in its {where} gives other pixels")


def _broken(what: str) -> AdapterError:
    return AdapterError(f"{_NOT_THE_RESULT}: {what}.", _PUBLISH_ALONE)
