"""Predict the label of images with a finished run, a saved adapter, or one on the Hub."""

from __future__ import annotations

import argparse
import re
from pathlib import Path

JSON = "the same as --format jsonl: one JSON object a line"
_OVERRIDE = re.compile(r"data\.\w+=")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """RESULT IMAGE… [data.image_column=C] [--top K] [--format F] [--out FILE [--overwrite]] [--batch N] [--tta]
    [--sort-into DIR [--sort-unlike]] [--explain DIR] [--revision R] [--base MODEL] [--max-pixels N]"""
    parser.add_argument("result", help="run folder, its adapter/ or model/ folder, or a Hub repo (user/name)")
    parser.add_argument(
        "images",
        nargs="+",
        metavar="IMAGE",
        help="image files, folders of them, patterns ('photos/**/*.jpg'), tables with a column of paths (CSV, TSV, "
        "JSON Lines, Parquet; data.image_column=NAME and data.image_folder=DIR as in a recipe), addresses "
        "(http, https), or - for a list of these on standard input, one a line",
    )
    parser.add_argument("--top", type=int, default=1, metavar="K", help="labels to show for each image (default 1)")
    parser.add_argument("--format", choices=("text", "csv", "jsonl", "parquet"), help="default: by --out, else text")
    parser.add_argument("--out", type=Path, metavar="FILE", help="write there, and not on standard output")
    parser.add_argument("--overwrite", action="store_true", help="replace the file of --out")
    parser.add_argument("--batch", type=int, metavar="N", help="images that pass forward together (default 32)")
    parser.add_argument(
        "--tta",
        action="store_true",
        help="average over each image and its mirror image, which takes twice as long; not for text, digits or "
        "anything that is another thing in the mirror",
    )
    parser.add_argument(
        "--sort-into",
        type=Path,
        metavar="DIR",
        help="copy each image into DIR/<label>/; nothing is moved, and a file of that name there is kept",
    )
    parser.add_argument(
        "--sort-unlike", action="store_true", help="with --sort-into: images unlike those of training into DIR/unlike/"
    )
    parser.add_argument("--explain", type=Path, metavar="DIR", help="draw what the model looked at into DIR, as PNG")
    parser.add_argument("--revision", help="branch, tag or commit of a Hub repo")
    parser.add_argument("--base", help="the base model, where it has moved")
    parser.add_argument("--max-pixels", type=int, help="refuse larger images; default: the run's data.max_pixels")


def run(options: argparse.Namespace) -> int:
    """Answer each image. An unreadable one is named, the others are answered, and the exit code is 2."""
    from hf_finetune.cli.document import standard_output
    from hf_finetune.errors import DataError
    from hf_finetune.pipeline.predict.predict import Asked, predict

    if options.json and options.format not in (None, "jsonl"):
        raise DataError(f"--json is --format jsonl, found --format {options.format} too.", "Leave one of them out.")
    overrides = [word for word in options.images if _OVERRIDE.match(word)]
    asked = Asked(
        options.result,
        images=[word for word in options.images if word not in overrides],
        overrides=overrides,
        revision=options.revision,
        base=options.base,
        max_pixels=options.max_pixels,
        top=options.top,
        format="jsonl" if options.json else options.format,
        out=options.out,
        overwrite=options.overwrite,
        mirrored=options.tta,
        sort_into=options.sort_into,
        sort_unlike=options.sort_unlike,
        explain=options.explain,
        shown_on=standard_output(),
        **({} if options.batch is None else {"batch": options.batch}),
    )
    return 2 if predict(asked).failed else 0
