"""Builds the disk that fails (disk.c), where there is a C compiler and a system that can put it before its own."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path


def build(folder: Path) -> Path | None:
    """The library in `folder`; None where this machine cannot."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None or sys.platform != "linux":
        return None
    made = folder / "disk.so"
    source = Path(__file__).with_name("disk.c")
    subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", str(made), str(source), "-ldl"], check=True)
    return made
