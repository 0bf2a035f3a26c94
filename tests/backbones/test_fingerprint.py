"""Files of weights that are not what they say, which safetensors itself would refuse later and elsewhere."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from hf_finetune.backbones.config import Model
from hf_finetune.backbones.fingerprint import fingerprint, tensor_places
from hf_finetune.errors import ModelError


def test_places_are_where_the_tensors_are(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    save_file({"a": torch.arange(3.0), "b": torch.arange(4, dtype=torch.int64)}, path)
    content = path.read_bytes()
    found = {name: content[start:end] for name, _, _, _, start, end in tensor_places(path)}
    assert found == {"a": torch.arange(3.0).numpy().tobytes(), "b": torch.arange(4).numpy().tobytes()}


def file_of(header: object, length: int | None = None) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return (len(text) if length is None else length).to_bytes(8, "little") + text + bytes(8)


TENSOR = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "its header cannot be read"),
        (file_of({"a": TENSOR}, 2**62), r"its header is to be 4,611,686,018,427,387,904 bytes of 7\d"),
        (file_of(b"\xff{}"), "its header cannot be read"),
        (file_of(b"[1]"), "its header cannot be read"),
        (file_of({"a": 1}), "its header cannot be read"),
        (file_of({"a": {**TENSOR, "data_offsets": [0]}}), "its header cannot be read"),
        (file_of({"a": {**TENSOR, "data_offsets": ["x", 8]}}), "its header cannot be read"),
        (file_of({"a": {**TENSOR, "data_offsets": [0, 9]}}), "a tensor is to lie outside of the file"),
        (file_of({"a": {**TENSOR, "data_offsets": [-900, 8]}}), "a tensor is to lie outside of the file"),
        (file_of({"a": {**TENSOR, "data_offsets": [8, 0]}}), "a tensor is to lie outside of the file"),
    ],
)
def test_a_header_that_is_none_is_refused(content: bytes, said: str, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(content)
    with pytest.raises(ModelError, match=rf"the weights file model\.safetensors is damaged: {said}"):
        tensor_places(path)


def test_a_pickle_is_told_of_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "vit", "architectures": ["ViTForImageClassification"]}')
    torch.save({"a": torch.arange(3.0)}, tmp_path / "pytorch_model.bin")
    with caplog.at_level("INFO"):
        assert fingerprint(Model(name=str(tmp_path))) == fingerprint(Model(name=str(tmp_path)))
    assert caplog.text.count("pytorch_model.bin is a pickle: torch reads its tensors alone") == 1
