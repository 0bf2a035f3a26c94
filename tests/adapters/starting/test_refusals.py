"""Each adapter that cannot be a start is refused before anything is trained, in its own words."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LNTuningConfig, get_peft_model

from hf_finetune.adapters import Lora
from hf_finetune.adapters.starting.fetch import fetch_adapter
from hf_finetune.adapters.starting.start import read_start
from hf_finetune.backbones.config import Model
from hf_finetune.backbones.facts import read_facts
from hf_finetune.backbones.renamed_modules import module_names
from hf_finetune.errors import AdapterError, FinetuneError
from hf_finetune.pipeline.prepare import follow_start
from hf_finetune.recipe.recipe import load_recipe
from hf_finetune.types import BackboneFacts
from tests.adapters.starting.foreign import edit, edit_weights, load_base, save_foreign
from tests.backbones.small import write_resnet, write_vit

# 2026-11-23: peft 0.21.2 reads a property that transformers 5.23 calls deprecated.
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")
LOOK = "a Hub id such as user/adapter or user/adapter@revision, or a folder that holds adapter_config.json, is expected"
LABELS = ("x", "y", "z")
PLAIN = "give a plain LoRA: one rank and one scale for all of its modules, nothing but low-rank factors and a head"
INCOMPLETE = "it is incomplete, or belongs to another base model"


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_vit(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="module")
def facts(base: Path) -> BackboneFacts:
    return read_facts(Model(name=str(base)), 3)


@pytest.fixture
def adapter(base: Path, tmp_path: Path) -> Path:
    return save_foreign(base, tmp_path / "adapter")


def refusal(base: Path, facts: BackboneFacts, written: Path | str, **settings: Any) -> FinetuneError:
    recipe = load_recipe({"model": {"name": str(base)}, "adapter": {"from": str(written), **settings}})
    with pytest.raises(AdapterError) as raised:
        follow_start(recipe, facts, LABELS)
    return raised.value


# ------------------------------------------------------------------------------------------------------ where it lies


def test_a_folder_that_is_not_there(base: Path, facts: BackboneFacts, tmp_path: Path) -> None:
    error = refusal(base, facts, tmp_path / "nowhere")
    assert error.message == f"adapter.from: there is no folder {str(tmp_path / 'nowhere')!r}"
    assert error.hint == LOOK
    assert refusal(base, facts, "./adapter").message == "adapter.from: there is no folder './adapter'"


def test_a_folder_that_holds_none(base: Path, facts: BackboneFacts, tmp_path: Path) -> None:
    assert refusal(base, facts, tmp_path).message == f"adapter.from: {str(tmp_path)!r} holds no adapter_config.json"


def test_a_whole_model(base: Path, facts: BackboneFacts) -> None:
    error = refusal(base, facts, base)
    assert error.message == f"adapter.from: {str(base)!r} is a whole model, not an adapter"
    assert error.hint == f"set model.name={base} instead"


def test_a_pickle_is_never_read(base: Path, facts: BackboneFacts, adapter: Path) -> None:
    (adapter / "adapter_model.safetensors").rename(adapter / "adapter_model.bin")
    error = refusal(base, facts, adapter)
    assert error.message == (
        f"adapter.from: {str(adapter)!r} holds its weights only as adapter_model.bin, a pickle, which can run any code "
        "when it is read"
    )
    assert error.hint == "ask its author for adapter_model.safetensors (PEFT writes it unless told otherwise)"
    (adapter / "adapter_model.bin").unlink()
    assert refusal(base, facts, adapter).message == (
        f"adapter.from: {str(adapter)!r} holds no adapter_model.safetensors"
    )


def test_not_in_the_cache_and_offline(base: Path, facts: BackboneFacts) -> None:
    error = refusal(base, facts, "user/other@v2")
    assert error.message == (
        "adapter.from: 'user/other' at revision 'v2' is not in this machine's Hub cache, and HF_HUB_OFFLINE is set"
    )
    assert error.hint == "unset HF_HUB_OFFLINE, or fetch it once with `hf download user/other`, or give a folder"


def test_what_no_hub_id_can_be(base: Path, facts: BackboneFacts) -> None:
    assert refusal(base, facts, "my adapter").message == (
        "adapter.from: 'my adapter' is neither a folder here nor a possible Hub id"
    )


# --------------------------------------------------------------------------------------------------------- what it is


def test_damaged_files(base: Path, facts: BackboneFacts, adapter: Path) -> None:
    weights = adapter / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:200])
    error = refusal(base, facts, adapter)
    assert error.message.startswith(f"adapter.from: adapter_model.safetensors of {str(adapter)!r} is damaged: ")
    (adapter / "adapter_config.json").write_text('{"peft_type": "LO')
    error = refusal(base, facts, adapter)
    assert error.message.startswith(f"adapter.from: {str(adapter)!r}: its adapter_config.json cannot be used: ")


def test_another_method(base: Path, facts: BackboneFacts, tmp_path: Path) -> None:
    other = get_peft_model(load_base(base, 3), LNTuningConfig(target_modules=["classifier"]))
    other.save_pretrained(str(tmp_path / "other"), save_embedding_layers=False)
    error = refusal(base, facts, tmp_path / "other")
    assert error.message == (f"adapter.from: {str(tmp_path / 'other')!r} is an adapter of the kind LN_TUNING, not LoRA")


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"rank_pattern": {"layers.0.attention.q_proj": 2}}, "rank_pattern"),
        ({"alpha_pattern": {"q_proj": 2}, "bias": "lora_only"}, "bias, alpha_pattern"),
        ({"lora_bias": True}, "lora_bias"),
        ({"init_lora_weights": "pissa"}, "init_lora_weights=pissa"),
    ],
    ids=str,
)
def test_options_that_a_recipe_has_no_key_for(
    base: Path, facts: BackboneFacts, tmp_path: Path, options: dict[str, Any], named: str
) -> None:
    adapter = edit(save_foreign(base, tmp_path / "adapter"), **options)
    error = refusal(base, facts, adapter)
    assert error.message == f"adapter.from: {str(adapter)!r} uses {named}, for which a recipe has no key"
    assert error.hint == PLAIN


def test_modules_trained_in_full_beside_the_head(base: Path, facts: BackboneFacts, tmp_path: Path) -> None:
    adapter = save_foreign(base, tmp_path / "adapter", head=["classifier", "vit.layernorm"])
    error = refusal(base, facts, adapter)
    assert error.message == (
        f"adapter.from: adapter_model.safetensors of {str(adapter)!r} holds, with no place here, 2 weights: "
        "base_model.model.vit.layernorm.bias, base_model.model.vit.layernorm.weight"
    )
    assert error.hint == INCOMPLETE


def test_low_rank_factors_on_the_head_and_on_the_pixels(base: Path, facts: BackboneFacts, tmp_path: Path) -> None:
    on_head = save_foreign(base, tmp_path / "head", head=(), targets=["q_proj", "classifier"])
    assert refusal(base, facts, on_head).message == (
        f"adapter.from: {str(on_head)!r} adapts classifier of {facts.name!r}, which cannot be adapted: it is the head, "
        "which is always trained in full"
    )
    on_pixels = save_foreign(base, tmp_path / "pixels", targets=["q_proj", "projection"])
    assert "patch_embeddings.projection of" in refusal(base, facts, on_pixels).message
    assert "which cannot be adapted: reads the pixels" in refusal(base, facts, on_pixels).message


# ------------------------------------------------------------------------------------------------------ does it fit


def test_missing_weights_are_no_warning(base: Path, facts: BackboneFacts, tmp_path: Path, adapter: Path) -> None:
    edit_weights(adapter, lambda all_: [all_.pop(key) for key in list(all_) if "layers.1" in key])
    key = "vit.layers.1.attention"
    assert refusal(base, facts, adapter).message == (
        f"adapter.from: adapter_model.safetensors of {str(adapter)!r} lacks 4 weights: {key}.q_proj.lora_A, "
        f"{key}.q_proj.lora_B, {key}.v_proj.lora_A and 1 more"
    )
    half = save_foreign(base, tmp_path / "half")
    edit_weights(half, lambda all_: all_.pop("base_model.model.vit.layers.0.attention.q_proj.lora_B.weight"))
    assert refusal(base, facts, half).message.endswith("lacks 1 weights: vit.layers.0.attention.q_proj.lora_B")


def test_weights_that_its_own_config_does_not_name(base: Path, facts: BackboneFacts, adapter: Path) -> None:
    edit(adapter, target_modules=["q_proj"])
    error = refusal(base, facts, adapter)
    assert "holds, although its target_modules do not name them, 2 weights: vit.layers.0.attention.v_proj" in str(error)


def test_another_architecture_and_another_size(base: Path, facts: BackboneFacts, tmp_path: Path) -> None:
    resnet = write_resnet(tmp_path / "resnet")
    other = save_foreign(resnet, tmp_path / "other", targets=["convolution"], head=["classifier.1"], classes=5)
    assert "holds, with no place here, " in refusal(base, facts, other).message
    adapter = save_foreign(base, tmp_path / "adapter")

    def narrower(tensors: dict[str, torch.Tensor]) -> None:
        for key in [key for key in tensors if "lora_A" in key]:
            tensors[key] = tensors[key][:, :32]

    edit_weights(adapter, narrower)
    error = refusal(base, facts, adapter)
    assert error.message == (
        f"adapter.from: {str(adapter)!r} has factors [4, 32] and [64, 4] for vit.layers.0.attention.q_proj, but rank 4 "
        f"on {facts.name!r} takes [4, 64] and [64, 4]"
    )
    assert error.hint == "it belongs to another base model: give the one that it was trained on as model.name"


def read(base: Path, facts: BackboneFacts, adapter: Path, fingerprint: str | None = None) -> None:
    read_start(fetch_adapter(str(adapter)), facts, module_names(Model(name=str(base))), LABELS, fingerprint)


def test_the_name_of_another_base_on_the_hub(base: Path, facts: BackboneFacts, adapter: Path) -> None:
    """Shapes of a base in another training are the same, and its adapter would be noise here."""
    edit(adapter, base_model_name_or_path="google/vit-base-patch16-224-in21k")
    on_hub = replace(facts, name="google/vit-base-patch16-224", commit="1" * 40)
    with pytest.raises(AdapterError) as raised:
        read(base, on_hub, adapter)
    assert raised.value.message == (
        f"adapter.from: {str(adapter)!r} was trained on 'google/vit-base-patch16-224-in21k', but model.name is "
        "'google/vit-base-patch16-224'"
    )
    assert raised.value.hint == (
        "set model.name=google/vit-base-patch16-224-in21k; where both are the same weights, change "
        "base_model_name_or_path in a copy of the adapter"
    )
    read(base, replace(on_hub, name="Google/ViT-base-patch16-224-in21k"), adapter)
    read(base, on_hub, adapter, "a fingerprint decides instead, once the weights are there")


def test_an_adapter_of_a_quantized_copy_of_the_base(base: Path, facts: BackboneFacts, adapter: Path) -> None:
    """Adapters of others often name a repo that holds the base in 4 bits, which model.name takes from nobody."""
    edit(adapter, base_model_name_or_path="org/vit-bnb-4bit")

    def start(name: str, origin: str | None = None) -> None:
        names, on_hub = module_names(Model(name=str(base))), replace(facts, name=name, commit="1" * 40)
        known = {"org/vit-bnb-4bit": (True, origin)}
        read_start(fetch_adapter(str(adapter)), on_hub, names, LABELS, None, known.__getitem__)

    start("Org/ViT", "org/vit")
    with pytest.raises(AdapterError) as raised:
        start("org/other", "org/vit")
    assert raised.value.message == (
        f"adapter.from: {str(adapter)!r} was trained on 'org/vit-bnb-4bit', but model.name is 'org/other', and "
        "'org/vit-bnb-4bit' cannot be: it is quantized already"
    )
    assert raised.value.hint == "set model.name=org/vit"
    with pytest.raises(AdapterError) as raised:
        start("org/other")
    assert raised.value.hint.startswith("give the unquantized model that it was made from as model.name, and as ")


def test_a_base_that_cannot_be_compared_is_said(
    base: Path, facts: BackboneFacts, adapter: Path, caplog: pytest.LogCaptureFixture
) -> None:
    edit(adapter, base_model_name_or_path="google/vit-base-patch16-224")
    read(base, facts, adapter)
    assert (
        f"adapter.from: {adapter} calls its base 'google/vit-base-patch16-224'; whether those are the weights of "
        f"{facts.name} cannot be told, only that all shapes fit."
    ) in caplog.text


# ----------------------------------------------------------------------------------------------- what the recipe says


@pytest.mark.parametrize(
    ("settings", "said", "hint"),
    [
        ({"rank": 8}, "adapter.rank is 8, but 4 there", "set adapter.rank=4"),
        ({"alpha": 8}, "adapter.alpha is 8, but 12 there", "set adapter.alpha=12"),
        ({"rslora": True}, "adapter.rslora is true, but false there", "set adapter.rslora=false"),
        (
            {"rank": 2, "dora": True},
            "adapter.rank is 2, but 4 there; adapter.dora is true, but false there",
            "set adapter.rank=4 adapter.dora=false",
        ),
    ],
    ids=str,
)
def test_a_recipe_that_says_otherwise(
    base: Path, facts: BackboneFacts, adapter: Path, settings: dict[str, Any], said: str, hint: str
) -> None:
    error = refusal(base, facts, adapter, **settings)
    assert error.message == f"adapter.from: {str(adapter)!r} is another LoRA than the recipe's: {said}"
    assert error.hint == hint


def test_a_dora_that_the_recipe_does_not_ask_for(base: Path, facts: BackboneFacts, tmp_path: Path) -> None:
    error = refusal(base, facts, save_foreign(base, tmp_path / "dora", use_dora=True))
    assert error.message.endswith("is another LoRA than the recipe's: adapter.dora is false, but true there")
    assert error.hint == "set adapter.dora=true"


def test_other_targets(base: Path, facts: BackboneFacts, adapter: Path) -> None:
    error = refusal(base, facts, adapter, targets="all")
    assert error.message == (
        f"adapter.from: {str(adapter)!r} adapts 4 modules, but adapter.targets names 12, not the same"
    )
    assert error.hint == "leave adapter.targets out, or set it to [attention.q_proj, attention.v_proj]"


def test_a_recipe_that_says_the_same_is_taken(base: Path, facts: BackboneFacts, adapter: Path) -> None:
    same = {"rank": 4, "alpha": 12, "rslora": False, "targets": ["q_proj", "v_proj"], "dropout": 0.1}
    recipe = load_recipe({"model": {"name": str(base)}, "adapter": {"from": str(adapter), **same}})
    followed, _ = follow_start(recipe, facts, LABELS)
    assert followed == recipe
    assert isinstance(followed.adapter, Lora)


def test_a_damaged_manifest_of_ours(base: Path, facts: BackboneFacts, adapter: Path) -> None:
    (adapter / "hf_finetune.json").write_text(json.dumps({"format": 1}))
    assert "hf_finetune.json is incomplete" in refusal(base, facts, adapter).message
