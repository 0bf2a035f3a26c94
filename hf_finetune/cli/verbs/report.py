"""Make the page of a finished run (report.html) again."""

from __future__ import annotations

import argparse

from hf_finetune.cli.plain import say


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """RUN [data.name=PLACE]"""
    parser.add_argument("run", help="the folder (output.dir) of a finished run")
    parser.add_argument(
        "overrides", nargs="*", metavar="data.key=value", help="where the run's own images are now: data.name=PLACE"
    )


def run(options: argparse.Namespace) -> int:
    """Write it into the run's folder, and say where."""
    from pathlib import Path

    from hf_finetune.cli.document import print_document
    from hf_finetune.pipeline.pages.again import remake

    page = remake(Path(options.run), options.overrides)
    if options.json:
        print_document({"page": page})
    else:
        say(page)
    return 0
