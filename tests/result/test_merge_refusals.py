"""What cannot be written as a whole model: the reason is said, and nothing half-written is left."""

from __future__ import annotations

import json
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file

from hf_finetune import load
from hf_finetune.adapters import Full, Lora
from hf_finetune.backbones.config import Model
from hf_finetune.backbones.load import load_backbone
from hf_finetune.errors import AdapterError, MachineError, ModelError
from hf_finetune.labels import Labels
from hf_finetune.result.manifest import read_manifest
from hf_finetune.result.merge import write_merged
from hf_finetune.result.save import stage
from tests.backbones.small import edit_config, write_vit
from tests.matrix.architectures import write_timm, write_transformers
from tests.result.results import LABELS, save_result

# 2026-11-23: peft 0.21.2 reads a property that transformers 5.23 calls deprecated.
pytestmark = [
    pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning"),
    pytest.mark.e2e,
]


@pytest.fixture
def result(tmp_path: Path) -> Path:
    return save_result(write_vit(tmp_path / "base"), Lora(rank=4), tmp_path / "result")


def refused(result: Path, target: Path, base: str | None = None) -> AdapterError | MachineError:
    """The error; and nothing new lies where the folder would have been."""
    before = sorted(target.parent.rglob("*"))
    with pytest.raises((AdapterError, MachineError)) as raised:
        write_merged(result, target, base=base)
    assert sorted(target.parent.rglob("*")) == before
    return raised.value


def test_a_target_with_something_in_it_is_left_alone(result: Path, tmp_path: Path) -> None:
    target = tmp_path / "whole"
    target.mkdir()
    (target / "notes.txt").write_text("mine")
    error = refused(result, target)
    assert (error.message, error.hint) == (
        f"{target} is not empty; nothing was written.",
        "Give a folder that is empty or does not exist.",
    )
    assert refused(result, target / "notes.txt").message == (
        f"{target / 'notes.txt'} is a file; a folder that is empty or absent is expected."
    )
    assert (target / "notes.txt").read_text() == "mine"


