"""What is deleted from the cache, and when: what dead builders left, what no run used for long, all on request.

Owns which folders of the cache are what by their names. What is in them is `cache.py`'s and `unfinished.py`'s.
"""

from __future__ import annotations

import logging
import shutil
import time
from contextlib import suppress
from pathlib import Path

from filelock import FileLock, Timeout

logger = logging.getLogger(__name__)

META = "meta.json"  # of a complete entry
UNFINISHED = ".part"  # ending of the folder of an entry that a run has not finished
JOURNAL = "rows.jsonl"  # in such a folder
# An entry that no run has opened for this long is deleted when another is built, so that disks do not fill for ever.
EXPIRY_DAYS = 30
# Under pressure an entry may go earlier, but not one that a run of today may still have open.
RECENT_DAYS = 1
# A build that was killed waits so long for a run that goes on with it; under pressure it goes first.
UNFINISHED_DAYS = 7


def sweep(root: Path, held: str) -> None:
    """Removes what dead builders left and what no run used for long. `held`: the key whose lock the caller holds."""
    for folder in root.glob("*.tmp-*"):
        if _key_of(folder) == held:
            shutil.rmtree(folder, ignore_errors=True)
        else:
            _delete_if_free(root, folder)
    for folder, used, _ in unfinished(root):
        if _key_of(folder) != held and _age_days(used) > UNFINISHED_DAYS:
            _delete_if_free(root, folder)
    _expire(root, held)


def make_room(root: Path, needed: int, keep: set[str]) -> None:
    """Deletes unfinished entries and those that were used least recently until `needed` bytes are free; none that are
    finished and of the last day.

    Deletes nothing where that would not be enough.
    """
    free = shutil.disk_usage(root).free
    old = [(used, folder, size) for folder, used, size in entries(root) if _age_days(used) > RECENT_DAYS]
    old = [each for each in sorted(old) if each[1].name not in keep]
    halves = [(used, folder, size) for folder, used, size in unfinished(root) if _key_of(folder) not in keep]
    if free >= needed or free + sum(size for _, _, size in [*halves, *old]) < needed:
        return
    for _, folder, _ in sorted(halves):
        if shutil.disk_usage(root).free < needed:
            _delete_if_free(root, folder)
    for used, folder, _ in old:
        if shutil.disk_usage(root).free < needed:
            _delete(folder, used)


def clear(root: Path) -> tuple[int, int]:
    """Deletes every entry, and what builders left; gives bytes freed, and how many entries stay: those that a process
    is building, and what may not be deleted here."""
    freed = 0
    for folder in root.glob("*.tmp-*"):
        _delete_if_free(root, folder)
    for folder, _, size in [*unfinished(root), *entries(root)]:
        _delete_if_free(root, folder)
        freed += 0 if folder.exists() else size
    return freed, len(entries(root))


def entries(root: Path) -> list[tuple[Path, float, int]]:
    """Every complete entry: folder, time of last use (seconds since 1970), bytes."""
    found = []
    for meta in root.glob(f"*/{META}"):
        if not meta.parent.name.endswith(UNFINISHED):
            with suppress(OSError):
                size = sum(file.stat().st_size for file in meta.parent.rglob("*") if file.is_file())
                found.append((meta.parent, meta.stat().st_mtime, size))
    return found


def unfinished(root: Path) -> list[tuple[Path, float, int]]:
    """The same of every entry that a run is building, or has not finished; its bytes as the disk has them."""
    found = []
    for folder in root.glob(f"*{UNFINISHED}"):
        with suppress(OSError):
            journal = folder / JOURNAL
            used = (journal if journal.exists() else folder).stat().st_mtime
            found.append((folder, used, held_bytes(folder)))
    return found


def held_bytes(folder: Path) -> int:
    """What the files of a folder take of the disk: their lengths where the system does not say. 0 where there is no
    such folder."""
    if not folder.is_dir():
        return 0
    stats = [file.stat() for file in folder.iterdir()]
    return sum(512 * getattr(stat, "st_blocks", -(-stat.st_size // 512)) for stat in stats)


def _expire(root: Path, held: str) -> None:
    for folder, used, _ in entries(root):
        if folder.name != held and _age_days(used) > EXPIRY_DAYS:
            _delete(folder, used)


def _delete(folder: Path, used: float) -> None:
    logger.info("image store %s was not used for %.0f days: deleted", folder.name, _age_days(used))
    shutil.rmtree(folder, ignore_errors=True)


def _delete_if_free(root: Path, folder: Path) -> None:
    """Unless a process is building it: its lock is free then, across machines and reused process numbers."""
    with suppress(Timeout, OSError), FileLock(root / f"{_key_of(folder)}.lock").acquire(timeout=0):
        shutil.rmtree(folder, ignore_errors=True)


def _key_of(folder: Path) -> str:
    return folder.name.split(".tmp-")[0].removesuffix(UNFINISHED)


def _age_days(used: float) -> float:
    return (time.time() - used) / 86400
