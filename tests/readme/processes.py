"""Runs a command of a page as a person does: in a shell, with the environment of these tests on its path."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path


def execute(command: list[str] | str, folder: Path, **variables: str) -> str:
    """What the command prints. Fails the test, with all that it said, where it exits with an error."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        command,
        cwd=folder,
        shell=isinstance(command, str),
        capture_output=True,
        text=True,
        env={**os.environ, "PATH": path, **variables},
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr[-3000:]}"
    return done.stdout
