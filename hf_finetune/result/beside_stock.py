"""Where int8 layers multiply in another way than stock code: on a sample, how far the two answer apart."""

from __future__ import annotations

import logging
from typing import Any

from torch import nn

from hf_finetune.backbones.engines.choose import SAMPLE, evenly
from hf_finetune.labels import Answers
from hf_finetune.result.answers import predict_answers
from hf_finetune.result.manifest import Manifest
from hf_finetune.types import PixelRows

logger = logging.getLogger(__name__)
SHORT_SAMPLE = 16  # rows under a time budget, else SAMPLE: LLM.int8 takes several times as long
STOCK_BATCH = 4  # of its float32 copies: 16 images of ViT-Tiny at once take half a gigabyte


def beside_stock(
    model: nn.Module,
    rows: PixelRows,
    manifest: Manifest,
    answers: Answers,
    *,
    compute: str,
    short: bool,
    batch: int = STOCK_BATCH,
) -> dict[str, Any]:
    """Say and give what LLM.int8, which people have who load the result with stock libraries, says of a sample of
    the rows, whose `answers` by `compute` are known: rows compared, how many are answered otherwise, and the largest
    difference of a confidence. `short`: of fewer rows; `batch`: so many at once."""
    from hf_finetune.backbones.quantized import stock_arithmetic

    chosen = evenly(SHORT_SAMPLE if short else SAMPLE, len(rows))
    with stock_arithmetic(model):
        stock = predict_answers(model, rows, manifest.preprocess, manifest.target, batch=batch, indices=chosen.tolist())
    differ, apart = manifest.target.differences(stock, answers.take(chosen))
    why = (
        f"int8 layers multiplied by quantization.compute {compute}; stock LLM.int8 answers {differ} of {len(chosen)} "
        f"rows otherwise, confidences differ by {100 * apart:.1f} % at most"
    )
    logger.info("%s.", why)
    compared = {"answers_compared": len(chosen), "answers_that_differ": differ, "confidences_differ_by": apart}
    return {"name": compute, "why": why, **compared}
