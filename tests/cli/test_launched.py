"""`train` under launchers: engines that cut up the weights are refused by every rank, before anything is loaded; and
`train --accelerate`, which is a launcher itself."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from hf_finetune.cli import main
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
    assert caught.value.hint.startswith(f"If no launcher is meant to set it: `unset {variable}`. Launch with")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(MachineError) as caught:
        refuse_engines()
    assert caught.value.hint.startswith("Launch with")


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


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("cpu_mutli", "one of cpu, cpu_multi, mps, multi_gpu, multi_node, single_gpu is expected, or the path"),
        ("multi_node", "main_process_ip, num_machines and num_processes are yours to write"),
    ],
)
def test_a_configuration_that_is_none_is_refused(name: str, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "quickstart", "--accelerate", name]) == 2
    assert said in capsys.readouterr().err


def test_a_process_that_was_launched_launches_none(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "4")
    assert main(["train", "quickstart", "--accelerate", "cpu_multi"]) == 2
    assert "this is already one of 4 that a launcher has started" in capsys.readouterr().err


def command(*words: str) -> list[str]:
    return [sys.executable, "-m", "hf_finetune", "train", *words]


@pytest.mark.e2e
def test_two_processes_get_the_other_options_and_overrides(tmp_path: Path) -> None:
    """And what they answer is this command's: one document, and an exit code."""
    config = tmp_path / "mine.yaml"
    config.write_text(CONFIG.read_text("utf-8"), encoding="utf-8")
    out = tmp_path / "run"
    for words, code in ((("train.seed=3",), 0), (("train.seed=4",), 2)):
        done = subprocess.run(
            command("quickstart", f"--accelerate={config}", "ladder=[probe]", "--json", f"output.dir={out}", *words),
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
        )
        assert done.returncode == code, done.stderr
        said = json.loads(done.stdout)
        if code:
            assert "different there: train.seed (3, now 4)" in said["error"]["message"]
        else:
            assert said["machine"]["world_size"] == 2 and said["recipe"]["train"]["seed"] == 3
        assert "Traceback" not in done.stderr


@pytest.mark.e2e
@pytest.mark.skipif(os.name == "nt", reason="signals are sent in other ways there")
@pytest.mark.parametrize(
    ("name", "number", "variables", "code"),
    [
        ("cpu_multi", signal.SIGINT, {}, 130),
        ("cpu_multi", signal.SIGTERM, {"SLURM_JOB_ID": "7"}, 75),
        ("cpu", signal.SIGTERM, {"SLURM_JOB_ID": "7"}, 75),
    ],
)
def test_a_signal_reaches_the_ranks_which_save(
    name: str, number: signal.Signals, variables: dict[str, str], code: int, tmp_path: Path
) -> None:
    out, log = tmp_path / "run", tmp_path / "log"
    words = ("quickstart", "--accelerate", name, "ladder=[probe, full]", "train.epochs=400", "train.evaluations=400")
    with log.open("wb") as stream:
        process = subprocess.Popen(
            command(*words, f"output.dir={out}"),
            cwd=ROOT,
            env={**os.environ, **variables},
            stdout=stream,
            stderr=subprocess.STDOUT,
        )
    try:
        until = time.monotonic() + 240
        while "eval_loss" not in ((out / "metrics.jsonl").read_text() if (out / "metrics.jsonl").is_file() else ""):
            assert process.poll() is None and time.monotonic() < until, log.read_text()
            time.sleep(0.1)
        process.send_signal(number)
        assert process.wait(240) == code, log.read_text()
    finally:
        process.terminate()
        process.wait(60)
    said = log.read_text()
    assert said.count("interrupted; the best rung so far (probe) is saved in") == 1
    assert "Traceback" not in said and "SignalException" not in said and "death signal" not in said
