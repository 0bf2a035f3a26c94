"""Print the machine and the versions, to paste into a bug report, and the one command to go on with."""

from __future__ import annotations

import argparse
from pathlib import Path

from hf_finetune.cli.plain import say

_LEAST_FREE = 2_000_000_000  # bytes of the cache's disk, below which images are decoded anew each time


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """None of its own."""
    del parser


def run(options: argparse.Namespace) -> int:
    """Print it. No paths, names or tokens: it is meant to be pasted in public."""
    import shutil
    from dataclasses import asdict
    from importlib.metadata import PackageNotFoundError, version

    from hf_finetune.cli.document import print_document
    from hf_finetune.data.store.expiry import entries
    from hf_finetune.files.cache import cache_root
    from hf_finetune.machine.detect import detect
    from hf_finetune.pipeline.finish import PACKAGES
    from hf_finetune.units import format_bytes

    root = cache_root(None)
    there = next((place for place in (root, *root.parents) if place.is_dir()), Path.cwd())
    machine = {key: value for key, value in asdict(detect()).items() if key != "process_bytes"}  # not measured here
    facts = machine | {
        "free_disk_bytes": shutil.disk_usage(".").free,
        "free_cache_disk_bytes": shutil.disk_usage(there).free,
        "cache_bytes": sum(size for _, _, size in entries(root)),
        "hub_token": "there, not tried" if _has_token() else "none",
    }
    for name in ("hf_finetune", *PACKAGES):
        try:
            facts[name] = version(name)
        except PackageNotFoundError:
            facts[name] = "not installed"
    facts["next"] = _next(facts)
    if options.json:
        print_document(facts)
    else:
        width = max(map(len, facts)) + 2 - len("_bytes")
        for key, value in facts.items():
            shown = format_bytes(value) if key.endswith("_bytes") else value
            say(f"{key.removesuffix('_bytes'):<{width}}{shown}")
    return 0


def _has_token() -> bool:
    """Whether the Hub's own library finds one, in the environment or where `hf auth login` puts it."""
    from huggingface_hub import get_token

    return get_token() is not None


def _next(facts: dict[str, object]) -> str:
    """What mends what would fail, else what a newcomer does first, else what comes after that."""
    if absent := [name for name, value in facts.items() if value == "not installed"]:
        return f"pip install {' '.join(absent)}"
    free = facts["free_cache_disk_bytes"]
    if isinstance(free, int) and free < _LEAST_FREE:
        return "hf-finetune cache clear"
    return "hf-finetune train photos/" if Path("runs").is_dir() else "hf-finetune train quickstart"
