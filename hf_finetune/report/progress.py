"""How far a long step is: one line that stays in its place on a terminal, and in a file or a pipe a line now and then.

Owns what is shown and when. Does not own what is logged: a log handler writes inside `aside()`, so that the two do not
run into each other.
"""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType

from hf_finetune.units import format_seconds

REDRAW_S = 0.1
# In a file: a line after so long, and then whenever a tenth of the time so far has passed (60 lines for ten hours).
LINE_S = 10.0
_LONGEST_BAR = 30
_hushed = False
_shown: list[Progress] = []


def hush(quiet: bool) -> None:
    """Whether nothing is shown from now on."""
    global _hushed
    _hushed = quiet


@contextmanager
def aside() -> Iterator[None]:
    """Take the line off the terminal while something else is written there."""
    for each in _shown:
        each.erase()
    try:
        yield
    finally:
        for each in _shown:
            each.draw()


class Progress:
    """One step: `what` is done, `unit`s of it, `total` in all (0: nobody knows), of which `done` were there before.
    Used with `with`.

    Shown after `delay_s`; never with `shown` False (another process speaks). In the end a line says how long it took,
    unless it ended sooner or `says_end` is False (something else is said then).
    """

    def __init__(
        self,
        what: str,
        unit: str,
        total: int,
        *,
        done: int = 0,
        shown: bool = True,
        delay_s: float = 1.0,
        says_end: bool = True,
    ) -> None:
        self._what, self._unit, self.total, self.done = what, unit, total, done
        self._first, self._delay_s, self._says_end = done, delay_s, says_end
        self._figures: dict[str, str] = {}
        self._is_shown = shown and not _hushed
        self._started = time.monotonic()
        self._next = self._started + delay_s
        self._next_line = self._started + LINE_S
        self._drawn = 0  # columns on the terminal
        self._has_terminal = sys.stderr.isatty()

    def __enter__(self) -> Progress:
        return self.open()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def open(self) -> Progress:
        """From now on it may be shown; whoever opens it closes it."""
        if self._is_shown and self._has_terminal:
            _shown.append(self)
        return self

    def update(self, count: int = 1) -> None:
        """`count` more are done."""
        self.to(self.done + count)

    def to(self, done: int, total: int | None = None) -> None:
        """So many are done, of `total` (None: as before)."""
        self.done, self.total = done, self.total if total is None else total
        now = time.monotonic()
        if not self._is_shown or now < self._next:
            return
        if self._has_terminal:
            self._next = now + REDRAW_S
            self.draw()
        elif now >= self._next_line:
            self._next_line = now + max(LINE_S, (now - self._started) / 10)
            self._write(f"{self._line()}\n")

    def show(self, **figures: str) -> None:
        """Figures beside the count from now on, by their names with `_` for a blank; the last one is dropped last."""
        self._figures |= {name.replace("_", " "): value for name, value in figures.items()}

    def close(self) -> None:
        """The step has ended: what was shown gives way to how long it took."""
        if self in _shown:
            _shown.remove(self)
        self.erase()
        took = time.monotonic() - self._started
        if self._is_shown and self._says_end and took >= self._delay_s and self.done > self._first:
            count = self.done - self._first
            self._write(f"{self._what}: {count:,} {self._unit}{'s' * (count != 1)} in {format_seconds(took)}\n")
        self._is_shown = False

    # ------------------------------------------------------------------------------------------------------- writing

    def erase(self) -> None:
        """Blank the line on the terminal."""
        if self._drawn:
            self._write(f"\r{' ' * self._drawn}\r")
            self._drawn = 0

    def draw(self) -> None:
        """Write the line on the terminal, over the last one."""
        if time.monotonic() < self._started + self._delay_s:
            return
        text = self.layout(shutil.get_terminal_size().columns - 1)
        self._write(f"\r{text}{' ' * (self._drawn - len(text))}")
        self._drawn = len(text)

    def layout(self, width: int) -> str:
        """What fits into `width` columns; dropped in this order: bar, unit, figures but the last, count, time left."""
        share = min(1.0, self.done / self.total) if self.total else 0.0
        head = f"{self._what} {100 * share:3.0f} %" if self.total else f"{self._what}:"
        count, left = f"{self.done:,}/{self.total:,}" if self.total else f"{self.done:,}", self._left()
        figures = [f"{name} {value}" for name, value in self._figures.items()]
        last = figures[-1:]
        for parts in ([f"{count} {self._unit}s", left, *figures], [count, left, *figures], [count, left, *last]):
            text = ", ".join(each for each in parts if each)
            room = width - len(head) - len(text) - 4
            if room >= 5 and self.total:
                filled = round(share * min(room, _LONGEST_BAR))
                return f"{head} [{'#' * filled}{'.' * (min(room, _LONGEST_BAR) - filled)}] {text}"
            if room + 3 >= 0:
                return f"{head} {text}"
        for parts in ([left, *last], last):
            text = ", ".join(each for each in [head, *parts] if each)
            if len(text) <= width:
                return text
        return head[: max(0, width)]

    def _line(self) -> str:
        share = min(1.0, self.done / self.total) if self.total else 0.0
        figures = [f"{name} {value}" for name, value in self._figures.items()]
        known = [f"{100 * share:.0f} %", f"{self.done:,} of {self.total:,} {self._unit}s"]
        parts = [*(known if self.total else [f"{self.done:,} {self._unit}s"]), self._left(), *figures]
        return f"{self._what}: {', '.join(each for each in parts if each)}"

    def _left(self) -> str:
        """The time left at the speed so far; nothing before the first was done."""
        done = self.done - self._first
        if done <= 0 or self.done >= self.total:
            return ""
        left = (time.monotonic() - self._started) / done * (self.total - self.done)
        return f"{format_seconds(round(left)).replace('.0', '')} left"

    @staticmethod
    def _write(text: str) -> None:
        try:
            sys.stderr.write(text)
            sys.stderr.flush()
        except (OSError, ValueError):  # nobody reads on
            return
