"""`--json`: of every verb one document on standard output and nothing else, of its errors one too."""

from __future__ import annotations

import contextlib
import io
import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hf_finetune.cli import EXIT_CODES, VERBS, build_parser, main
from hf_finetune.cli.document import as_json, documents_only, print_document
from hf_finetune.cli.verbs import plan
from tests.cli.photos import CLASSES, write_photos
from tests.cli.recipes import write_recipe

REPO = Path(__file__).resolve().parents[2]


def said(*arguments: object) -> tuple[int, str, str]:
    """Exit code, standard output and standard error of a command in this process."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            code = main([str(each) for each in arguments])
        except SystemExit as end:
            code = int(end.code or 0)
    return code, out.getvalue(), err.getvalue()


def document(text: str) -> Any:
    """The one document that `text` is, strictly."""

    def refuse(name: str) -> None:
        raise AssertionError(f"{name} is no JSON")

    return json.loads(text, parse_constant=refuse)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, tuple[int, str, str]]:
    """The folder of a recipe whose run has ended, and what the command said."""
    folder = tmp_path_factory.mktemp("json")
    photos = write_photos(folder / "photos")
    (folder / "photos" / "broken.jpg").write_bytes(b"no image")
    recipe = write_recipe(folder, model=Path("builtin:starter"), data=photos, epochs=1, learning_rate=0.001)
    return folder, said("train", recipe, "ladder=[probe]", "data.max_bad_share=0.1", "--json")


def one_row_less(at: Path) -> Path:
    """A table for `fix`."""
    row = json.loads((at / "run" / "splits.json").read_text(encoding="utf-8"))["names"]["train"][0]
    table = at / "fix.csv"
    table.write_text(f"path,action\n{row},exclude\n", encoding="utf-8")
    return table


Commands = Callable[[Path], Sequence[object]]
ANSWERED: dict[str, Commands] = {
    "train": lambda at: ("train", at / "recipe.yaml", "ladder=[probe]", "data.max_bad_share=0.1"),  # nothing to do
    "plan": lambda at: ("plan", at / "recipe.yaml"),
    "check": lambda at: ("check", at / "recipe.yaml"),
    "evaluate": lambda at: ("evaluate", at / "run"),
    "predict": lambda at: ("predict", at / "run", at / "photos" / "test" / "1" / "0.jpg"),
    "push": lambda at: ("push", at / "run", "--repo", "anna/leaves", "--dry-run"),
    "export": lambda at: ("export", at / "run", at / "whole"),
    "lr-find": lambda at: ("lr-find", at / "recipe.yaml", "--steps", 10, "--plot", at / "curve.png"),
    "rank": lambda at: ("rank", "builtin:starter", at / "none", "--data", at / "photos" / "train"),
    "doctor": lambda at: ("doctor", at / "recipe.yaml", "--out", at / "doctor"),
    "fix": lambda at: ("fix", at / "run", one_row_less(at), "--no-test", "--overwrite"),
    "compare": lambda at: ("compare", at / "run", at / "run"),
    "report": lambda at: ("report", at / "run"),
    "recipes": lambda _: ("recipes", "list"),
    "cache": lambda at: ("cache", "--dir", at / "cache"),
    "env": lambda _: ("env",),
    "docs": lambda _: ("docs", "csv"),
}
REFUSED: dict[str, Commands] = {
    "train": lambda at: ("train", at / "none.yaml"),
    "plan": lambda at: ("plan", at / "recipe.yaml", "train.epochs=-1"),
    "check": lambda at: ("check", at / "recipe.yaml", "train.epoch=1"),
    "evaluate": lambda at: ("evaluate", at / "none"),
    "predict": lambda at: ("predict", at / "none", at / "x.jpg"),
    "push": lambda at: ("push", at / "none", "--repo", "anna/leaves"),
    "export": lambda at: ("export", at / "none", at / "elsewhere"),
    "lr-find": lambda at: ("lr-find", at / "recipe.yaml", "--plot", at / "none" / "x.png"),
    "rank": lambda at: ("rank", "builtin:starter", "--data", at / "photos", "--images", 1),
    "doctor": lambda at: ("doctor", at / "recipe.yaml", "--apply", at / "recipe.yaml"),
    "fix": lambda at: ("fix", at / "run", at / "none.csv"),
    "demo": lambda at: ("demo", at / "none"),
    "compare": lambda at: ("compare", at / "none"),
    "report": lambda at: ("report", at / "none"),
    "recipes": lambda _: ("recipes", "show", "quikstart"),
    "cache": lambda _: ("cache", "clean"),
    "env": lambda _: ("env", "--unknown"),
    "docs": lambda _: ("docs", "no such thing"),
}


def test_no_verb_is_left_out() -> None:
    assert set(REFUSED) == set(VERBS)
    assert set(ANSWERED) == set(VERBS) - {"demo"}  # which answers until it is ended: tests/pipeline/demo


@pytest.mark.e2e
def test_train_prints_its_report_and_nothing_else(trained: tuple[Path, tuple[int, str, str]]) -> None:
    folder, (code, out, err) = trained
    assert code == 0, err
    found = document(out)
    assert found == {
        "run": str(folder / "run"),
        "result": str(folder / "run" / "adapter"),
        **json.loads((folder / "run" / "run.json").read_text("utf-8")),
        "pushed": [],
    }
    assert CLASSES[2] in out and "probe" in err


@pytest.mark.e2e
@pytest.mark.parametrize("verb", ANSWERED)
def test_every_verb_answers_with_one_document(trained: tuple[Path, tuple[int, str, str]], verb: str) -> None:
    code, out, err = said(*ANSWERED[verb](trained[0]), "--json")
    assert code == 0, err
    assert isinstance(document(out), dict | list)


@pytest.mark.e2e
@pytest.mark.parametrize("verb", REFUSED)
def test_every_verb_refuses_with_one_document(trained: tuple[Path, tuple[int, str, str]], verb: str) -> None:
    code, out, err = said(*REFUSED[verb](trained[0]), "--json")
    assert code == 2
    error = document(out)["error"]
    assert set(error) == {"kind", "message", "hint"} and error["kind"].endswith("Error") and error["message"]
    assert error["message"].splitlines()[0] in err


@pytest.mark.e2e
def test_predict_answers_an_image_a_line_also_the_one_it_cannot_read(
    trained: tuple[Path, tuple[int, str, str]],
) -> None:
    at = trained[0]
    green = at / "photos" / "test" / CLASSES[2] / "0.jpg"
    code, out, _ = said("predict", at / "run", green, at / "photos" / "broken.jpg", green, "--json")
    lines = [document(line) for line in out.splitlines()]
    assert code == 2 and [line["image"] for line in lines] == [
        str(green),
        str(at / "photos" / "broken.jpg"),
        str(green),
    ]
    assert lines[1]["error"]  # why it could not be read, as the tables of --out have it
    assert "error" not in lines[0] and CLASSES[2] in out


@pytest.mark.e2e
def test_whatever_libraries_print_stays_out_of_the_document(trained: tuple[Path, tuple[int, str, str]]) -> None:
    """transformers prints a line when it is imported with WANDB_MODE=offline; and the bytes are UTF-8 on any system."""
    command = [sys.executable, "-m", "hf_finetune", "evaluate", str(trained[0] / "run"), "--json"]
    variables = {"WANDB_MODE": "offline", "PYTHONIOENCODING": "ascii", "PYTHONPATH": str(REPO)}
    done = subprocess.run(command, capture_output=True, env={**os.environ, **variables}, check=True)
    assert CLASSES[2] in json.dumps(document(done.stdout.decode("utf-8")), ensure_ascii=False)


def test_a_number_that_is_none_is_null_and_numpys_are_pythons() -> None:
    content = {"a": float("nan"), "b": [np.float32(0.5), np.float64("inf")], 3: np.arange(2), "d": Path("x"), "e": None}
    assert as_json(content) == {"a": None, "b": [0.5, None], "3": [0, 1], "d": "x", "e": None}


def test_what_is_printed_beside_a_document_goes_to_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    with documents_only():
        print("a library's hint")
        print_document({"grün": 1})
    out, err = capsys.readouterr()
    assert out == '{\n "grün": 1\n}\n' and err == "a library's hint\n"


@pytest.mark.parametrize("place", [0, 1])
def test_the_switch_may_stand_before_the_verb_and_behind_it(place: int) -> None:
    words = ["recipes", "list"]
    words.insert(2 * place, "--json")
    code, out, _ = said(*words)
    assert code == 0 and "quickstart" in [each["name"] for each in document(out)]


def test_what_argparse_refuses_is_a_document_too() -> None:
    code, out, err = said("plan", "--jsno", "--json")
    assert code == 2 and document(out)["error"]["kind"] == "UsageError" and "unrecognized arguments: --jsno" in err
    assert said("plan", "--jsno")[1] == ""


@pytest.mark.parametrize(
    ("raised", "kind", "code"),
    [
        (KeyboardInterrupt("ended by signal 15"), "Interrupted", 130),
        (PermissionError(13, "Permission denied", "locked"), "PermissionError", 2),
    ],
)
def test_other_ends_are_documents_too(
    raised: BaseException, kind: str, code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def end(_: object) -> int:
        raise raised

    monkeypatch.setattr(plan, "run", end)  # what a person or the system would do
    found, out, _ = said("plan", "--json")
    assert (found, document(out)["error"]["kind"]) == (code, kind)


def test_a_bug_is_a_document_and_a_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: object) -> int:
        raise ZeroDivisionError("division by zero")

    monkeypatch.setattr(plan, "run", fail)
    out = io.StringIO()
    with contextlib.redirect_stdout(out), pytest.raises(ZeroDivisionError):
        main(["plan", "--json"])
    assert document(out.getvalue())["error"]["kind"] == "ZeroDivisionError"


def test_exit_codes_are_in_the_help_and_in_the_cookbook() -> None:
    shown, page = build_parser().format_help(), (REPO / "docs" / "cookbook.md").read_text("utf-8")
    for code, meaning in EXIT_CODES.items():
        assert f"{code:<4} {meaning}" in shown
        assert f"| {code} | {meaning}" in page
