"""An author who trains and pushes, another machine that knows only the name, and a third with stock libraries alone.

Each is a process of its own with a Hub cache of its own; what they say is JSON on their last line.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tests.hub_server.fixture import Hub
from tests.hub_server.users import TOKEN

REPO = Path(__file__).resolve().parents[2]

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
    """A Hub, and a folder for what machines keep."""

    hub: Hub
    folder: Path

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
        env = self.machine(machine).env(token=token, offline=offline)
        env |= {"PYTHONPATH": str(REPO), "HF_FINETUNE_CACHE": str(self.folder / machine / "cache")}
        process = subprocess.run(
            [sys.executable, "-c", code, json.dumps(question)],
            env=env,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            cwd=self.folder,
        )
        assert process.returncode == 0, process.stderr[-4000:]
        return json.loads(process.stdout.splitlines()[-1])

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
