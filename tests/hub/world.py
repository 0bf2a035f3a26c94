"""An author who trains and pushes, another machine that knows only the name, and a third with stock libraries alone.

Each is a process of its own with a Hub cache of its own, which stays for the next question: importing the libraries
takes longer than most answers. What they say is JSON on their last line.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from threading import Timer
from types import TracebackType
from typing import Any, Self

from tests.hub_server.fixture import Hub
from tests.hub_server.users import TOKEN

REPO = Path(__file__).resolve().parents[2]

# Reads a question a line and runs its code with what `sys.argv` would hold; the answer is its last line, or why not.
MACHINE = """
import contextlib, gc, io, json, os, sys, traceback
answers = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)  # what libraries print by themselves is no answer
for line in sys.stdin:
    asked = json.loads(line)
    os.environ.pop("HF_TOKEN", None)
    os.environ.update({"HF_TOKEN": asked["token"]} if asked["token"] else {})
    sys.argv = ["-c", asked["question"]]
    gc.collect()
    gc.freeze()  # each training calls gc.collect, which would walk over all the libraries
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        try:
            exec(asked["code"], {"__name__": "__main__"})
            answer = {"said": printed.getvalue().splitlines()[-1]}
        except BaseException:
            answer = {"failed": traceback.format_exc()}
    print(json.dumps(answer), file=answers, flush=True)
"""

COMMANDS = """
import contextlib, io, json, sys
from hf_finetune.cli import main
said = []
for arguments in json.loads(sys.argv[1]):
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main(arguments)
    said.append([code, out.getvalue(), err.getvalue()])
print(json.dumps(said))
"""

OURS = """
import json, sys
import hf_finetune
places, photos = json.loads(sys.argv[1])
said = {}
for place in places:
    classifier = hf_finetune.load(place)
    names = classifier.labels.names
    said[place] = [[p.label, dict(zip(names, p.probabilities))] for p in classifier.predict(photos)]
print(json.dumps(said))
"""

STOCK = """
import json, sys
sys.modules["hf_finetune"] = None  # an import would fail
import re, torch
from huggingface_hub import hf_hub_download
from PIL import Image, ImageOps
repos, photos = json.loads(sys.argv[1])
said = {}
for repo in repos:
    card = open(hf_hub_download(repo, "README.md"), encoding="utf-8").read()
    lines = re.findall(r"```python\\n(from transformers.*?)```", card, re.S)[0]
    scope = {}
    exec(lines.partition("import torch")[0], scope)
    model, processor = scope["model"], scope["processor"]
    images = [ImageOps.exif_transpose(Image.open(photo)).convert("RGB") for photo in photos]
    with torch.inference_mode():
        shares = model(**processor(images, return_tensors="pt").to(model.device)).logits.softmax(-1)
    names = model.config.id2label
    said[repo] = [[names[int(row.argmax())], {names[i]: p for i, p in enumerate(row.tolist())}] for row in shares]
print(json.dumps(said))
"""

PIPELINE = """
import json, sys
sys.modules["hf_finetune"] = None
from transformers import pipeline
repos, photos = json.loads(sys.argv[1])
said = {}
for repo in repos:
    answer = pipeline("image-classification", model=repo, top_k=None)
    said[repo] = [{row["label"]: row["score"] for row in answer(photo)} for photo in photos]
print(json.dumps(said))
"""


@dataclass(frozen=True)
class World:
    """A Hub, and a folder for what machines keep. Leaving its context switches the machines off."""

    hub: Hub
    folder: Path
    _running: dict[tuple[str, bool], subprocess.Popen[str]] = field(default_factory=dict)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for process in self._running.values():
            process.kill()
            process.communicate()

    def machine(self, name: str) -> Hub:
        """The same Hub seen from a machine with a cache of its own."""
        return replace(self.hub, home=self.folder / name)

    def ask(
        self,
        machine: str,
        code: str,
        question: Any,
        *,
        token: str | None = TOKEN,
        offline: bool = False,
        timeout_s: float = 500,
    ) -> Any:
        """Run `code` there with `question` as JSON; its last line's JSON."""
        process = self._started(machine, offline)
        assert process.stdin is not None and process.stdout is not None
        late = Timer(timeout_s, process.kill)
        late.start()
        try:
            print(
                json.dumps({"code": code, "question": json.dumps(question), "token": token}),
                file=process.stdin,
                flush=True,
            )
            line = process.stdout.readline()
        finally:
            late.cancel()
        answer = json.loads(line) if line else {"failed": f"{machine} ended, or took longer than {timeout_s} s"}
        assert "failed" not in answer, answer["failed"] + self._log(machine, offline).read_text("utf-8")[-4000:]
        return json.loads(answer["said"])

    def _started(self, machine: str, offline: bool) -> subprocess.Popen[str]:
        """Its process; another one offline, since huggingface_hub reads the environment when it is imported."""
        if (machine, offline) not in self._running:
            env = self.machine(machine).env(offline=offline)
            env |= {"PYTHONPATH": str(REPO), "HF_FINETUNE_CACHE": str(self.folder / machine / "cache")}
            with self._log(machine, offline).open("w", encoding="utf-8") as log:
                self._running[machine, offline] = subprocess.Popen(
                    [sys.executable, "-c", MACHINE],
                    env=env,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=log,
                    text=True,
                    cwd=self.folder,
                )
        return self._running[machine, offline]

    def _log(self, machine: str, offline: bool) -> Path:
        return self.folder / f"{machine}{' offline' if offline else ''}.log"

    def commands(self, *lines: Sequence[object], machine: str = "author", **options: Any) -> list[list[Any]]:
        """Exit code, stdout and stderr of each command line; on a busy machine one may take a minute."""
        question = [[str(word) for word in line] for line in lines]
        return self.ask(machine, COMMANDS, question, timeout_s=500 + 100 * len(lines), **options)


def recipe(folder: Path, name: str, sections: Mapping[str, Any]) -> Path:
    """A recipe file that trains in a second or two, and the run folder's name in it."""
    content = {
        "train": {"epochs": 2, "effective_batch_size": 16, "decode_workers": 1, "precision": "fp32"},
        "ladder": ["full"],
        "output": {"dir": str(folder / "runs" / name)},
        **sections,
    }
    path = folder / f"{name}.yaml"
    path.write_text(json.dumps(content), encoding="utf-8")
    return path
