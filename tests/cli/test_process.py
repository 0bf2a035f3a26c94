"""The command line's own process ends quickly, and says and leaves behind what an ordinary end would."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.e2e

AROUND = """
import atexit, gc, sys, threading, time
from hf_finetune.machine import process as collector
from hf_finetune.cli import VERBS, process

class Verb:
    def run(options):
        assert gc.get_threshold()[0] == collector.RARELY
        atexit.register(print, "a library's handler")
        threading.Thread(target=lambda: (time.sleep(0.5), print("a thread's end"))).start()
        {verb}

VERBS["env"].run = Verb.run
sys.argv = ["hf-finetune", "env"]
process.run()
"""


def ended(verb: str, tmp_path: Path) -> tuple[int, list[str], str]:
    """Exit code, lines and errors of a process whose verb does this; the output goes to a file, so it is buffered."""
    out = tmp_path / "out"
    with out.open("w", encoding="utf-8") as file:
        done = subprocess.run(
            [sys.executable, "-c", AROUND.format(verb=verb)],
            stdout=file,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
            timeout=50,
            # Jobs in the background of a shell inherit an ignored SIGINT.
            preexec_fn=None if os.name == "nt" else lambda: signal.signal(signal.SIGINT, signal.SIG_DFL) and None,
        )
    return done.returncode, out.read_text("utf-8").splitlines(), done.stderr


def test_handlers_threads_and_output_are_whole(tmp_path: Path) -> None:
    code, lines, errors = ended("print('the answer'); return 7", tmp_path)
    assert (code, errors) == (7, "")
    assert lines == ["the answer", "a thread's end", "a library's handler"]


def test_modules_are_not_taken_apart(tmp_path: Path) -> None:
    kept = "sys.kept = type('Kept', (), {'__del__': lambda self: print('taken apart')})(); return 0"
    code, lines, _ = ended(kept, tmp_path)
    assert code == 0
    assert "taken apart" not in lines


def test_a_bug_still_ends_in_a_traceback(tmp_path: Path) -> None:
    code, lines, errors = ended("raise ZeroDivisionError('ours')", tmp_path)
    assert code == 1
    assert "a library's handler" in lines
    assert errors.rstrip().endswith("ZeroDivisionError: ours")


def test_the_collector_is_as_usual_again_after_the_imports(tmp_path: Path) -> None:
    shown = "print(gc.get_threshold()[0] < 200_000, gc.get_freeze_count() > 0)"
    _, lines, _ = ended(f"collector.collect_as_usual(); {shown}; return 0", tmp_path)
    assert "True True" in lines


def test_main_alone_leaves_the_collector_as_it_is() -> None:
    import gc

    from hf_finetune.cli import main

    gc.unfreeze()  # frozen objects that die in between would count
    before = gc.get_threshold(), gc.get_freeze_count()
    assert main(["recipes", "list"]) == 0
    assert (gc.get_threshold(), gc.get_freeze_count()) == before == (before[0], 0)


def test_what_is_logged_after_main_goes_to_the_standard_error_of_that_moment() -> None:
    import contextlib
    import io
    import logging

    from hf_finetune.cli import main

    first, second = io.StringIO(), io.StringIO()
    with contextlib.redirect_stderr(first):
        assert main(["recipes", "list"]) == 0
    first.close()
    with contextlib.redirect_stderr(second):
        logging.getLogger("hf_finetune.data.store.pool").warning("a worker died")
    assert second.getvalue() == "a worker died\n"


@pytest.mark.parametrize(
    "dropped",
    [
        "type('Destroyed', (), {'__del__': lambda self: signal.raise_signal(signal.SIGINT)})()",
        "weakref.finalize(type('Finalised', (), {})(), signal.raise_signal, signal.SIGINT)",
    ],
)
def test_an_interruption_inside_a_destructor_is_not_lost(dropped: str, tmp_path: Path) -> None:
    verb = f"import signal, weakref; {dropped}; time.sleep(60); print('went on'); return 0"
    code, lines, errors = ended(verb, tmp_path)
    assert code == 130
    assert "went on" not in lines
    assert "interrupted" in errors
    assert "Traceback" not in errors


def test_what_else_a_destructor_raises_is_said_as_ever(tmp_path: Path) -> None:
    verb = "type('Destroyed', (), {'__del__': lambda self: 1 / 0})(); return 0"
    code, _, errors = ended(verb, tmp_path)
    assert code == 0
    assert "ZeroDivisionError" in errors
