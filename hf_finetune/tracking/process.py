"""The process that writes to trackers: hears from the run on standard input (writer.py), reports on standard output.

Each tracker has a thread, so that one that waits for its server holds up no other. One that sends, and cannot, goes on
in a store of the run folder. The end of the input is the end of the run, however that came about.
"""

from __future__ import annotations

import json
import os
import queue
import secrets
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from hf_finetune.errors import first_line
from hf_finetune.files.whole_file import write_whole

STATE = "state.json"
START_S = 60.0  # for a tracker to be imported and begin; after that it is left alone, whatever it waits for
Message = dict[str, Any]


class State:
    """What each tracker has of the run, for the next process that goes on with it: id, last step, whether local."""

    def __init__(self, folder: Path, *, goes_on: bool) -> None:
        self._path, self._lock = folder / STATE, threading.Lock()
        self._kept: dict[str, Message] = {}
        if goes_on and self._path.is_file():
            try:
                self._kept = json.loads(self._path.read_text(encoding="utf-8"))
            except ValueError:
                self._kept = {}

    def of(self, tracker: str) -> Message:
        """Its `id`, `step` and `local`; those of a new run where nothing is kept."""
        return {"id": None, "step": -1, "local": False, **self._kept.get(tracker, {})}

    def keep(self, tracker: str, **values: Any) -> None:
        """Note them, on disk too."""
        with self._lock:
            self._kept[tracker] = {**self.of(tracker), **values}
            write_whole(self._path, json.dumps(self._kept, indent=1))


class Follower(threading.Thread):
    """One tracker: begins, takes every message in order, and ends."""

    def __init__(self, tracker: str, opening: Message, state: State, report: Report) -> None:
        super().__init__(daemon=True, name=tracker)
        self.messages: queue.SimpleQueue[Message] = queue.SimpleQueue()
        self.began = threading.Event()  # or has failed
        self.is_late = False
        self._tracker, self._opening, self._state, self._report = tracker, opening, state, report
        before = state.of(tracker)
        self._known, self._id, self._local = before["step"], before["id"], before["local"]
        self._taken: list[Message] = []
        self._open: Any = None

    def run(self) -> None:
        """Until the message that ends the run."""
        from hf_finetune.tracking.backends import is_remote

        self._may_fall_back = is_remote(self._tracker) and not self._local
        threading.Timer(START_S, self._say_late).start()
        self._try(self._begin)
        self.began.set()
        if self.is_late:
            return
        while "end" not in (message := self.messages.get()):
            self._taken.append(message)
            if self._open is not None:
                self._try(lambda: self._write(message))
        if self._open is not None:
            self._try(lambda: self._open.finish(message["end"]))
        self._report({"tracker": self._tracker, "finished": True})

    def _say_late(self) -> None:
        if not self.began.is_set():
            self.is_late = True
            problem = f"it has not begun within {START_S:.0f} s. The run goes on without it."
            self._report({"tracker": self._tracker, "problem": problem, "finished": True})

    def _try(self, step: Any) -> None:
        """Do it; where it fails begin anew in a local store, with all that was said so far, or give up."""
        try:
            step()
        except Exception as error:  # noqa: BLE001 - whatever a tracker raises, the run goes on
            self._open = None
            why = first_line(error)[:200].rstrip(".")
            if not self._may_fall_back:
                self._report({"tracker": self._tracker, "problem": f"{why}. The run goes on without it."})
                return
            self._may_fall_back, self._local, self._known, self._id = False, True, -1, None
            self._report({"tracker": self._tracker, "problem": f"{why}. The run goes on, and it is kept locally."})
            self._try(self._again)

    def _again(self) -> None:
        self._begin()
        for message in self._taken:
            self._write(message)

    def _begin(self) -> None:
        from hf_finetune.tracking.backends import OPEN, Wanted

        opening = self._opening
        self._open = opened = OPEN[self._tracker](
            Wanted(
                project=opening["project"],
                name=opening["name"],
                folder=Path(opening["folder"]),
                id=self._id,
                new_id=secrets.token_hex(4),
                step=self._known,
                local=self._local,
                process=opening["process"],
            )
        )
        if self._id is None:
            opened.settings(opening["settings"], opening["texts"])
        self._state.keep(self._tracker, id=opened.id, step=self._known, local=self._local)
        said = {"where": opened.where, "look": opened.look, "remedy": opened.remedy}
        self._report({"tracker": self._tracker, **said})

    def _write(self, message: Message) -> None:
        if message["step"] > self._known:  # else the run that it goes on with has it
            self._open.log(message["values"], message["step"])
            self._state.keep(self._tracker, step=message["step"])


class Report:
    """Says to the run what became of a tracker, a line at a time."""

    def __init__(self, stream: IO[str]) -> None:
        self._stream, self._lock = stream, threading.Lock()

    def __call__(self, message: Message) -> None:
        """A run that is gone does not hear it; trackers still get the rest."""
        with self._lock:
            try:
                self._stream.write(json.dumps(message) + "\n")
                self._stream.flush()
            except OSError:
                return


def heard(stream: IO[str]) -> Iterator[Message]:
    """The run's messages, and one that it was killed where it says no end."""
    for line in stream:
        message = json.loads(line)
        yield message
        if "end" in message:
            return
    yield {"end": "KILLED"}


def main() -> None:
    """Follow one run."""
    # What trackers print is no message: it goes where their warnings go.
    report = Report(os.fdopen(os.dup(1), "w", encoding="utf-8"))
    os.dup2(2, 1)
    inbox: queue.SimpleQueue[Message] = queue.SimpleQueue()
    # Heard at once, whatever is imported meanwhile: the run must never wait for a full pipe.
    stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115 - until the process ends
    threading.Thread(target=lambda: [inbox.put(each) for each in heard(stdin)], daemon=True).start()
    opening = inbox.get()
    if "end" in opening:
        return
    sys.argv = opening["arguments"]  # some trackers note the program
    from accelerate import PartialState

    PartialState(cpu=True)
    state = State(Path(opening["folder"]), goes_on=opening["goes_on"])
    followers = [Follower(tracker, opening, state, report) for tracker in opening["to"]]
    for follower in followers:
        follower.start()
    while True:
        message = inbox.get()
        for follower in followers:
            follower.messages.put(message)
        if "end" in message:
            break
    for follower in followers:
        while follower.is_alive() and not follower.is_late:
            follower.join(timeout=0.1)
    report({"done": True})
    os._exit(0)  # some trackers would ask their server again at the interpreter's end


if __name__ == "__main__":
    main()
