"""The raw figures of a comparison, on disk: what was run, what was predicted, what could not be run and why.

RESULTS/runs.json               about the machine and versions; one row a run
RESULTS/predictions-CASE.json   the test photos, their classes, and what each run predicted: every accuracy in a
                                table is recomputed from these
"""

from __future__ import annotations

import datetime
import json
import platform
import subprocess
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import psutil

PACKAGES = ("torch", "torchvision", "transformers", "datasets", "accelerate", "peft", "timm", "scikit-learn", "pillow")


def about_machine() -> dict[str, Any]:
    """What the figures hold for; no name and no path of the machine."""
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = None
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    return {
        "processor": _processor(),
        "cores": psutil.cpu_count(),
        "ram_gb": round(psutil.virtual_memory().total / 1e9),
        "device": _device(),
        "system": platform.system(),
        "python": platform.python_version(),
        "versions": versions,
        "commit": commit.stdout.strip(),
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor()


def _device() -> str:
    asked = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
    try:
        return subprocess.run(asked, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "none"


def machine(about: Mapping[str, Any]) -> str:
    """The machine in words, from what about_machine() found."""
    device = "" if about["device"] == "none" else f", {about['device']}"
    return f"{about['processor']}, {about['cores']} cores{device}"


class Results:
    """Rows by case, method and seed; each is on disk as soon as its call returns."""

    def __init__(self, folder: Path, about: Mapping[str, Any] | None = None) -> None:
        self._folder = folder
        self._content: dict[str, Any] = {"about": [], "runs": [], "aside": []}
        self._predictions: dict[str, dict[str, Any]] = {}
        if (folder / "runs.json").is_file():
            self._content = json.loads((folder / "runs.json").read_text("utf-8"))
        for path in sorted(folder.glob("predictions-*.json")):
            self._predictions[path.stem.removeprefix("predictions-")] = json.loads(path.read_text("utf-8"))
        if about is not None and about not in self._content["about"]:
            self._content["about"].append(dict(about))
        self._about = about

    @property
    def about(self) -> list[dict[str, Any]]:
        return self._content["about"]

    @property
    def runs(self) -> list[dict[str, Any]]:
        """Every row with its `accuracy`, recomputed from the predictions; by seed, whenever each was run."""
        by_seed = sorted(self._content["runs"], key=lambda row: row["seed"])
        return [{**row, "accuracy": self.accuracy(row["case"], row["method"], row["seed"])} for row in by_seed]

    def aside(self, case: str, method: str) -> str | None:
        """Why it was not run."""
        for row in self._content["aside"]:
            if row["case"] == case and row["method"] in {None, method}:
                return row["reason"]
        return None

    def reasons(self) -> list[str]:
        """Why cases or methods were not run, each once."""
        return list(dict.fromkeys(row["reason"] for row in self._content["aside"]))

    def machines(self, case: str) -> list[str]:
        """What the runs of a case were measured on, each machine once."""
        return list(
            dict.fromkeys(machine(self.about[row["about"]]) for row in self._content["runs"] if row["case"] == case)
        )

    def refusal(self, case: str) -> str | None:
        """Why this machine may not add to a case: seconds are compared with those of the same machine alone."""
        others = [each for each in self.machines(case) if self._about is not None and each != machine(self._about)]
        if not others:
            return None
        return f"its runs are of another machine ({others[0]}): name another folder, or delete {self._folder.name}"

    def holds(self, case: str, method: str, seed: int) -> bool:
        return any((row["case"], row["method"], row["seed"]) == (case, method, seed) for row in self._content["runs"])

    def seconds(self, case: str, method: str, seed: int) -> float | None:
        """What one run took, None where it was not run."""
        wanted = (case, method, seed)
        found = (r["seconds"] for r in self._content["runs"] if (r["case"], r["method"], r["seed"]) == wanted)
        return next(found, None)

    def set_truth(self, case: str, files: list[str]) -> None:
        """The test photos, as CLASS/file. Raises ValueError where earlier runs were about other ones."""
        classes = sorted({file.split("/")[0] for file in files})
        own = self._predictions.setdefault(case, {"files": files, "classes": classes, "runs": {}})
        if own["files"] != files:
            raise ValueError(f"{case}: the test photos are not those of the runs in {self._folder}; delete that folder")

    def add(self, row: Mapping[str, Any]) -> None:
        """One run; `predicted` maps every test photo to a class."""
        kept = {key: value for key, value in row.items() if key != "predicted"}
        today = datetime.datetime.now(datetime.UTC).date().isoformat()
        self._content["runs"].append({**kept, "date": today, "about": self._content["about"].index(self._about)})
        own = self._predictions[row["case"]]
        missing = set(own["files"]) - set(row["predicted"])
        if missing:
            raise ValueError(f"{row['case']} {row['method']}: no prediction for {len(missing)} photos, {min(missing)}")
        numbers = {name: number for number, name in enumerate(own["classes"])}
        own["runs"][f"{row['method']} {row['seed']}"] = [numbers[row["predicted"][file]] for file in own["files"]]
        self._content["aside"] = [
            each for each in self._content["aside"] if (each["case"], each["method"]) != (row["case"], row["method"])
        ]
        self._write(row["case"])

    def set_aside(self, case: str, method: str | None, reason: str) -> None:
        """A method, or with None every method, that cannot run on a case; runs that are there stay as they are."""
        if method is None and any(row["case"] == case for row in self._content["runs"]):
            return
        row = {"case": case, "method": method, "reason": reason}
        others = [each for each in self._content["aside"] if (each["case"], each["method"]) != (case, method)]
        self._content["aside"] = [*others, row]
        self._write(None)

    @property
    def name(self) -> str:
        """The folder's place below docs/, as docs/tables.md names it."""
        return f"results/{self._folder.name}"

    def test_photos(self, case: str) -> list[str]:
        return self._predictions[case]["files"]

    def accuracy(self, case: str, method: str, seed: int) -> float:
        own = self._predictions[case]
        numbers = {name: number for number, name in enumerate(own["classes"])}
        predicted = own["runs"][f"{method} {seed}"]
        truth = [numbers[file.split("/")[0]] for file in own["files"]]
        return sum(a == b for a, b in zip(predicted, truth, strict=True)) / len(truth)

    def line(self, case: str, method: str, seed: int) -> str:
        """One finished run, for whoever watches."""
        row = next(row for row in self.runs if (row["case"], row["method"], row["seed"]) == (case, method, seed))
        return f"{case} {method} seed {seed}: {row['accuracy']:.3f} in {row['seconds']:.1f} s"

    def _write(self, case: str | None) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        rows = {key: [json.dumps(row) for row in self._content[key]] for key in ("about", "runs", "aside")}
        parts = [f'"{key}": [\n' + ",\n".join(lines) + "\n]" for key, lines in rows.items()]
        _replace(self._folder / "runs.json", "{" + ",\n".join(parts) + "}\n")
        if case is not None:
            own = self._predictions[case]
            runs = ",\n".join(
                f"{json.dumps(key)}: {json.dumps(own['runs'][key], separators=(',', ':'))}" for key in own["runs"]
            )
            head = json.dumps({key: own[key] for key in ("files", "classes")})[:-1]
            _replace(self._folder / f"predictions-{case}.json", f'{head},\n"runs": {{\n{runs}\n}}}}\n')


def _replace(path: Path, text: str) -> None:
    """Whole or not at all."""
    fresh = path.with_suffix(".new")
    fresh.write_text(text, encoding="utf-8")
    fresh.replace(path)
