"""Compare backbones on your images, without training."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Sequence

from hf_finetune.cli.plain import say


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """MODEL … --data D [--images N]"""
    parser.add_argument("models", nargs="+", metavar="MODEL", help="Hub ids or local folders of backbones")
    parser.add_argument("--data", required=True, help="dataset: Hub id, folder, CSV or Parquet")
    parser.add_argument("--images", type=int, default=1000, help="training images to look at, at most (1000)")
    parser.add_argument("--set", nargs="+", default=[], metavar="section.key=value", help="values of the recipe")


def run(options: argparse.Namespace) -> int:
    """Print the table, best first; 2 where no backbone could be used."""
    from dataclasses import asdict

    from hf_finetune.cli.document import print_document
    from hf_finetune.errors import DataError
    from hf_finetune.pipeline.rank import rank
    from hf_finetune.report.tables import plain_table, terminal_width

    if options.images < 2:
        raise DataError(f"--images: at least 2 are expected, found {options.images}.")
    found = rank(options.models, options.data, images=options.images, overrides=options.set)
    if options.json:
        print_document([asdict(each) for each in found])
    else:
        measure = next((each.measure for each in found if each.measure), "score")
        rows = [("backbone", measure.replace("_", " "), "loss", "ms/image", "seconds", "MB")]
        for each in found:
            if each.score is None:
                rows.append((each.model, "-", "-", "-", "-", each.problem))
            else:
                figures = (f"{each.score:.3f}", f"{each.loss:.3f}", f"{each.image_ms:.1f}", f"{each.seconds:.1f}")
                rows.append((each.model, *figures, f"{each.megabytes:.0f}"))
        say(plain_table(rows, terminal_width()))
        count = max(each.images for each in found)
        say(f"\nLeave-one-out on {count:,} images with a closed-form head on frozen features; seconds from cold.")
        if own := [each.model for each in found if each.own_head]:
            say(
                f"With its own head, which answers these labels already and does better: {', '.join(own)}. Images that "
                "it was trained on flatter it."
            )
        if found[0].score is not None:
            say(f"\nTrain the first:\n  {train_command(found[0].model, options.data, options.set)}")
    return 0 if any(each.score is not None for each in found) else 2


def train_command(model: str, data: str, overrides: Sequence[str]) -> str:
    """What to type next, each word as a shell wants it; on a line of its own, so that it can be copied."""
    from hf_finetune.cli.recipe import is_data

    # A name that could be a recipe's is written as a key.
    named = [data] if is_data(data) else [f"data.name={data}"]
    return shlex.join(["hf-finetune", "train", *named, f"model.name={model}", *overrides])
