"""The lock of a run folder: one process works in it, and others can see so."""

from __future__ import annotations

from pathlib import Path

LOCK = "run.lock"
REPLACED = "replaced"  # in a run folder: the run that another began to replace, until that has a model


def is_at_work(folder: Path) -> bool:
    """Whether a process holds the run folder now; False where that cannot be seen."""
    from filelock import FileLock, Timeout

    if not (folder / LOCK).is_file():
        return False
    try:
        with FileLock(str(folder / LOCK)).acquire(timeout=0):
            return False
    except Timeout:
        return True
    except OSError:
        return False


def way_on(folder: Path, recipe: Path) -> str:
    """What a person may do who has come before the run in `folder` is finished."""
    if is_at_work(folder):
        return "A process is at work in it: wait for its end."
    earlier = folder / REPLACED
    kept = f" The run that it is to replace is whole in {earlier}." if earlier.is_dir() else ""
    return f"Go on with `hf-finetune train {recipe}`.{kept}"
