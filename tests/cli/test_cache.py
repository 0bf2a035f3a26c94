"""Where the cache is, how large, and that it can be cleared."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from filelock import FileLock

pytestmark = pytest.mark.e2e

Cli = Callable[..., tuple[int, str, str]]


def test_it_is_shown_and_cleared_but_for_what_is_being_built(recipe: Path, own_cache: Path, cli: Cli) -> None:
    assert cli("cache", "--json")[0] == 0  # before there is any
    assert cli("train", recipe, "ladder=[probe]")[0] == 0
    root = own_cache / "store"
    found = json.loads(cli("cache", "--json")[1])
    files = [file for entry in root.glob("*/meta.json") for file in entry.parent.iterdir()]
    assert found["folder"] == str(root)
    assert found["entries"] > 2
    assert found["bytes"] == sum(file.stat().st_size for file in files) > 100_000
    out = cli("cache")[1].splitlines()
    assert out[0] == str(root) and out[1].startswith(f"{found['entries']} entries (decoded images, ")

    built = next(root.glob("*/meta.json")).parent
    with FileLock(root / f"{built.name}.lock"):
        out = cli("cache", "clear")[1]
    assert " deleted.\nLeft there: 1 entry, " in out and "another process is at work" in out
    assert [entry.parent for entry in root.glob("*/meta.json")] == [built]
    assert cli("cache", "--clear")[1].count("deleted.") == 1
    assert json.loads(cli("cache", "--json")[1])["bytes"] == 0
    assert cli("cache", "--dir", own_cache / "none")[0] == 0
