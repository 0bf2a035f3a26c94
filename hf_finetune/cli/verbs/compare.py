"""Put finished runs side by side: scores, time, memory, recipes, and whether they differ."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from hf_finetune.cli.plain import say

if TYPE_CHECKING:
    from hf_finetune.pipeline.finished import Run


JSON = "print the reports as one JSON list, the best run first"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """RUN RUN …"""
    parser.add_argument("runs", nargs="+", metavar="RUN", help="run folders (output.dir) of finished runs")


def run(options: argparse.Namespace) -> int:
    """Print the table, best first."""
    from hf_finetune.cli.document import print_document
    from hf_finetune.report.run_json import as_run_report
    from hf_finetune.report.side_by_side import Finished, in_order, render_runs

    read = {name: _read(name) for name in options.runs}
    runs = [
        Finished(name, as_run_report(run.report), run.predictions if run.folder.predictions.is_file() else [])
        for name, run in read.items()
    ]
    if options.json:
        reports = [{"run": each.name, **read[each.name].report} for each in in_order(runs)]
        print_document(reports)
    else:
        say(render_runs(runs), end="")
    return 0


def _read(name: str) -> Run:
    from pathlib import Path

    from hf_finetune.errors import RunFolderError
    from hf_finetune.pipeline.finished import read_run
    from hf_finetune.run.folder import RunFolder

    folder = RunFolder(Path(name))
    if not folder.is_finished():
        raise RunFolderError(
            f"{name}: the folder of a finished run (output.dir) is expected, found no run.json in it.",
            "Give finished runs; `hf-finetune train` with the same recipe finishes one.",
        )
    return read_run(folder)
