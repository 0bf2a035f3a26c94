"""A ladder in four trackers: one run in each, read back by their own readers; interrupted, gone on with, pushed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import yaml
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

import hf_finetune
from hf_finetune.hub.stage import finished_run, stage_run
from tests.cli.photos import write_photos
from tests.pipeline.launched import train as train_on_processes
from tests.tracking.stores import READERS, Points

pytestmark = pytest.mark.e2e

THERE = [tracker for tracker in READERS if find_spec(tracker) is not None]
SECRETS = {"HF_TOKEN": "hf_" + "S3cret" * 6, "WANDB_API_KEY": "5ec2e7" * 7}
RUNGS = ("probe", "cached", "full")


def recipe_in(folder: Path, **sections: Any) -> dict[str, Any]:
    return {
        "model": {"name": "builtin:starter"},
        "data": {"name": str(write_photos(folder / "photos")), "validation_share": 0.25},
        "ladder": list(RUNGS),
        "train": {"epochs": 4, "effective_batch_size": 16, "evaluations": 4, "decode_workers": 1},
        "output": {"dir": str(folder / "grüne Blätter")},
        "tracking": THERE,
        **sections,
    }


@pytest.fixture(scope="module", autouse=True)
def offline() -> Iterator[None]:
    """Nothing is sent, and tokens are there to be found in what is written."""
    if not THERE:
        pytest.skip("no tracker is installed: pip install 'hf_finetune[tracking]'")
    with pytest.MonkeyPatch.context() as patched:
        for name in ("TENSORBOARD_LOGGING_DIR", "MLFLOW_TRACKING_URI", "TRACKIO_DIR", "TRACKIO_SPACE_ID", "WANDB_DIR"):
            patched.delenv(name, raising=False)
        for name, value in {"WANDB_MODE": "offline", **SECRETS}.items():
            patched.setenv(name, value)
        yield


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished run of a user whose home it lies in."""
    folder = tmp_path_factory.mktemp("tracked")
    with pytest.MonkeyPatch.context() as patched:
        for name in ("HOME", "USERPROFILE"):
            patched.setenv(name, str(folder))
        return hf_finetune.train(recipe_in(folder)).folder.path


def read(tracker: str, run: Path) -> tuple[list[str], Points, str]:
    if tracker not in THERE:
        pytest.skip(f"{tracker} is not installed: pip install 'hf_finetune[tracking]'")
    return READERS[tracker](run / "tracking")


def steps_of(points: Points, name: str) -> list[int]:
    return [step for step, _ in points[name]]


def scores(run: Path) -> dict[str, float]:
    """`rung/probe/accuracy` … `test/accuracy`, in order, as run.json has them."""
    report = json.loads((run / "run.json").read_text("utf-8"))
    found = {f"rung/{each['rung']}/accuracy": each["validation"]["accuracy"] for each in report["rungs"]}
    return found | {"test/accuracy": report["test"]["accuracy"]}


@pytest.mark.parametrize("tracker", READERS)
def test_every_rung_and_the_test_are_there_once_and_in_order(run: Path, tracker: str) -> None:
    names, points, settings = read(tracker, run)
    assert names == [run.name]
    expected = scores(run)
    assert list(expected) == [*(f"rung/{rung}/accuracy" for rung in RUNGS), "test/accuracy"]
    found = {name: points[name] for name in expected}
    assert {name: [value for _, value in each] for name, each in found.items()} == {
        name: [pytest.approx(value)] for name, value in expected.items()
    }
    steps = [each[0][0] for each in found.values()]
    assert steps == sorted(set(steps)) and steps[0] == 0
    assert points["eval/accuracy"][0] == (0, pytest.approx(expected["rung/probe/accuracy"]))
    assert "effective_batch_size" in settings and "learning_rate" in settings  # of the recipe, of the plan
    assert "~/photos" in settings.replace("\\", "/") and str(run.parent) not in settings


@pytest.mark.parametrize("tracker", READERS)
def test_the_losses_of_both_trained_rungs_are_one_curve(run: Path, tracker: str) -> None:
    _, points, _ = read(tracker, run)
    steps = steps_of(points, "train/loss")
    assert steps == sorted(set(steps))
    ends = [steps_of(points, f"rung/{rung}/accuracy")[0] for rung in RUNGS]
    assert any(ends[0] < step < ends[1] for step in steps) and any(ends[1] < step < ends[2] for step in steps)


