"""Environments of the references that cannot share the product's: one venv each, and a record of how it went.

    python benchmarks/environments.py FOLDER [fastai autogluon]

FOLDER/NAME is the venv (about 6 GB and some minutes each); FOLDER/NAME.json, written last, says

    python        path of its interpreter, or null when the environment cannot be used
    versions      {distribution: version} of all that was installed
    reason        the last lines of what went wrong, or null
    requirements  the requirements it was made of

A usable one is kept until its requirements change; a refused one is tried again. Runs no reference.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

REQUIREMENTS = Path(__file__).resolve().parent / "references" / "environments"
# What a reference imports: packages that pip calls compatible may still not load together.
IMPORTS = {"fastai": "import fastai.vision.all", "autogluon": "import autogluon.multimodal, torchvision"}
REASON_LINES = 5
SHOWN = ("fastai", "autogluon.multimodal", "torch", "timm", "transformers")


def environment(folder: Path, name: str) -> tuple[str | None, str | None]:
    """Interpreter of a made environment, or None and why not; makes nothing, as that takes minutes and gigabytes."""
    record = _read(folder, name)
    if record is None:
        return None, f"not made: run `python benchmarks/environments.py {folder} {name}`"
    return record["python"], record["reason"]


def versions_of(folder: Path, name: str, packages: Sequence[str] = SHOWN) -> dict[str, str]:
    """Versions of some distributions of a made environment."""
    record = _read(folder, name)
    found = record["versions"] if record else {}
    return {package: found[package] for package in packages if package in found}


def make(folder: Path, name: str, requirements: Path, imports: str) -> dict[str, Any]:
    """Install `requirements` into the venv FOLDER/NAME and try `imports` in it; the record, also of a refusal."""
    wanted = requirements.read_text("utf-8")
    record = _read(folder, name)
    if record and record["requirements"] == wanted and record["python"] and Path(record["python"]).exists():
        return record
    folder.mkdir(parents=True, exist_ok=True)
    written = folder / f"{name}.json"
    written.unlink(missing_ok=True)
    venv = folder.resolve() / name
    python = str(venv / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python"))
    # -I: neither PYTHONPATH nor the user's site may lend a package that the environment lacks.
    steps = [
        [sys.executable, "-m", "venv", "--clear", str(venv)],
        [python, "-I", "-m", "pip", "install", "--disable-pip-version-check", "-r", str(requirements)],
        [python, "-I", "-c", imports],
    ]
    reason = next(filter(None, map(_why_not, steps)), None)
    record = {
        "python": None if reason else python,
        "versions": _versions(python),
        "reason": reason,
        "requirements": wanted,
    }
    written.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    return record


def _read(folder: Path, name: str) -> dict[str, Any] | None:
    file = folder / f"{name}.json"
    return json.loads(file.read_text("utf-8")) if file.exists() else None


def _why_not(command: list[str]) -> str | None:
    """None when the command succeeds, else the last lines that it wrote."""
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode == 0:
        return None
    lines = [line.strip() for line in done.stdout.splitlines() if line.strip()]
    said = "\n".join(lines[-REASON_LINES:]) or f"exit status {done.returncode}, and no word about it"
    # The record may be published, and the address of an index may hold a password.
    return re.sub(r"\w+://\S+", "(address)", said)


def _versions(python: str) -> dict[str, str]:
    if not Path(python).exists():
        return {}
    command = [python, "-I", "-m", "pip", "list", "--format=json", "--disable-pip-version-check"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return {row["name"]: row["version"] for row in json.loads(done.stdout or "[]")}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("names", nargs="*", metavar="name", help=" or ".join(IMPORTS))
    options = parser.parse_args()
    unknown = sorted(set(options.names) - set(IMPORTS))
    if unknown:
        parser.error(f"no environment is called {', '.join(unknown)}; there are {', '.join(IMPORTS)}")
    for name in options.names or IMPORTS:
        record = make(options.folder, name, REQUIREMENTS / f"{name}.txt", IMPORTS[name])
        print(f"{name}: {record['python'] or 'cannot be used: ' + record['reason']}", flush=True)


if __name__ == "__main__":
    main()
