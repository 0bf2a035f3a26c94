"""Where backbones are found, and each refusal in its words."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hf_finetune.backbones.checkpoint import builtin_path, find, unquantized_origin
from hf_finetune.backbones.config import Model
from hf_finetune.backbones.facts import read_facts
from hf_finetune.errors import ModelError
from tests.backbones.small import edit_config, write_processor, write_timm, write_vit

ACCEPTED = (
    "an image classifier of transformers whose forward takes pixel_values [B, 3, H, W], or a timm model, is expected"
)


def refusal(name: Path | str, revision: str | None = None) -> ModelError:
    with pytest.raises(ModelError) as raised:
        read_facts(Model(name=str(name), revision=revision))
    return raised.value


def test_an_unknown_builtin_is_refused_with_those_that_exist() -> None:
    error = refusal("builtin:resnet")
    assert error.message == "model.name: 'builtin:resnet' is not a built-in backbone"
    assert error.hint == "there is builtin:starter"


def test_the_starter_is_a_folder_of_the_package() -> None:
    assert builtin_path("builtin:starter").parts[-3:] == ("backbones", "starter", "weights")


def test_a_missing_folder_is_not_taken_for_a_hub_id(tmp_path: Path) -> None:
    error = refusal(tmp_path / "nowhere")
    assert error.message == f"model.name: there is no folder {str(tmp_path / 'nowhere')!r}"
    assert error.hint.startswith("a Hub id such as timm/vit_tiny_patch16_224.augreg_in21k_ft_in1k, a folder,")
    assert refusal("./models/vit").message == "model.name: there is no folder './models/vit'"
    assert refusal("C:\\models\\vit").message == "model.name: there is no folder 'C:\\\\models\\\\vit'"


def test_offline_and_not_cached_says_so() -> None:
    error = refusal("google/vit-base-patch16-224")
    assert error.message == (
        "model.name: 'google/vit-base-patch16-224' is not in this machine's Hub cache, and HF_HUB_OFFLINE is set"
    )
    assert error.hint == (
        "unset HF_HUB_OFFLINE, or fetch it once with `hf download google/vit-base-patch16-224`, or give a folder"
    )


def test_an_impossible_hub_id_is_refused() -> None:
    assert refusal("vit base").message == "model.name: 'vit base' is neither a folder here nor a possible Hub id"


def test_a_folder_has_no_revision(tmp_path: Path) -> None:
    error = refusal(write_vit(tmp_path), revision="main")
    assert error.message == (
        f"model.revision: 'main' is set, but model.name {str(tmp_path)!r} is a folder, without revisions"
    )


def test_a_folder_without_config_or_weights_is_refused(tmp_path: Path) -> None:
    assert refusal(tmp_path).message == f"model.name: {str(tmp_path)!r} holds no config.json"
    (tmp_path / "config.json").write_text("{}")
    error = refusal(tmp_path)
    assert error.message == f"model.name: {str(tmp_path)!r} holds a config.json but no weights"
    assert error.hint.startswith("one of model.safetensors, ")


def test_a_damaged_config_is_refused(tmp_path: Path) -> None:
    (write_vit(tmp_path) / "config.json").write_text('{"model_type": "vi')
    assert refusal(tmp_path).message.startswith(f"model.name: the config.json of {str(tmp_path)!r} cannot be read: ")


def test_an_adapter_is_no_backbone(tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text("{}")
    (tmp_path / "config.json").write_text("{}")
    error = refusal(tmp_path)
    assert error.message == f"model.name: {str(tmp_path)!r} is an adapter, not a backbone"
    assert error.hint.startswith("give the base model that it was trained on")


def test_a_text_model_is_refused_by_its_name(tmp_path: Path) -> None:
    edit_config(write_vit(tmp_path), model_type="bert", architectures=["BertForMaskedLM"])
    error = refusal(tmp_path)
    assert error.message == f"model.name: {str(tmp_path)!r} is no image classifier, it is BertForMaskedLM"
    assert error.hint == ACCEPTED


def test_a_model_that_needs_remote_code_is_refused(tmp_path: Path) -> None:
    edit_config(write_vit(tmp_path), model_type="mystery", auto_map={"AutoConfig": "mystery.Config"})
    assert refusal(tmp_path).message == (
        f"model.name: {str(tmp_path)!r} needs code from its own repository, which is never run here"
    )


def test_a_model_of_one_channel_is_refused(tmp_path: Path) -> None:
    edit_config(write_vit(tmp_path), num_channels=1)
    assert refusal(tmp_path).message == f"model.name: {str(tmp_path)!r} takes images of 1 channels, not 3"


def test_a_timm_architecture_of_another_version_is_refused(tmp_path: Path) -> None:
    edit_config(write_timm(tmp_path), architecture="vit_from_the_future")
    assert refusal(tmp_path).message.startswith(
        f"model.name: {str(tmp_path)!r} (vit_from_the_future) cannot be built, or does not take "
        "pixel_values [1, 3, 32, 32]: ImportError: The model architecture 'vit_from_the_future' is not supported"
    )


@pytest.mark.parametrize(
    ("kind", "arguments", "found"),
    [
        ("imagegpt", {"n_embd": 16, "n_layer": 1, "n_head": 2}, "takes input_ids, "),
        ("siglip2", {}, "(siglip2) cannot be built, or does not take pixel_values [1, 3, 32, 32]: RuntimeError"),
        ("pp_lcnet", {}, "gives no logits instead of logits [1, 2]"),
        ("dinat", {}, "requires the natten library"),
    ],
)
def test_classifiers_that_do_not_take_plain_images_are_refused(
    tmp_path: Path, kind: str, arguments: dict[str, int], found: str
) -> None:
    write_processor(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": kind, **arguments}))
    (tmp_path / "model.safetensors").write_bytes(b"")
    error = refusal(tmp_path)
    assert found in error.message
    assert error.hint == ACCEPTED


@pytest.mark.e2e
def test_a_cached_hub_model_is_read_offline_with_its_commit(tmp_path: Path) -> None:
    import os
    import subprocess
    import sys

    commit = "0123456789abcdef0123456789abcdef01234567"
    repo = tmp_path / "hub" / "models--someone--vit"
    write_vit(repo / "snapshots" / commit)
    (repo / "refs").mkdir()
    (repo / "refs" / "main").write_text(commit)
    code = (
        "from hf_finetune.backbones.config import Model\n"
        "from hf_finetune.backbones.facts import read_facts\n"
        "facts = read_facts(Model(name='someone/vit'))\n"
        "print(facts.commit, facts.library, facts.head)"
    )
    # HF_HOME is read at import, so a process of its own.
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.strip().endswith(f"{commit} transformers ('classifier',)"), done.stderr


def test_a_local_folder_is_found_by_its_absolute_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_vit(tmp_path / "vit")
    monkeypatch.chdir(tmp_path)
    assert find(Model(name="vit")).location == str((tmp_path / "vit").resolve())


BITSANDBYTES = {"quant_method": "bitsandbytes", "bnb_4bit_quant_type": "nf4"}
ALREADY = "it cannot be trained on, predicted with or merged into as a base model"


@pytest.mark.parametrize(
    ("config", "kind", "wanted"),
    [
        # `llm_int8_skip_modules: null` is a head that was quantized, too.
        ({**BITSANDBYTES, "load_in_8bit": True, "llm_int8_skip_modules": None}, "bitsandbytes, int8", "int8"),
        ({**BITSANDBYTES, "load_in_4bit": True, "llm_int8_skip_modules": ["head"]}, "bitsandbytes, nf4", "nf4"),
        ({"quant_method": "gptq", "bits": 4}, "gptq", "int8 or nf4"),
        ({"load_in_8bit": True}, "bitsandbytes, int8", "int8"),
    ],
    ids=["int8", "nf4", "gptq", "of old"],
)
@pytest.mark.parametrize("write", [write_vit, write_timm], ids=["transformers", "timm"])
def test_a_base_that_is_quantized_already_is_refused_from_its_config(
    tmp_path: Path, write: Callable[[Path], Path], config: dict[str, Any], kind: str, wanted: str
) -> None:
    folder = write(tmp_path / "quantized")
    edit_config(folder, quantization_config=config)
    error = refusal(folder)
    assert error.message == f"model.name: {str(folder)!r} is quantized already ({kind}): {ALREADY}"
    assert error.hint == (
        "give the unquantized model that it was made from, as the base model; "
        f"quantization.kind={wanted} then keeps it as small"
    )
    edit_config(folder, quantization_config=None)
    read_facts(Model(name=str(folder)))


def test_the_unquantized_base_is_named_where_config_or_card_tell_it(tmp_path: Path) -> None:
    folder = write_vit(tmp_path / "quantized")
    edit_config(folder, quantization_config={"load_in_8bit": True})
    base = write_vit(tmp_path / "base")
    for named, text in {
        "google/vit-base-patch16-224": "the unquantized google/vit-base-patch16-224,",
        str(base): f"the unquantized {base},",
        "/nowhere/vit": "the unquantized /nowhere/vit, which is no folder on this machine,",
        str(folder): "the unquantized model that it was made from,",
    }.items():
        edit_config(folder, _name_or_path=named)
        assert refusal(folder).hint.startswith(f"give {text} as the base model")
    edit_config(folder, _name_or_path="")
    for block in ("base_model: org/vit", "base_model: [org/vit]"):
        (folder / "README.md").write_text(f"---\n{block}\n---\n")
        assert refusal(folder).hint.startswith("give the unquantized org/vit, as the base model")
    assert unquantized_origin(str(folder)) == (True, "org/vit")
    assert unquantized_origin(str(base)) == (False, None)
    assert unquantized_origin(str(tmp_path / "absent")) == (False, None)


@pytest.mark.parametrize("kind", ["int8", "nf4"])
def test_quantized_weights_whose_config_does_not_say_so_are_refused(tmp_path: Path, kind: str) -> None:
    from transformers import AutoModelForImageClassification, BitsAndBytesConfig

    base = write_vit(tmp_path / "base")
    config = BitsAndBytesConfig(load_in_8bit=kind == "int8", load_in_4bit=kind == "nf4", bnb_4bit_quant_type="nf4")
    model = AutoModelForImageClassification.from_pretrained(base, quantization_config=config)
    model.save_pretrained(tmp_path / "quantized")
    write_processor(tmp_path / "quantized")
    assert f"is quantized already (bitsandbytes, {kind})" in refusal(tmp_path / "quantized").message
    raw = json.loads((tmp_path / "quantized" / "config.json").read_text())
    del raw["quantization_config"]
    (tmp_path / "quantized" / "config.json").write_text(json.dumps(raw))
    assert "is quantized already (bitsandbytes): " in refusal(tmp_path / "quantized").message
