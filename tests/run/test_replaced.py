"""`--overwrite`: the run that is there stays until the new one has a model, however its start ends."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from hf_finetune.cli import main
from hf_finetune.run.folder import RunFolder
from hf_finetune.run.replaced import is_set_aside, put_back, set_aside
from tests.cli.conftest import cli  # noqa: F401
from tests.cli.photos import write_photos_and_table

pytestmark = pytest.mark.e2e
Cli = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with photos.csv and the finished run of a probe."""
    place = tmp_path_factory.mktemp("replaced")
    assert main(["-q", *line(write_photos_and_table(place), place / "run")]) == 0
    return place


@pytest.fixture
def world(trained: Path, tmp_path: Path) -> Path:
    """A copy that a test may change."""
    return Path(shutil.copytree(trained, tmp_path / "world"))


def line(table: Path, run: Path) -> list[str]:
    return ["train", "model.name=builtin:starter", f"data.name={table}", f"output.dir={run}", "ladder=[probe]"]


def content(folder: Path) -> dict[str, bytes]:
    """Every file but the lock."""
    files = (path for path in folder.rglob("*") if path.is_file() and path.name != "run.lock")
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def test_a_start_that_fails_on_bad_images_leaves_the_run_as_it_was(world: Path, cli: Cli) -> None:  # noqa: F811
    before = content(world / "run")
    for number, photo in enumerate(world.rglob("*.jpg")):
        photo.write_bytes(b"no image any more: %d" % number)
    code, _, err = cli(*line(world / "photos.csv", world / "run"), "train.seed=1", "--overwrite")
    assert code == 2 and f"The run that was in {world / 'run'} is there again, as it was." in err, err
    assert content(world / "run") == before
    assert cli("predict", world / "run", "docs/digit.png")[0] == 0


@pytest.mark.parametrize(
    ("told", "said"),
    [
        ("Reading data: ", "; the run in {} is as it was."),
        # The folder is taken, and nothing is trained.
        ("plan.json in the run folder", "; the run that was in {} is there again, as it was."),
    ],
)
def test_an_interruption_before_the_first_model_leaves_it_too(world: Path, told: str, said: str) -> None:
    before = content(world / "run")
    command = [sys.executable, "-m", "hf_finetune", *line(world / "photos.csv", world / "run"), "train.seed=1"]
    with subprocess.Popen(
        [*command, "--overwrite"],
        stderr=subprocess.PIPE,
        text=True,
        # Jobs in the background of a shell inherit an ignored SIGINT.
        preexec_fn=None if os.name == "nt" else lambda: signal.signal(signal.SIGINT, signal.SIG_DFL) and None,
    ) as process:
        assert process.stderr is not None
        for line_ in process.stderr:
            if told in line_:
                process.send_signal(signal.SIGINT)
                break
        rest = process.stderr.read()
    assert process.returncode == 130, rest
    assert said.format(world / "run") in rest, rest
    assert "goes on with the run" not in rest
    assert content(world / "run") == before


def test_a_new_model_takes_its_place_and_nothing_of_it_is_left(world: Path, cli: Cli) -> None:  # noqa: F811
    (world / "run" / "mine.txt").write_text("a person's own")
    code, _, err = cli(*line(world / "photos.csv", world / "run"), "train.seed=1", "--overwrite")
    assert code == 0, err
    assert json.loads((world / "run" / "run.json").read_text("utf-8"))["recipe"]["train"]["seed"] == 1
    assert not (world / "run" / "replaced").exists() and (world / "run" / "mine.txt").is_file()


def test_after_a_kill_it_can_be_used_and_comes_back_with_its_own_recipe(
    trained: Path,
    world: Path,
    cli: Cli,  # noqa: F811
) -> None:
    run = world / "run"
    before = content(run)
    set_aside(RunFolder(run))  # and then a power cut
    (run / "recipe.yaml").write_text((run / "recipe.yaml").read_text("utf-8").replace("seed: 0", "seed: 1"), "utf-8")
    code, _, err = cli("predict", run, "docs/digit.png")
    assert code == 2 and f"The run that it is to replace is whole in {run / 'replaced'}." in err
    assert cli("predict", run / "replaced", "docs/digit.png")[0] == 0
    code, _, err = cli(*line(trained / "photos.csv", run))
    assert code == 0 and "is finished; nothing to do" in err, err
    assert content(run) == before


def test_what_is_set_aside_twice_is_the_last_that_has_a_model(world: Path) -> None:
    run = RunFolder(world / "run")
    before = content(run.path)
    for _ in range(2):  # the second of a start that was killed before it had one
        set_aside(run)
        run.plan.write_text("{}", "utf-8")
        (run.checkpoints / "checkpoint-5").mkdir(parents=True)
    set_aside(run)
    run.plan.write_text("{}", "utf-8")
    assert is_set_aside(run) and put_back(run) and not put_back(run)
    assert content(run.path) == before


def test_a_table_that_was_edited_is_told_of_a_finished_run(
    trained: Path,
    world: Path,
    cli: Cli,  # noqa: F811
) -> None:
    train = line(trained / "photos.csv", world / "run")
    assert "not as the run wrote it" not in cli(*train)[2]
    with (world / "run" / "predictions.csv").open("a") as file:
        file.write("test,mine,a,b,1\n")
    code, _, err = cli(*train)
    assert code == 0 and f"{world / 'run' / 'predictions.csv'} is not as the run wrote it" in err
