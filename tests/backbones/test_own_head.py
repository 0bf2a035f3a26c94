"""A checkpoint's own head: which labels it answers by their names, and that its weights arrive in the run's order."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForImageClassification, ViTModel

from hf_finetune.backbones.config import Model
from hf_finetune.backbones.facts import read_facts
from hf_finetune.backbones.load import load_with_head
from hf_finetune.backbones.own_head import OwnHead, match_head
from hf_finetune.labels import Labels
from tests.backbones.small import edit_config, write_timm, write_vit

NAMES = ("a", "b", "c", "d")


@pytest.mark.parametrize(
    ("labels", "rows", "note"),
    [
        (NAMES, (0, 1, 2, 3), "its labels are the run's"),
        (("d", "b", "a", "c"), (3, 1, 0, 2), "its labels are the run's, in another order"),
        (("c", "a"), (2, 0), "the run's 2 labels are among its 4"),
        (("a", "new", "c"), (0, None, 2), "it answers 2 of the run's 3 labels, but not new"),
        (("x", "y"), (None, None), "its labels are not the run's"),
        (("LABEL_0", "LABEL_1"), (None, None), "its labels are not the run's"),
    ],
)
def test_labels_are_found_by_their_names(labels: tuple[str, ...], rows: tuple[int | None, ...], note: str) -> None:
    own = match_head([(name,) for name in NAMES], labels)
    assert (own.rows, own.note) == (rows, note)
    assert own.answers_all is (None not in rows)


def test_a_name_that_could_mean_two_outputs_means_none() -> None:
    outputs = [("crane",), ("tabby, tabby cat",), ("crane",), ("Golden Retriever", "n02099601"), ("Ant",), ("ant",)]
    assert match_head(outputs, ("crane", "tabby cat", "golden_retriever", "ant")).rows == (None, 1, 3, 5)
    assert match_head(outputs, ("tabby", "tabby cat")).rows == (None, None)  # one output, which cannot be both
    assert match_head(outputs, ("ANT", "n02099601")).rows == (None, 3)
    assert match_head(outputs, ("golden retriever", "Golden-Retriever")).rows == (None, None)


def test_names_that_nobody_gave_match_nothing(tmp_path: Path) -> None:
    folder = write_vit(tmp_path, names=("LABEL_0", "LABEL_1", "named"))
    assert read_facts(Model(name=str(folder))).outputs == ((), (), ("named",))
    assert loaded(folder, ("LABEL_0", "LABEL_1", "LABEL_2"))[1].kept == 0


def loaded(folder: Path, labels: tuple[str, ...]) -> tuple[Any, OwnHead]:
    return load_with_head(Model(name=str(folder)), Labels(labels), dtype=torch.bfloat16, seed=0)


@pytest.mark.parametrize("library", ["transformers", "timm", "pickle"])
@pytest.mark.parametrize("labels", [("c", "a", "e", "d", "b"), ("e", "b"), ("new", "d", "a")])
def test_its_weights_are_kept_in_the_runs_order(tmp_path: Path, library: str, labels: tuple[str, ...]) -> None:
    there = ("a", "b", "c", "d", "e")
    if library == "timm":
        folder = write_timm(tmp_path)
        edit_config(folder, label_names=list(there))
    else:
        folder = write_vit(tmp_path, names=there)
    name = "timm_model.head" if library == "timm" else "classifier"
    stock: Any = AutoModelForImageClassification.from_pretrained(folder).get_submodule(name)
    if library == "pickle":
        model = AutoModelForImageClassification.from_pretrained(folder)
        (folder / "model.safetensors").unlink()
        torch.save(model.state_dict(), folder / "pytorch_model.bin")
    model, own = loaded(folder, labels)
    head = model.get_submodule(name)

    assert own.rows == tuple(there.index(each) if each in there else None for each in labels)
    assert head.weight.dtype == torch.float32
    for label, row in enumerate(own.rows):
        if row is not None:
            torch.testing.assert_close(head.weight[label], stock.weight[row], atol=0, rtol=0)
            torch.testing.assert_close(head.bias[label], stock.bias[row], atol=0, rtol=0)
        else:
            assert not head.bias[label]
            assert head.weight[label].std() < 0.03  # fresh


def test_timms_two_names_for_an_output_both_count(tmp_path: Path) -> None:
    folder = write_timm(tmp_path)
    synsets = [f"n0{number}" for number in range(5)]
    edit_config(folder, label_names=synsets, label_descriptions={each: f"kind {each}" for each in synsets})
    assert read_facts(Model(name=str(folder))).outputs[1] == ("n01", "kind n01")
    assert match_head(read_facts(Model(name=str(folder))).outputs, ("n03", "Kind N01")).rows == (3, 1)


def test_a_checkpoint_without_its_head_has_none_whatever_its_config_says(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = write_vit(tmp_path / "with", names=("a", "b"))
    headless = tmp_path / "without"
    ViTModel.from_pretrained(folder, add_pooling_layer=False).save_pretrained(headless)
    (headless / "preprocessor_config.json").write_bytes((folder / "preprocessor_config.json").read_bytes())
    with caplog.at_level("WARNING"):
        model, own = loaded(headless, ("a", "b"))
    assert own.rows == (None, None)
    assert own.text == "fresh: the checkpoint names these labels but holds no head for them"
    assert own.note in caplog.text
    assert 0 < model.get_submodule("classifier").weight.std() < 0.03
