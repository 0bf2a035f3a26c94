"""What a result folder says of itself, read back."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hf_finetune.adapters import HeadOnly
from hf_finetune.backbones.checkpoint import builtin_path
from hf_finetune.errors import AdapterError
from hf_finetune.result.manifest import read_manifest, write_manifest
from tests.result.results import save_result


def test_a_task_of_a_later_version_is_told(tmp_path: Path) -> None:
    result = save_result(builtin_path("builtin:starter"), HeadOnly(), tmp_path / "result")
    manifest = read_manifest(result)
    write_manifest(result, replace(manifest, task={"kind": "segmentation"}))
    with pytest.raises(AdapterError, match=r"a task that this version does not know, segmentation.*\n  Upgrade"):
        read_manifest(result)


def damaged(**changes: Any) -> Callable[[dict[str, Any]], None]:
    """Puts values at places such as preprocess.mean."""

    def change(content: dict[str, Any]) -> None:
        for place, value in changes.items():
            *parents, last = place.split("__")
            inner = content
            for key in parents:
                inner = inner[key]
            inner[last] = value

    return change


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (damaged(labels="abc"), "labels: Input should be a valid tuple"),
        (damaged(labels=[]), "the number of labels: 1 to 1,000,000 is expected, found 0"),
        (damaged(labels=["x" * 2_000]), "a label's length: 0 to 1,000 is expected, found 2,000"),
        (damaged(labels=[1]), "labels.0: Input should be a valid string, found '1'"),
        (damaged(labels=["a", "b", "a"]), "labels: different names are expected"),
        (damaged(adapter={}), "adapter: a kind is expected"),
        (damaged(base=""), "base and head: names are expected"),
        (damaged(head=[]), "base and head: names are expected"),
        (damaged(quantization="gptq"), "quantization: one of none, int8, nf4 is expected"),
        (
            damaged(preprocess__steps=[{"step": "resize_shortest", "edge": 9, "resample": 3}] * 2_000),
            "the number of steps: 0 to 8 is expected, found 2,000",
        ),
        (damaged(task__temperature=0.0), "nothing can be answered: temperature: 0.0625 to 16 is expected, found 0.0"),
        (damaged(task__temperature=-1.0), "nothing can be answered: temperature: 0.0625 to 16 is expected"),
        (damaged(task__temperature="x"), "nothing can be answered: '<=' not supported"),
        (damaged(task__set_threshold="x"), "nothing can be answered: "),
        (damaged(head=[["fc"]]), "head.0: Input should be a valid string"),
        (damaged(fingerprint=None), "fingerprint: Input should be a valid string"),
        (damaged(max_pixels=0), "max_pixels: 1 to 2,147,483,648 is expected, found 0"),
        (damaged(fitted_on=["elsewhere"]), "fitted_on.0: Input should be"),
        (damaged(preprocess__scale=float("nan")), "preprocess.scale: a finite number is expected, found nan"),
        (damaged(preprocess__std=[1.0, 0.0, 1.0]), "std and scale: numbers other than 0 are expected"),
        (damaged(preprocess__mean=[0.5]), "mean: 3 numbers are expected, found 1"),
        (damaged(preprocess__height=10**6), "height and width: 1 to 8,192 is expected, found 1,000,000"),
        (damaged(preprocess__steps=[{"step": "resize", "height": "x", "width": 3, "resample": 3}]), "height: Input"),
        (damaged(preprocess__steps=[{"step": "resize_shortest", "edge": 0, "resample": 3}]), "a step's side: 1 to"),
        (
            damaged(preprocess__steps=[{"step": "resize_shortest", "edge": 9, "resample": 77}]),
            "one of Pillow's filters",
        ),
        (damaged(preprocess__steps=[{"step": "blur"}]), "'blur'"),
        (damaged(preprocess__value_range=[5.0, 1.0]), "value_range: a low and a higher number"),
        (damaged(task={"kind": "regression", "mean": float("inf")}), "task.mean: a finite number is expected"),
        (damaged(surprise=1), "surprise: not known"),
    ],
)
def test_what_no_result_can_state_is_refused_in_words(
    tmp_path: Path, change: Callable[[dict[str, Any]], None], said: str
) -> None:
    result = save_result(builtin_path("builtin:starter"), HeadOnly(), tmp_path / "result")
    file = result / "hf_finetune.json"
    content = json.loads(file.read_text())
    read_manifest(result)
    change(content)
    file.write_text(json.dumps(content))
    with pytest.raises(
        AdapterError, match=r"is incomplete or damaged|task that this|nothing can be answered"
    ) as raised:
        read_manifest(result)
    assert said in raised.value.message


@pytest.mark.parametrize("text", ["", "{", "[1]", "3", "[" * 100_000, '{"format": 1}'])
def test_what_is_no_manifest_is_told(tmp_path: Path, text: str) -> None:
    (tmp_path / "hf_finetune.json").write_text(text)
    with pytest.raises(AdapterError, match=r"hf_finetune\.json (cannot be read|is incomplete|has a format)"):
        read_manifest(tmp_path)
