"""What a campaign's runs are made of: drawings, two recipes, and what each gives where nothing goes wrong."""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from hf_finetune.data.sources.digits import read_values
from tests.data.sources.shards.tars import write_tar
from tests.faults.commands import Commands, Done

RECIPE = """
model: {{name: "builtin:starter"}}
data: {{name: {data}, download_limit: 130kB, validation_share: 0.3, test_share: 0.2}}
ladder: {ladder}
train: {{epochs: 4, effective_batch_size: 16, evaluations: 4, decode_workers: 1, learning_rate: 0.01}}
output: {{dir: run, report: {report}}}
"""
# The cached rung wins in the first; in the second the best checkpoint is older than the newest; the third's images are
# shards of a Hub, of which two may lie on the disk at a time.
RECIPES = {
    "ladder": ("digits", "[probe, cached, full]", "true"),
    "full": ("digits", "[full]", "false"),
    "streamed": ("org/digits", "[probe, full]", "false"),
}
LOCAL = ("ladder", "full")
SHARDS = 6
MINE = "mine.txt"


@dataclass(frozen=True)
class Truth:
    """What a run of a recipe ends with, and what is said by its result."""

    weights: str
    test: dict[str, Any]
    predictions: str
    predicted: str


@dataclass
class World:
    """A folder with all of that; `warm` is the cache that a run leaves, `finished` its run folder, by recipe."""

    folder: Path
    commands: Commands
    truths: dict[str, Truth] = field(default_factory=dict)
    evaluated: dict[str, dict[str, Any]] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)

    @property
    def run(self) -> Path:
        return self.folder / "run"

    @property
    def cache(self) -> Path:
        return self.folder / "cache"

    @property
    def photo(self) -> Path:
        return sorted((self.folder / "digits" / "3").iterdir())[0]

    def learn(self) -> None:
        """Run each recipe once, with nothing going wrong."""
        for name in RECIPES:
            self.begin()
            started = time.monotonic()
            done = self.train(name)
            self.seconds[name] = time.monotonic() - started
            assert done.code == 0, done.text
            self.truths[name], self.evaluated[name] = self.truth(), figures_of(self.evaluate())
            for kept in ("run", "cache"):
                shutil.copytree(self.folder / kept, self.folder / f"{kept}-{name}")

    def begin(self, *, finished: str | None = None, warm: str | None = None) -> None:
        """An empty place; or one that holds the finished run of a recipe, or the cache that it left."""
        for place, source in ((self.run, finished), (self.cache, warm)):
            shutil.rmtree(place, ignore_errors=True)
            if source is not None:
                shutil.copytree(self.folder / f"{place.name}-{source}", place)

    def train(self, recipe: str, *more: str, **how: Any) -> Done:
        return self.commands.run("train", f"{recipe}.yaml", *more, **how)

    def truth(self) -> Truth:
        """Of the run folder as it is. Raises what reading it raises."""
        predicted = self.predict()
        assert predicted.code == 0, predicted.text
        return Truth(
            hashlib.sha256((self.run / "adapter" / "adapter_model.safetensors").read_bytes()).hexdigest(),
            json.loads((self.run / "run.json").read_text("utf-8"))["test"],
            (self.run / "predictions.csv").read_text("utf-8"),
            answer_of(predicted),
        )

    def predict(self) -> Done:
        return self.commands.run("predict", "run", self.photo, "--json", "--quiet")

    def evaluate(self) -> Done:
        return self.commands.run("evaluate", "run", "--json", "--quiet")


def answer_of(done: Done) -> str:
    """What `predict` says, but for what a second run of the same model may round otherwise."""
    line = json.loads(next(line for line in done.text.splitlines() if line.startswith("{")))
    return f"{line['predictions'][0]['label']} {line['predictions'][0]['probability']:.4f} {line['unlike']}"


def figures_of(done: Done) -> dict[str, Any]:
    """The figures that `evaluate` gives."""
    start = done.text.index("{")
    found, _ = json.JSONDecoder().raw_decode(done.text[start:])
    return {name: value for name, value in found.items() if name in ("accuracy", "loss", "macro_f1")}


def make_world(folder: Path, library: Path | None, hub: str) -> World:
    """Drawings with so much noise that training gains over the probe. `hub`: the address of a Hub of `folder/hub`."""
    rng = np.random.default_rng(0)
    values, targets = read_values()
    for number, (pixels, target) in enumerate(zip(values[:160], targets[:160], strict=True)):
        place = folder / "digits" / str(target)
        place.mkdir(parents=True, exist_ok=True)
        noisy = np.clip(pixels / 16 + rng.normal(0, 0.45, pixels.shape), 0, 1)
        Image.fromarray(np.rint(noisy * 255).astype(np.uint8).reshape(8, 8), "L").save(place / f"{number}.png")
    _write_shards(folder / "digits", folder / "hub" / "datasets" / "org" / "digits")
    for name, (data, ladder, report) in RECIPES.items():
        (folder / f"{name}.yaml").write_text(RECIPE.format(data=data, ladder=ladder, report=report), "utf-8")
    return World(folder, Commands(folder, library, hub))


def _write_shards(images: Path, repo: Path) -> None:
    every = sorted(images.rglob("*.png"))
    for number in range(SHARDS):
        members = [
            member
            for path in every[number::SHARDS]
            for member in ((path.name, path.read_bytes()), (f"{path.stem}.cls", path.parent.name.encode()))
        ]
        write_tar(repo / f"train-{number:03d}.tar", members)
