"""Teach a finished run again in seconds: correct labels, leave rows out, add images or a class."""

from __future__ import annotations

import argparse
from pathlib import Path

from hf_finetune.cli.plain import say


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """RUN [TABLE] [data.name=PLACE] [--add FOLDER …] [--new-classes] [--suggest FOLDER] [--out PLACE] [--overwrite]
    [--no-test]"""
    parser.add_argument("run", help="folder of a finished run, which stays as it is")
    parser.add_argument(
        "table", nargs="?", help="CSV with the columns path, action (keep, exclude, relabel) and label; see doctor"
    )
    parser.add_argument(
        "overrides", nargs="*", metavar="data.key=value", help="where the run's own images are now: data.name=PLACE"
    )
    parser.add_argument(
        "--add", action="append", default=[], metavar="FOLDER", help="images to learn too, in class folders or a table"
    )
    parser.add_argument(
        "--new-classes", action="store_true", help="the table and --add may name classes that the run has not"
    )
    parser.add_argument(
        "--suggest", metavar="FOLDER", help="name the unlabelled images that are most worth a label, in a table"
    )
    parser.add_argument("--count", type=int, default=20, help="how many to suggest (20)")
    parser.add_argument("--out", metavar="PLACE", help="folder of the fixed run (RUN-fixed), or the suggested table")
    parser.add_argument("--overwrite", action="store_true", help="begin anew where the place holds a run or a table")
    parser.add_argument("--no-test", action="store_true", help="do not score the test again")


def run(options: argparse.Namespace) -> int:
    """Print what changed, or what is worth a label."""
    from hf_finetune.errors import DataError

    if options.suggest is None:
        return _fix(options)
    if options.table is not None or options.overrides or options.add or options.new_classes:
        raise DataError("--suggest: nothing beside it is expected, found a table or --add.", "Ask in two commands.")
    return _suggest(options)


def _fix(options: argparse.Namespace) -> int:
    from hf_finetune.cli.document import print_document
    from hf_finetune.pipeline.fix.fix import fix
    from hf_finetune.pipeline.fix.taught import Wishes
    from hf_finetune.report.fixed import render_fixed
    from hf_finetune.run.clock import process_start

    words = [word for word in (options.table, *options.overrides) if word is not None]
    tables = [word for word in words if not _is_key(word)]
    overrides = [word for word in words if _is_key(word)] + tables[1:]
    table = Path(tables[0]) if tables else None
    wishes = Wishes(
        table, options.add, options.new_classes, options.out, options.overwrite, not options.no_test, overrides
    )
    fixed = fix(Path(options.run), wishes, started=process_start())
    if options.json:
        known = {key: fixed.report[key] for key in ("fix", "validation", "test", "seconds")}
        print_document({"folder": fixed.folder.path, **known})
    else:
        say(render_fixed(fixed.report, _from_here(fixed.folder.path)))
    return 0


def _from_here(place: Path) -> Path:
    """As a person in this folder would type it."""
    here = Path.cwd()
    return place.relative_to(here) if place.is_relative_to(here) else place


def _is_key(word: str) -> bool:
    """Whether it sets a key of `data`, and names no table."""
    return word.startswith("data.") and "=" in word


def _suggest(options: argparse.Namespace) -> int:
    from dataclasses import asdict

    from hf_finetune.cli.document import print_document
    from hf_finetune.pipeline.fix.suggest import render_suggested, suggest

    place = Path(options.run)
    suggested = suggest(place, options.suggest, options.count, out=options.out, overwrite=options.overwrite)
    if options.json:
        print_document(asdict(suggested))
    else:
        say(render_suggested(suggested, options.run))
    return 0
