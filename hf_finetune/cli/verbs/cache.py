"""Say where decoded images and features are kept, and how large they are; clear them."""

from __future__ import annotations

import argparse
from pathlib import Path

from hf_finetune.cli.plain import say


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """[clear] [--dir FOLDER]"""
    parser.add_argument("action", nargs="?", choices=("show", "clear"), default="show", help="default: show")
    parser.add_argument("--clear", action="store_true", help="delete all of it; the next run decodes again")
    parser.add_argument("--dir", help="another cache: a recipe's data.cache_dir")


def run(options: argparse.Namespace) -> int:
    """Print place, number and size of what is kept; or what was deleted."""
    from hf_finetune.cli.document import print_document
    from hf_finetune.data.store.expiry import clear, entries, unfinished
    from hf_finetune.files.cache import cache_root
    from hf_finetune.units import format_bytes

    root = cache_root(Path(options.dir).expanduser() if options.dir else None)
    clears = options.clear or options.action == "clear"
    freed, _ = clear(root) if clears and root.is_dir() else (0, 0)
    found = entries(root)
    size = sum(each for _, _, each in found)
    halves = unfinished(root)
    half_bytes = sum(each for _, _, each in halves)
    count = f"{len(found):,} {'entry' if len(found) == 1 else 'entries'}"
    if options.json:
        told = {"folder": root, "entries": len(found), "bytes": size, "freed_bytes": freed}
        print_document({**told, "unfinished": len(halves), "unfinished_bytes": half_bytes})
        return 0
    say(root)
    if clears:
        say(f"{format_bytes(freed)} deleted.")
        if found:
            say(f"Left there: {count}, {format_bytes(size)}; another process is at work with it.")
        return 0
    say(f"{count} (decoded images, what the probe keeps of them, converted weights), {format_bytes(size)}")
    if found:
        uses = [used for _, used, _ in found]
        say(f"Last used {_day(max(uses))}, longest unused {_day(min(uses))}.")
    if halves:
        say(f"Not finished: {len(halves):,}, {format_bytes(half_bytes)}; a run on the same images goes on with it.")
    say("What no run used for 30 days is deleted when another is built; `hf-finetune cache clear` deletes all of it.")
    say("Weights and datasets of the Hub lie in its own cache: `hf cache ls`.")
    return 0


def _day(seconds: float) -> str:
    import datetime

    return datetime.datetime.fromtimestamp(seconds).strftime("%Y-%m-%d")