def test_no_token_is_in_what_was_written(run: Path) -> None:
    written = [path for path in (run / "tracking").rglob("*") if path.is_file()]
    assert len(written) > len(THERE)
    found = [
        (path.name, name) for path in written for name, key in SECRETS.items() if key.encode() in path.read_bytes()
    ]
    assert found == []


def test_nothing_of_it_is_pushed(run: Path, tmp_path: Path) -> None:
    stage_run(finished_run(run), tmp_path, "anna/leaves")
    staged = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()}
    assert "adapter_model.safetensors" in staged
    assert not [name for name in staged if "track" in name or "wandb" in name or "event" in name]
    assert "tracking" not in (tmp_path / "recipe.yaml").read_text("utf-8")


class EndOnce(TrainerCallback):
    """Ctrl-C in the full rung, after its second checkpoint; not again where a file says that it has been."""

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        del control, kwargs
        been = Path(str(args.output_dir)).parent / "been"
        if args.save_strategy == "steps" and state.global_step == 2 * args.save_steps + 1 and not been.exists():
            been.touch()
            raise KeyboardInterrupt


@pytest.fixture(scope="module")
def resumed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that was interrupted in its full rung, and gone on with."""
    recipe = recipe_in(tmp_path_factory.mktemp("resumed"))
    with pytest.raises(KeyboardInterrupt):
        hf_finetune.train(recipe, callbacks=[EndOnce()])
    run = Path(recipe["output"]["dir"])
    assert not (run / "run.json").exists()
    assert json.loads((run / "tracking" / "state.json").read_text("utf-8")).keys() == set(THERE)
    hf_finetune.train(recipe, callbacks=[EndOnce()])
    return run


@pytest.mark.parametrize("tracker", READERS)
def test_a_run_that_is_gone_on_with_is_one_run(resumed: Path, tracker: str) -> None:
    names, points, _ = read(tracker, resumed)
    assert names == [resumed.name]
    expected = scores(resumed)
    assert {name: len(points[name]) for name in expected} == dict.fromkeys(expected, 1)
    assert points["test/accuracy"][0][1] == pytest.approx(expected["test/accuracy"])
    for name in ("train/loss", "train/learning_rate", "eval/accuracy"):
        steps = steps_of(points, name)
        assert steps == sorted(set(steps)), name


def test_a_new_try_of_a_folder_begins_anew(resumed: Path) -> None:
    """--overwrite; under a budget of time, in which rungs take as many updates as there is time for."""
    recipe = json.loads((resumed / "run.json").read_text("utf-8"))["recipe"]
    before = json.loads((resumed / "tracking" / "state.json").read_text("utf-8"))
    recipe |= {"output": {**recipe["output"], "existing": "overwrite"}, "ladder": ["probe"]}
    hf_finetune.train({**recipe, "budget": {"time": "0s"}})
    after = json.loads((resumed / "tracking" / "state.json").read_text("utf-8"))
    for tracker in THERE:
        names, points, _ = read(tracker, resumed)
        assert names == [resumed.name] and [step for step, _ in points["test/accuracy"]] == [1]
    for tracker in {"wandb", "mlflow"} & set(THERE):
        assert after[tracker]["id"] != before[tracker]["id"]


@pytest.mark.skipif("tensorboard" not in THERE, reason="tensorboard is not installed")
def test_a_trackers_own_variable_says_where_it_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TENSORBOARD_LOGGING_DIR", str(tmp_path / "boards"))
    sections = {"to": ["tensorboard"], "name": "second try"}
    run = hf_finetune.train(recipe_in(tmp_path, ladder=["probe"], tracking=sections)).folder.path
    assert not (run / "tracking" / "tensorboard").exists()
    assert [path.name for path in (tmp_path / "boards").iterdir()] == ["second try"]
    assert len(list((tmp_path / "boards" / "second try").iterdir())) == 1


@pytest.mark.skipif("tensorboard" not in THERE, reason="tensorboard is not installed")
def test_of_two_processes_one_writes(tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(yaml.safe_dump(recipe_in(tmp_path, ladder=["probe"], tracking=["tensorboard"])), encoding="utf-8")
    train_on_processes(recipe, tmp_path / "two", 2)
    names, points, _ = read("tensorboard", tmp_path / "two")
    assert names == ["two"] and len(points["rung/probe/accuracy"]) == 1 and len(points["test/accuracy"]) == 1
    assert len(list((tmp_path / "two" / "tracking" / "tensorboard" / "two").iterdir())) == 1
