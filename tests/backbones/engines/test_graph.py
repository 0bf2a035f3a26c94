"""The OpenVINO graph of a frozen network: the same numbers as the torch model's, which stays as it is."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from torch import nn

from hf_finetune.backbones.engines.choose import LARGEST_ERROR, apart
from hf_finetune.backbones.engines.eager import Eager
from hf_finetune.backbones.engines.engine import EngineRefusedError
from hf_finetune.backbones.engines.graph import Graph
from hf_finetune.backbones.surgery.class_token import class_token_only
from hf_finetune.pipeline.train import train
from tests.backbones.engines.nets import images, tiny
from tests.cli.photos import write_photos
from tests.training.rows import SIDE, save_tiny_vit

# Not importorskip: it would import OpenVINO as it stands, which reports that to its makers.
pytestmark = pytest.mark.skipif(
    find_spec("openvino") is None, reason="OpenVINO is not installed: pip install 'hf_finetune[graph]'"
)


@pytest.mark.parametrize(
    ("dtype", "precision", "allowed"), [(torch.float32, "fp32", 1e-4), (torch.bfloat16, "bf16", 0.03)]
)
def test_a_graph_gives_what_the_torch_model_gives(
    tmp_path: Path, dtype: torch.dtype, precision: str, allowed: float
) -> None:
    eager = tiny(tmp_path / "tiny", dtype)
    before = {name: weight.clone() for name, weight in eager.model.state_dict().items()}
    with class_token_only(eager.model.get_submodule("vit.layers.1")):
        graph = Graph(eager, (SIDE, SIDE), precision)
        for count in (1, 3, 16):
            (batch,) = images(1)
            expected, found = eager(batch[:count]), graph(batch[:count])
            assert found.features is not None and found.hidden is not None
            assert found.features.dtype == found.logits.dtype == torch.float32
            assert max(apart(expected, found)) <= allowed
    after = eager.model.state_dict()
    assert all(
        after[name].dtype == weight.dtype and torch.equal(after[name], weight) for name, weight in before.items()
    )


def test_what_cannot_be_converted_is_refused_with_the_reason(tmp_path: Path) -> None:
    eager = tiny(tmp_path / "tiny")
    block: nn.Module = eager.model.get_submodule("vit.layers.0")
    whole = block.forward
    block.forward = lambda hidden, *args, **kwargs: torch.special.erfcx(whole(hidden, *args, **kwargs))
    with pytest.raises(EngineRefusedError, match=r"the conversion failed .*erfcx"):
        Graph(eager, (SIDE, SIDE), "fp32")
    with pytest.raises(EngineRefusedError, match="not in fp16"):
        Graph(Eager(eager.model), (SIDE, SIDE), "fp16")


@pytest.mark.e2e
def test_a_run_whose_recipe_insists_is_passed_by_the_graph_and_says_so(tmp_path: Path) -> None:
    recipe = {
        "model": {"name": str(save_tiny_vit(tmp_path / "tiny")), "engine": "graph"},
        "data": {
            "name": str(write_photos(tmp_path / "photos")),
            "validation_share": 0.2,
            "cache_dir": str(tmp_path / "cache"),
        },
        "ladder": ["probe"],
        "train": {"decode_workers": 1},
        "output": {"dir": str(tmp_path / "run")},
    }
    train(recipe)
    told = json.loads((tmp_path / "run" / "run.json").read_text(encoding="utf-8"))["engine"]["pass"]
    assert told["name"].startswith("OpenVINO in ") and told["features_differ_by"] <= LARGEST_ERROR
    assert told["answers_compared"] == told["images"]
    began = json.loads((tmp_path / "run" / "engine.json").read_text(encoding="utf-8"))
    assert began["engine"].startswith("openvino ")


@pytest.mark.e2e
def test_nothing_is_sent_and_no_number_of_the_user_is_kept(tmp_path: Path) -> None:
    program = (
        "import time, urllib.request\n"
        "sent = []\n"
        "urllib.request.urlopen = lambda request, *_, **__: sent.append(request.host)\n"
        "from hf_finetune.backbones.engines.graph import import_openvino\n"
        "assert import_openvino().Core().available_devices\n"
        "time.sleep(1)\n"
        "assert not sent, sent\n"
    )
    asked = {**os.environ, "HOME": str(tmp_path)}
    for name in ("CI", "TF_BUILD", "JENKINS_URL"):  # where it would say nothing anyway
        asked.pop(name, None)
    done = subprocess.run([sys.executable, "-c", program], env=asked, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert not (tmp_path / "intel").exists()
