"""What a person sees of a command: quiet, redirected, misspelt."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from hf_finetune.cli.shipped.files import shipped_recipes

pytestmark = pytest.mark.e2e

Cli = Callable[..., tuple[int, str, str]]


def test_a_quiet_run_says_its_result_alone(recipe: Path, cli: Cli) -> None:
    code, out, err = cli("train", recipe, "ladder=[probe]", "-q")
    assert (code, err) == (0, "")
    assert "test accuracy" in out


def test_what_a_run_writes_into_a_file_is_whole_lines(recipe: Path, cli: Cli) -> None:
    code, _, err = cli("train", recipe, "train.epochs=1")
    assert code == 0
    assert "\r" not in err
    assert "more settings: `hf-finetune plan`" in err and "warmup_steps" not in err
    code, out, err = cli("plan", recipe)
    assert "warmup_steps" in out, (code, err)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["trian", "r.yaml"], "there is no verb 'trian'; did you mean train?"),
        (["eval", "runs/x"], "there is no verb 'eval'; did you mean evaluate?"),
        (["lr_find", "r.yaml"], "there is no verb 'lr_find'; did you mean lr-find?"),
        (["fit"], "there is no verb 'fit'; did you mean train?"),
        (["photos.yaml"], "there is no verb 'photos.yaml'; did you mean `hf-finetune train photos.yaml`?"),
        (["xyzzy"], "there is no verb 'xyzzy'; there are train, plan, check, "),
        (["plan", "r.yaml", "--jsno"], "unrecognized arguments: --jsno; did you mean --json?"),
        (["train", "r.yaml", "--lr", "0.003"], "did you mean train.learning_rate=0.003, without --?"),
        (["train", "r.yaml", "--epochs=3"], "did you mean train.epochs=3, without --?"),
        (
            ["evaluate", "r.yaml", "--folds", "5", "--lr", "0.003"],
            "did you mean train.learning_rate=0.003, without --?",
        ),
        (["train", "r.yaml", "--train.batch_size=3"], "unrecognized arguments: --train.batch_size=3"),
    ],
)
def test_a_misspelt_verb_or_option_is_answered_with_the_right_one(
    arguments: list[str], said: str, cli: Cli, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        cli(*arguments)
    assert ended.value.code == 2
    assert said in capsys.readouterr().err


def test_the_version_is_said(cli: Cli, capsys: pytest.CaptureFixture[str]) -> None:
    import hf_finetune

    with pytest.raises(SystemExit) as ended:
        cli("--version")
    assert (ended.value.code, capsys.readouterr().out) == (0, f"hf-finetune {hf_finetune.__version__}\n")


def test_recipes_are_listed_a_line_each_in_a_file(cli: Cli) -> None:
    _, out, _ = cli("recipes", "list")
    assert [line.split()[0] for line in out.splitlines()] == list(shipped_recipes())


@pytest.mark.skipif(os.name == "nt", reason="there are no terminals of this kind")
@pytest.mark.parametrize("columns", [80, 60])
def test_recipes_are_listed_within_a_terminal(columns: int) -> None:
    import fcntl
    import pty
    import struct
    import termios

    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    variables = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES")}
    command = [sys.executable, "-m", "hf_finetune", "recipes", "list"]
    with subprocess.Popen(command, stdin=slave, stdout=slave, env=variables):
        os.close(slave)
        said = b""
        while True:
            try:
                piece = os.read(master, 4096)
            except OSError:  # how a terminal ends that nobody holds any more
                break
            if not piece:
                break
            said += piece
    os.close(master)
    lines = said.decode().splitlines()
    assert max(map(len, lines)) <= columns
    assert not [line for line in lines if line.endswith("-")]
    assert len(lines) > len(shipped_recipes())
