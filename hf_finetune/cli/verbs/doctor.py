"""Find duplicates, wrong labels, placeholders and leaks in a dataset, before or without training."""

from __future__ import annotations

import argparse
import shlex
from pathlib import Path

from hf_finetune.cli.plain import say
from hf_finetune.cli.recipe import add_recipe_arguments, recipe_of


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """[RECIPE | DATA] [section.key=value …] [--out DIR] [--apply OUT.csv] [--labels drop] [--copies drop]"""
    add_recipe_arguments(parser)
    parser.add_argument("--out", metavar="DIR", help="for doctor.html and findings.csv; default: beside output.dir")
    parser.add_argument("--apply", metavar="OUT.csv", help="write what is to be changed, for data.corrections=OUT.csv")
    parser.add_argument(
        "--labels", choices=("keep", "drop"), default="keep", help="drop: leave training rows with suspected labels out"
    )
    parser.add_argument(
        "--copies",
        choices=("keep", "drop"),
        default="keep",
        help="drop: leave near duplicates of another split's rows out",
    )


def run(options: argparse.Namespace) -> int:
    """Print what was found, and write the page and the table."""
    from hf_finetune.cli.document import print_document
    from hf_finetune.doctor.examine import Wishes
    from hf_finetune.pipeline.data_faults.diagnose import diagnose
    from hf_finetune.pipeline.data_faults.files import claim_files, write_files

    def command(table: Path) -> str:
        """What trains with the table, as a shell wants it."""
        named = [] if options.recipe is None else [options.recipe]
        # A run of the data as they were is there: with another key its folder would be refused.
        beside = ["--number"] if (recipe.output.folder / "recipe.yaml").is_file() else []
        return shlex.join(["hf-finetune", "train", *named, *options.overrides, f"data.corrections={table}", *beside])

    recipe = recipe_of(options)
    files = claim_files(recipe, options.out, options.apply)
    diagnosis = diagnose(recipe, Wishes(options.labels, options.copies))
    written = write_files(diagnosis, files, command)
    if options.json:
        print_document(diagnosis.as_json(written))
        return 0
    say(diagnosis.text(written))
    if files.apply is not None:
        say(f"\nTrain with it:\n  {command(files.apply)}")
    return 0
