"""Norms that only a classifier reads, and a self-supervised checkpoint therefore lacks, begin with constants."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    AutoConfig,
    AutoModelForImageClassification,
    BeitConfig,
    BeitForMaskedImageModeling,
    BeitModel,
    Data2VecVisionConfig,
    Data2VecVisionModel,
    HieraConfig,
    HieraModel,
    LevitConfig,
    LevitModel,
)

from hf_finetune.backbones.config import Model
from hf_finetune.backbones.load import load_backbone
from hf_finetune.errors import ModelError
from hf_finetune.labels import Labels
from tests.backbones.small import PROCESSOR, edit_weights, write_timm, write_vit

SMALL: dict[str, Any] = {
    "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64, "image_size": 32,
    "patch_size": 8, "out_indices": [0, 1],
}  # fmt: skip
LEVIT: dict[str, Any] = {
    "image_size": 64, "hidden_sizes": [32, 48, 64], "num_attention_heads": [2, 2, 2], "depths": [1, 1, 1],
    "key_dim": [8, 8, 8],
}  # fmt: skip
HIERA: dict[str, Any] = {"image_size": [64, 64], "embed_dim": 16, "depths": [1, 1, 2, 1], "num_heads": [1, 2, 4, 8]}
CASES = {
    "beit": (lambda: BeitForMaskedImageModeling(BeitConfig(**SMALL, vocab_size=16)), 32, ["beit.pooler.layernorm"]),
    "beit model": (lambda: BeitModel(BeitConfig(**SMALL), add_pooling_layer=False), 32, ["beit.pooler.layernorm"]),
    "data2vec": (
        lambda: Data2VecVisionModel(Data2VecVisionConfig(**SMALL), add_pooling_layer=False),
        32,
        ["data2vec_vision.pooler.layernorm"],
    ),
    "hiera": (lambda: HieraModel(HieraConfig(**HIERA), add_pooling_layer=False), 64, ["hiera.pooler.layernorm"]),
    "levit": (lambda: LevitModel(LevitConfig(**LEVIT)), 64, ["classifier.batch_norm"]),
}


def load(folder: Path) -> Any:
    return load_backbone(Model(name=str(folder)), Labels(("a", "b")), dtype=torch.float32, seed=0)


@pytest.mark.parametrize("case", CASES)
def test_a_norm_behind_the_backbone_begins_as_ones_and_zeros(
    case: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    make, side, norms = CASES[case]
    torch.manual_seed(0)
    make().save_pretrained(tmp_path)
    processor = {**PROCESSOR, "size": {"height": side, "width": side}}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(processor))
    with caplog.at_level(logging.INFO):
        model = load(tmp_path)
    bias = 0.02 if case == "hiera" else 0.0  # as transformers begins a Hiera's norms
    for name in norms:
        assert f"has no {name}: it begins with weight 1, bias {bias:g}" in caplog.text
        norm = model.get_submodule(name)
        assert norm.weight.unique().tolist() == [1] and norm.bias.unique().tolist() == [pytest.approx(bias)]
    with torch.no_grad():
        logits = model(pixel_values=torch.randn(2, 3, side, side)).logits
    assert logits.isfinite().all()
    # Stock code, which the card's lines are, begins with the same.
    config = AutoConfig.from_pretrained(tmp_path, num_labels=2)
    stock = AutoModelForImageClassification.from_pretrained(tmp_path, config=config)
    for name in norms:
        for leaf, tensor in stock.get_submodule(name).state_dict().items():
            assert torch.equal(tensor, model.get_submodule(name).state_dict()[leaf])


def test_a_norm_that_a_block_reads_is_missed(tmp_path: Path) -> None:
    write_timm(tmp_path)
    edit_weights(tmp_path, drop="blocks.1.norm2.weight")
    edit_weights(tmp_path, drop="blocks.1.norm2.bias")
    with pytest.raises(ModelError, match=r"lacks 2 weights of the backbone: timm_model\.blocks\.1\.norm2\.bias"):
        load(tmp_path)


def test_half_a_norm_is_damage(tmp_path: Path) -> None:
    edit_weights(write_vit(tmp_path), drop="vit.layernorm.weight")
    with pytest.raises(ModelError, match=r"lacks 1 weights of the backbone: vit\.layernorm\.weight"):
        load(tmp_path)
