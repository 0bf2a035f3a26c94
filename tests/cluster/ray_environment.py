"""An environment of its own for Ray, which sees what this one has installed and this checkout: `… FOLDER`.

Ray is no dependency of the project, not even of its tests.
"""

from __future__ import annotations

import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def make(folder: Path) -> None:
    """Make it, or leave it as it is where Ray can be imported there."""
    python = folder / "bin" / "python"
    if not python.is_file():
        venv.create(folder, with_pip=True)
        site = Path(sysconfig.get_path("purelib", vars={"base": str(folder), "platbase": str(folder)}))
        (site / "beside.pth").write_text(f"{sysconfig.get_path('purelib')}\n{ROOT}\n", encoding="utf-8")
    if subprocess.run([python, "-c", "import ray.train.torch"], capture_output=True).returncode:
        subprocess.run([python, "-m", "pip", "install", "--quiet", "ray[train]"], check=True)


if __name__ == "__main__":
    make(Path(sys.argv[1]).resolve())
