"""`train` under launchers: engines that cut up the weights are refused by every rank, before anything is loaded."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from hf_finetune.errors import MachineError
from hf_finetune.machine.launcher import refuse_engines
from tests.pipeline.launched import CONFIG, ROOT

TWO = ("--num_processes", "2", "--num_machines", "1", "--main_process_port", "0")
PLAIN = ("--mixed_precision", "no", "--dynamo_backend", "no")


@pytest.mark.parametrize(
    ("variable", "engine"),
    [
        ("ACCELERATE_USE_FSDP", "FSDP"),
        ("ACCELERATE_USE_DEEPSPEED", "DeepSpeed"),
        ("ACCELERATE_USE_MEGATRON_LM", "Megatron-LM"),
        ("ACCELERATE_USE_PARALLELISM_CONFIG", "a parallelism_config"),
    ],
)
def test_an_engine_is_refused_by_its_name(variable: str, engine: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(variable, "false")
    refuse_engines()
    monkeypatch.setenv(variable, "true")
    with pytest.raises(MachineError, match=rf"^{engine} was asked for \({variable}\)") as caught:
        refuse_engines()
    for remedy in ("multi_gpu.yaml", "nf4 or int8", "train.checkpointing=true", "model.stream"):
        assert remedy in caught.value.hint


@pytest.mark.e2e
@pytest.mark.parametrize("engine", ["FSDP", "DeepSpeed"])
def test_every_rank_of_a_launch_refuses_at_once(engine: str, tmp_path: Path) -> None:
    """FSDP by accelerate's own switch; DeepSpeed, whose launcher wants it installed, by the variable that it sets."""
    switch = ("--use_fsdp", *PLAIN) if engine == "FSDP" else ("--config_file", str(CONFIG))
    variables = {} if engine == "FSDP" else {"ACCELERATE_USE_DEEPSPEED": "true"}
    launch = [sys.executable, "-m", "accelerate.commands.launch", *switch, *TWO]
    done = subprocess.run(
        [*launch, "-m", "hf_finetune", "train", "recipes/quickstart.yaml", f"output.dir={tmp_path / 'run'}"],
        cwd=ROOT,
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        timeout=240,
    )
    ranks, _, launcher = done.stderr.partition("torch/distributed/elastic")
    assert f"hf-finetune: {engine} was asked for (ACCELERATE_USE_{engine.upper()})" in ranks
    assert "Traceback" not in ranks
    assert re.findall(r"exitcode *: (\d+)", launcher)[0] == "2"
    assert not (tmp_path / "run").exists()
