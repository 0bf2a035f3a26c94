"""A run.json that was edited by hand: whatever stands at a key, each verb that reads it works or says the key."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from hf_finetune.cli import main
from hf_finetune.errors import FinetuneError, RunFolderError
from hf_finetune.hub.stage import finished_run, stage_run
from hf_finetune.pipeline.finished import read_run
from hf_finetune.pipeline.fix.opened import open_run
from hf_finetune.report.side_by_side import Finished, render_runs
from hf_finetune.report.summary import render_summary
from hf_finetune.run.folder import RunFolder
from tests.pipeline.labelled import write_pictures

pytestmark = pytest.mark.e2e

Place = tuple[str | int, ...]
DROPPED = object()
ODD: tuple[Any, ...] = (None, "odd", [], [1], {}, -1, 0, True, 1e308, DROPPED)
KINDS = {
    "classification": ("data.label_column=tone",),
    "several": ("task.targets={brightness: {log: true}, tone: auto, grade: ordinal, lit: multilabel}",),
}


@pytest.fixture(scope="module", params=KINDS)
def run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A probe on labels of that kind."""
    place = tmp_path_factory.mktemp("edited")
    line = ["model.name=builtin:starter", f"data.name={write_pictures(place / 'pictures')}", "ladder=[probe]"]
    shares = ["data.test_share=0.25", "data.validation_share=0.25", "data.max_bad_share=0.2"]
    assert main(["-q", "train", *line, *shares, f"output.dir={place / 'run'}", *KINDS[request.param]]) == 0
    return place / "run"


def places(value: Any, at: Place = ()) -> Iterator[Place]:
    """Every key, and the first item of every list."""
    if at:
        yield at
    inner = value.items() if isinstance(value, dict) else enumerate(value[:1]) if isinstance(value, list) else ()
    for key, item in inner:
        yield from places(item, (*at, key))


def edited(text: str, at: Place, odd: Any) -> dict[str, Any]:
    content = json.loads(text)
    inner = content
    for key in at[:-1]:
        inner = inner[key]
    if odd is DROPPED:
        del inner[at[-1]]
    else:
        inner[at[-1]] = odd
    return content


def read_everywhere(run: Path, scratch: Path) -> None:
    """What `train` of a finished run, `compare`, `push` and `fix` read of it."""
    found, folder = read_run(RunFolder(run)), finished_run(run)
    assert render_summary(found.report, run)
    assert render_runs([Finished(name, folder.report, found.predictions) for name in ("one", "other")])
    scratch.mkdir(parents=True)
    stage_run(folder, scratch, "anna/edited")
    assert open_run(run).rung


def test_each_key_with_odd_values_gives_a_result_or_a_message(run: Path, tmp_path: Path) -> None:
    text = (run / "run.json").read_text("utf-8")
    cases = [(at, odd) for at in places(json.loads(text)) for odd in ODD]
    refused = 0
    try:
        for number, (at, odd) in enumerate(random.Random(0).sample(cases, 500)):
            (run / "run.json").write_text(json.dumps(edited(text, at, odd)), "utf-8")
            try:
                read_everywhere(run, tmp_path / str(number))
            except FinetuneError as error:
                refused += isinstance(error, RunFolderError)
                assert error.message and error.hint
    finally:
        (run / "run.json").write_text(text, "utf-8")
    assert 150 < refused < 500


@pytest.mark.parametrize("verb", [("report",), ("compare",), ("evaluate",), ("predict", "docs/digit.png")])
def test_each_verb_ends_with_a_code_and_no_traceback(
    run: Path, verb: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    text = (run / "run.json").read_text("utf-8")
    cases = [(at, odd) for at in places(json.loads(text)) for odd in ODD]
    chosen = random.Random(1).sample(cases, 30 if verb[0] in ("report", "compare") else 4)
    chosen += [(("files",), 7), (("data", "labels"), ["odd"]), (("validation", "rows"), DROPPED)]
    codes = []
    try:
        for at, odd in chosen:
            (run / "run.json").write_text(json.dumps(edited(text, at, odd)), "utf-8")
            codes.append(main([verb[0], str(run), *verb[1:]]))
            if codes[-1]:
                assert f"hf-finetune: {run / 'run.json'} is not as a run writes it: " in capsys.readouterr().err
    finally:
        (run / "run.json").write_text(text, "utf-8")
        with suppress(FileNotFoundError):
            (run / "report-without-images.html").unlink()
    assert set(codes) == ({0, 2} if verb[0] in ("report", "compare") else {0})