def test_an_empty_target_and_absent_parents_are_filled(result: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert write_merged(result, tmp_path / "empty").folder == tmp_path / "empty"
    assert write_merged(result, tmp_path / "a" / "b" / "c").folder == tmp_path / "a" / "b" / "c"
    files = [load_file(tmp_path / place / "model.safetensors") for place in ("empty", "a/b/c")]
    assert files[0].keys() == files[1].keys()
    assert all(torch.equal(tensor, files[1][name]) for name, tensor in files[0].items())


def test_a_moved_base_is_given_by_name_and_another_one_is_refused(result: Path, tmp_path: Path) -> None:
    (tmp_path / "base").rename(tmp_path / "moved")
    merged = write_merged(result, tmp_path / "whole", base=str(tmp_path / "moved"))
    assert merged.difference is not None
    assert merged.difference < 1e-4 * merged.logits_range
    write_transformers("vit", tmp_path / "other", 3)
    assert "was trained on other weights" in refused(result, tmp_path / "no", str(tmp_path / "other")).message


@pytest.mark.filterwarnings("ignore:LoRA adapter added to ConvNd layer with groups:UserWarning")
def test_grouped_convolutions_are_refused_by_name(tmp_path: Path) -> None:
    """Recipes cannot target these; an adapter made with PEFT can."""
    write_transformers("regnet", tmp_path / "base", 3)
    plain = save_result(tmp_path / "base", Lora(rank=4), tmp_path / "plain")
    model = load_backbone(Model(name=str(tmp_path / "base")), Labels(LABELS), dtype=torch.float32, seed=0)
    grouped = [name for name, module in model.named_modules() if getattr(module, "groups", 1) > 1]
    head = list(read_manifest(plain).head)
    config = LoraConfig(r=8, target_modules=grouped[1:3], modules_to_save=head)
    stage(get_peft_model(model, config), tmp_path / "result", read_manifest(plain), "")  # pyright: ignore[reportArgumentType]
    error = refused(tmp_path / "result", tmp_path / "whole")
    assert error.message == (
        f"The adapter changes 2 grouped convolutions, such as {grouped[1]}; into those LoRA cannot be merged."
    )
    assert error.hint == "Publish the adapter alone, without merging."


def test_a_folder_whose_preprocessing_is_not_the_results_is_refused(result: Path, tmp_path: Path) -> None:
    path = result / "preprocessor_config.json"
    content = json.loads(path.read_text())
    for change in ({"image_mean": [0.1, 0.2, 0.3]}, {"resample": 0}, {"size": {"height": 16, "width": 16}}):
        path.write_text(json.dumps({**content, **change}))
        error = refused(result, tmp_path / "whole")
        assert error.message.endswith(": the preprocessing in its preprocessor_config.json gives other pixels.")
        assert error.hint is not None
        assert error.hint.startswith("It was removed; publish the adapter alone, without merging.")


def test_weights_that_are_no_numbers_are_refused(result: Path, tmp_path: Path) -> None:
    path = result / "adapter_model.safetensors"
    weights = load_file(path)
    weights["base_model.model.classifier.bias"][2] = float("inf")
    save_file(weights, path, metadata={"format": "pt"})
    error = refused(result, tmp_path / "whole")
    assert error.message == "The result answers with logits that are no finite numbers."


def test_a_whole_model_whose_weights_are_damaged_is_refused(tmp_path: Path) -> None:
    result = save_result(write_vit(tmp_path / "base"), Full(), tmp_path / "result")
    path = result / "model.safetensors"
    weights = load_file(path)
    lost = weights.pop("vit.layernorm.weight")
    save_file(weights, path, metadata={"format": "pt"})
    assert refused(result, tmp_path / "whole").message == f"{result} lacks 1 weights: vit.layernorm.weight."
    save_file({**weights, "vit.layernorm.weight": lost[:3].clone()}, path, metadata={"format": "pt"})
    assert f"The weights in {result} cannot be read: " in refused(result, tmp_path / "whole").message
    path.write_bytes(path.read_bytes()[:-100])
    assert f"The weights in {result} cannot be read: " in refused(result, tmp_path / "whole").message


def test_a_whole_model_in_shards_is_copied_with_them_and_nothing_else(tmp_path: Path) -> None:
    from transformers import AutoModelForImageClassification

    result = save_result(write_vit(tmp_path / "base"), Full(), tmp_path / "result")
    model = AutoModelForImageClassification.from_pretrained(result)
    (result / "model.safetensors").unlink()
    model.save_pretrained(result, max_shard_size="100KB")
    (result / ".env").write_text("SECRET=1")
    merged = write_merged(result, tmp_path / "whole")
    shards = {name for name in merged.sizes if name.startswith("model-")}
    assert len(shards) > 2
    assert merged.sizes.keys() == {"config.json", "preprocessor_config.json", "model.safetensors.index.json"} | shards
    assert merged.difference is not None
    # Weights from other files lie otherwise in memory, by which a kernel may choose the order of its sums.
    assert merged.difference < 1e-5 * merged.logits_range


def test_weights_that_share_their_memory_are_saved_whole(tmp_path: Path) -> None:
    """safetensors refuses them; timm's CoaT has two names for a convolution."""
    write_timm("coat_lite_tiny", tmp_path / "base", 3)
    result = save_result(tmp_path / "base", Full(), tmp_path / "result", labels=("a", "b", "c"))
    merged = write_merged(result, tmp_path / "whole")
    assert merged.difference is not None
    assert merged.difference < 1e-5 * merged.logits_range  # the order of sums may differ, as above


def test_a_full_disk_is_said(result: Path, tmp_path: Path) -> None:
    """A file-size limit is a disk that is full after 20 kB."""
    resource = pytest.importorskip("resource")
    assert resource
    code = (
        "import resource, signal, sys\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))\n"
        "from hf_finetune.cli import main\n"
        "sys.exit(main(['export', *sys.argv[1:]]))\n"
    )
    target = tmp_path / "out" / "whole"
    done = subprocess.run([sys.executable, "-c", code, str(result), str(target)], capture_output=True, text=True)
    assert done.returncode == 2, done.stderr[-2000:]
    assert f"{target.parent} could not be written to: " in done.stderr
    assert "nothing half-written was left" in done.stderr
    assert "Traceback" not in done.stderr
    assert list(target.parent.iterdir()) == []


def test_a_base_that_is_quantized_already_is_refused_by_that_name(result: Path, tmp_path: Path) -> None:
    """And not as one that holds other weights, whose remedy would be to give the right base."""
    base = write_vit(tmp_path / "quantized")
    edit_config(base, quantization_config={"load_in_8bit": True}, _name_or_path="org/vit")
    whole = tmp_path / "whole"
    for verb in (partial(write_merged, result, whole), partial(load, result)):
        with pytest.raises(ModelError) as raised:
            verb(base=str(base))
        assert f"{str(base)!r} is quantized already (bitsandbytes, int8)" in raised.value.message
        assert "give the unquantized org/vit, as the base model" in raised.value.hint
    assert not whole.exists()
