"""The proof that a folder, loaded by stock transformers alone, is the model that it was made from.

Owns the comparison of logits, labels and preprocessing. Does not own how either model came to be.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from hf_finetune.errors import AdapterError
from hf_finetune.stock import is_timm, stock_processor, stock_renderer
from hf_finetune.types import Preprocess

if TYPE_CHECKING:
    from torch import nn

# float32 additions in another order: W x + B A x against (W + B A) x. A share of the logits' range.
TOLERANCE = 1e-3


def generated_pixels(preprocess: Preprocess, count: int = 4) -> np.ndarray:
    """uint8 [count, 3, H, W]: noise of one-pixel and of eight-pixel grain, which filters of every scale respond to."""
    random = np.random.default_rng(0)
    height, width = preprocess.height, preprocess.width
    coarse = random.integers(0, 256, (count, 3, -(-height // 8), -(-width // 8)))
    coarse = coarse.repeat(8, axis=2).repeat(8, axis=3)[:, :, :height, :width]
    fine = random.integers(0, 256, (count, 3, height, width))
    share = np.linspace(0, 1, count)[:, None, None, None]
    return (share * fine + (1 - share) * coarse).astype(np.uint8)


def logits_of(model: nn.Module, pixels: np.ndarray, preprocess: Preprocess) -> np.ndarray:
    """Logits float32 [N, C] of uint8 pixels [N, 3, H, W], four images at a time."""
    import torch

    from hf_finetune.inference import Normaliser

    normalise = Normaliser(preprocess)
    device = next(model.parameters()).device
    with torch.no_grad():
        parts = [
            model(pixel_values=normalise({"pixel_values": torch.from_numpy(pixels[start : start + 4]).to(device)}))
            for start in range(0, len(pixels), 4)
        ]
    return torch.cat([part.logits.float().cpu() for part in parts]).numpy()


def stock_logits(staged: Path, labels: tuple[str, ...], pixels: np.ndarray, preprocess: Preprocess) -> np.ndarray:
    """What `from_pretrained(folder)` answers. Raises AdapterError where weights or labels did not arrive."""
    from transformers import AutoModelForImageClassification

    from hf_finetune.backbones.load import quiet

    with quiet():
        model, report = AutoModelForImageClassification.from_pretrained(staged, output_loading_info=True)
    lost = {what: sorted(map(str, names)) for what, names in report.items() if names}
    if lost:
        raise _broken(f"stock transformers reports {lost}")
    names = tuple(name for _, name in sorted(model.config.id2label.items()))
    if names != labels or model.config.label2id != {name: number for number, name in enumerate(labels)}:
        raise _broken(f"its labels are {list(names)[:5]} … instead of {list(labels)[:5]} …")
    return logits_of(model.eval(), pixels, preprocess)


def compare(expected: np.ndarray, found: np.ndarray) -> float:
    """The largest difference of logits [N, C].

    Raises AdapterError above a thousandth of the range of `expected`, and where that holds NaN or infinity.
    """
    if not np.isfinite(expected).all():
        raise AdapterError(
            "The result answers with logits that are no finite numbers; no model was written.",
            "Train it again, or copy its folder again.",
        )
    difference = float(np.abs(found - expected).max())
    allowed = TOLERANCE * float(np.ptp(expected))
    if not difference <= allowed:  # NaN is caught too
        raise _broken(f"its logits differ by {difference:.3g}, {allowed:.3g} allowed")
    return difference


def check_preprocessing(folder: Path, staged: Path, preprocess: Preprocess) -> None:
    """Raise AdapterError unless `staged`'s stock processor gives the pixels of the result in `folder`, to the byte."""
    from hf_finetune.backbones.preprocess import awkward_images, verify_preprocess

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
    return AdapterError(
        f"The whole model is not the result that it was made from: {what}. It was removed.",
        "Publish the adapter alone, without merging. This is a bug: please report it.",
    )
