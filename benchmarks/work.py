"""Operations that one photo costs in each kind of work, counted on the real model, and what the machine can do.

`forward`: one pass; `full`: a step that trains everything; `lora`: a step of PEFT's example. Dropped patches and cached
blocks cost less: such stages have no share here; the micro-benchmarks count exactly what their steps do.
"""

from __future__ import annotations

import logging
import warnings
from pathlib import Path
from typing import Any

BATCH = 8


def work_of(model: Path) -> dict[str, float]:
    """GFLOP an image by kind, and GFLOP/s of square products by precision, all of this machine's threads."""
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # which peft imports; it misses kernels of no use here
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # between peft and transformers
        return _work_of(model)


def _work_of(model: Path) -> dict[str, float]:
    import torch
    from matmul import count_flops, matmul_rate
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForImageClassification
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()

    def load() -> Any:
        return AutoModelForImageClassification.from_pretrained(model, dtype="float32")

    side = load().config.pretrained_cfg["input_size"][-1]
    pixels = torch.randn(BATCH, 3, side, side)

    def step(network: Any) -> float:
        return count_flops(lambda: network(pixel_values=pixels).logits.sum().backward()) / BATCH / 1e9

    lora = LoraConfig(r=16, lora_alpha=16, target_modules=["qkv"], modules_to_save=["timm_model.head"])
    with torch.no_grad():
        forward = count_flops(lambda: load()(pixel_values=pixels)) / BATCH / 1e9
    device = "cuda" if torch.cuda.is_available() else "cpu"
    rates = {"fp32": torch.float32, "bf16": torch.bfloat16}
    return {
        "forward": forward,
        "full": step(load().train()),
        "lora": step(get_peft_model(load(), lora).train()),
        **{name: matmul_rate(dtype, device) / 1e9 for name, dtype in rates.items()},
    }
