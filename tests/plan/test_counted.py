"""Every adapter and quantizer can be counted without weights, or the plan goes on without a count."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from hf_finetune.backbones.build import read_config
from hf_finetune.backbones.checkpoint import find
from hf_finetune.backbones.config import Model
from hf_finetune.backbones.facts import read_facts
from hf_finetune.plan.counted import Counter, Setting
from hf_finetune.recipe.recipe import load_recipe
from tests.backbones.small import write_timm, write_vit


@pytest.mark.parametrize(
    "sections",
    [
        {"adapter": {"kind": "lora", "dora": True}},
        {"quantization": {"kind": "int8", "compute": "llm_int8"}},
        {"quantization": {"kind": "int8", "compute": "dequantized"}},
        {"quantization": {"kind": "int8", "compute": "integer"}},
        {"quantization": {"kind": "nf4"}},
    ],
)
@pytest.mark.parametrize("library", ["timm", "transformers"])
def test_a_step_of_every_kind_is_counted(library: str, sections: dict[str, Any], tmp_path: Path) -> None:
    settings = {"img_size": 32, "patch_size": 4, "embed_dim": 64, "depth": 2, "num_heads": 2}
    folder = write_timm(tmp_path, "vit_tiny_patch16_224", **settings) if library == "timm" else write_vit(tmp_path)
    model = Model(name=str(folder))
    counter = Counter(read_facts(model, 3), read_config(find(model)), 3)
    found = counter(Setting(load_recipe({**sections, "model": {"name": str(folder)}}), "cpu", "bf16", patches=0.5))
    assert found is not None
    assert found.peak(4, accumulates=False) > found.peak(1, accumulates=False) > 0


def test_what_cannot_be_counted_leaves_the_plan_without_a_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: Any) -> Any:
        raise RuntimeError("not on meta")

    model = Model(name=str(write_vit(tmp_path)))
    counter = Counter(read_facts(model, 3), read_config(find(model)), 3)
    dora = {"adapter": {"kind": "lora", "dora": True}, "quantization": {"kind": "nf4"}}  # peft reads weights there
    counter(Setting(load_recipe({**dora, "model": {"name": str(tmp_path)}}), "cpu", "bf16"))
    monkeypatch.setattr(Counter, "build", fails)
    assert counter(Setting(load_recipe({"model": {"name": str(tmp_path)}}), "cpu", "fp32")) is None
