"""What is shown of a long step: the metric fits a narrow terminal, a file gets whole lines, and quiet is quiet."""

from __future__ import annotations

import io
import logging
import re
from collections.abc import Iterator
from contextlib import redirect_stderr

import pytest

from hf_finetune.cli.log import configure_logging
from hf_finetune.report import progress
from hf_finetune.report.progress import Progress, hush


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True

    def screen(self) -> str:
        """What stands there in the end: a carriage return writes over the line."""
        lines = []
        for line in self.getvalue().split("\n"):
            shown = ""
            for part in line.split("\r"):
                shown = part + shown[len(part) :]
            lines.append(shown.rstrip())
        return "\n".join(lines)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr(progress, "REDRAW_S", 0.0)
    yield
    hush(False)


def bar(total: int = 12_345) -> Progress:
    step = Progress("training", "update", total, delay_s=0)
    step.to(total // 3)
    step.show(loss="0.534", val_accuracy="0.912")
    return step


@pytest.mark.parametrize("width", [39, 59, 79, 119])
@pytest.mark.parametrize("total", [30, 12_345, 1_234_567])
def test_the_metric_is_never_cut(width: int, total: int) -> None:
    text = bar(total).layout(width)
    assert len(text) <= width
    assert text.startswith("training  33 %") and text.endswith("val accuracy 0.912")
    assert ("loss 0.534" in text and " left, " in text) or width < 79
    assert len(bar(total).layout(20)) <= 20


def test_the_bar_is_as_long_as_what_is_done() -> None:
    assert bar(30).layout(119).startswith("training  33 % [##########....................] 10/30 updates, ")


@pytest.mark.parametrize("width", [12, 39, 79])
def test_a_step_whose_end_nobody_knows_has_a_count_and_no_share(width: int) -> None:
    step = Progress("Predicting", "image", 0, delay_s=0)
    step.to(1234)
    step.show(speed="40/s")
    text = step.layout(width)
    assert len(text) <= width
    assert width < 39 or text == "Predicting: 1,234 images, speed 40/s"


@pytest.mark.usefixtures("quick")
def test_on_a_terminal_one_line_stays_in_its_place_and_what_is_logged_goes_above() -> None:
    with redirect_stderr(terminal := Terminal()):
        configure_logging(debug=False)
        with Progress("probe", "image", 4, delay_s=0) as step:
            step.update()
            logging.getLogger("hf_finetune.data").warning("a worker died")
            step.update()
            assert re.fullmatch(r"a worker died\nprobe  50 % \[#+\.+\] 2/4 images, 0 s left", terminal.screen())
            step.to(4)
    assert re.fullmatch(r"a worker died\nprobe: 4 images in 0\.\d s\n", terminal.screen())
    assert max(map(len, terminal.screen().split("\n"))) < 80


@pytest.mark.usefixtures("quick")
def test_a_step_that_something_else_speaks_of_leaves_no_line() -> None:
    with redirect_stderr(terminal := Terminal()), Progress("training", "update", 4, delay_s=0, says_end=False) as step:
        step.to(2)
        assert terminal.screen().startswith("training  50 %")
        step.close()
    assert terminal.screen() == ""


@pytest.mark.usefixtures("quick")
def test_an_error_takes_the_line_away() -> None:
    with redirect_stderr(terminal := Terminal()):
        with pytest.raises(KeyboardInterrupt), Progress("probe", "image", 4, delay_s=0) as step:
            step.update()
            raise KeyboardInterrupt
        with progress.aside():
            terminal.write("after\n")
    assert terminal.screen() == "probe: 1 image in 0.0 s\nafter\n"


def test_a_file_gets_whole_lines_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    with redirect_stderr(file := io.StringIO()), Progress("training", "update", 36_000) as step:
        for second in range(1, 36_001):  # ten hours
            now[0] = float(second)
            step.show(loss="0.534", val_accuracy="0.912")
            step.update()
    lines = file.getvalue().splitlines()
    assert "\r" not in file.getvalue()
    assert lines[0] == "training: 0 %, 10 of 36,000 updates, 9 h 59 min left, loss 0.534, val accuracy 0.912"
    assert 40 < len(lines) < 90
    assert lines[-1] == "training: 36,000 updates in 10 h 0 min"


def test_a_short_step_says_nothing() -> None:
    with redirect_stderr(file := io.StringIO()), Progress("decoding", "image", 4) as step:
        step.to(4)
    assert file.getvalue() == ""


@pytest.mark.usefixtures("quick")
def test_quiet_shows_nothing_but_warnings() -> None:
    with redirect_stderr(terminal := Terminal()):
        configure_logging(debug=False, quiet=True)
        with Progress("decoding", "image", 4, delay_s=0) as step:
            step.to(4)
            logging.getLogger("hf_finetune.pipeline").info("Reading data")
            logging.getLogger("hf_finetune.pipeline").warning("2 unreadable images are left out")
    assert terminal.getvalue() == "2 unreadable images are left out\n"
    configure_logging(debug=False)
