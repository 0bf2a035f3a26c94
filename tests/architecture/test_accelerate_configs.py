"""The files in `accelerate_configs/`: accelerate reads each, each says when to use it, and two ranks are really two."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parents[2]
CONFIGS = sorted((REPO / "accelerate_configs").glob("*.yaml"))
each_config = pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)

# What a rank sees: the launcher's promise, what accelerate and the HF Trainer make of it, and a sum over the ranks.
RANK = """
import json, os, sys
import torch
from transformers import TrainingArguments
arguments = TrainingArguments(output_dir=sys.argv[1], use_cpu=True, report_to="none")
state = arguments.distributed_state
total = torch.ones(1) * (state.process_index + 1)
if torch.distributed.is_initialized():
    torch.distributed.all_reduce(total)
    torch.distributed.destroy_process_group()
seen = {
    "promised": os.environ.get("WORLD_SIZE"), "rank": state.process_index, "world": arguments.world_size,
    "type": str(state.distributed_type).split(".")[-1], "backend": state.backend, "device": state.device.type,
    "sum": total.item(), "precision": arguments.mixed_precision, "gpus": os.environ.get("CUDA_VISIBLE_DEVICES"),
}
# One write call each: the ranks share this pipe.
os.write(1, (json.dumps(seen) + "\\n").encode())
"""


def launch(tmp_path: Path, code: str, *options: str) -> list[dict[str, object]]:
    """What the ranks saw, in the order of their numbers."""
    script = tmp_path / "rank.py"
    script.write_text(code, encoding="utf-8")
    # Whatever launched this test must not be taken for the launcher of the ranks.
    environment = {key: value for key, value in os.environ.items() if key not in ("MASTER_ADDR", "MASTER_PORT")}
    process = subprocess.run(
        [sys.executable, "-m", "accelerate.commands.launch", *options, str(script), str(tmp_path / "out")],
        env=environment | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert process.returncode == 0, process.stderr
    seen = [json.loads(line) for line in process.stdout.splitlines() if line.startswith("{")]
    return sorted(seen, key=lambda one: one["rank"])


def test_six_configurations_are_shipped() -> None:
    assert [path.stem for path in CONFIGS] == [
        "cpu",
        "cpu_multi",
        "mps",
        "multi_gpu",
        "multi_node",
        "single_gpu",
    ]


@each_config
def test_accelerate_reads_it(path: Path) -> None:
    from accelerate.commands.config.config_args import ClusterConfig, load_config_from_file

    config = load_config_from_file(str(path))
    assert isinstance(config, ClusterConfig)
    assert (config.num_processes > 1) == (path.stem in ("cpu_multi", "multi_gpu", "multi_node"))
    assert config.use_cpu == path.stem.startswith("cpu")
    assert config.mixed_precision == "no"  # another value would override a recipe's fp32


@each_config
def test_it_opens_with_when_to_use_it_how_to_launch_it_and_what_to_change(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert text.startswith("# When to use: ")
    opening = text[: text.index("compute_environment")]
    name = path.relative_to(REPO).as_posix()
    launched = re.findall(
        rf"^#   accelerate launch --config_file {re.escape(name)} .*-m hf_finetune train (\S+)$", opening, flags=re.M
    )
    assert launched
    assert all((REPO / recipe).is_file() for recipe in launched)
    assert "# What to change: " in opening


@pytest.mark.e2e
def test_cpu_multi_runs_two_ranks_on_the_cpu(tmp_path: Path) -> None:
    common = {
        "promised": "2",
        "world": 2,
        "type": "MULTI_CPU",
        "backend": "gloo",
        "device": "cpu",
        "sum": 3.0,
        "precision": "no",
        "gpus": "-1,-1",
    }
    seen = launch(tmp_path, RANK, "--config_file", str(REPO / "accelerate_configs" / "cpu_multi.yaml"))
    assert seen == [{**common, "rank": 0}, {**common, "rank": 1}]


# The same without torch, for what the environment alone tells.
ALONE = """
import json, os
names = ("ACCELERATE_MIXED_PRECISION", "MASTER_PORT", "WORLD_SIZE")
print(json.dumps({"rank": 0, "set": [name for name in names if name in os.environ]}))
"""


@pytest.mark.e2e
def test_the_launch_that_silently_runs_one_process_can_be_told_by_its_environment(tmp_path: Path) -> None:
    """`--cpu --num_processes 2` sets MASTER_PORT, as only a launch for several does, but no WORLD_SIZE."""
    common = ("--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no", "--cpu", "--num_processes")
    two = launch(tmp_path, ALONE, *common, "2")
    assert two == [{"rank": 0, "set": ["ACCELERATE_MIXED_PRECISION", "MASTER_PORT"]}]
    assert launch(tmp_path, ALONE, *common, "1") == [{"rank": 0, "set": ["ACCELERATE_MIXED_PRECISION"]}]
