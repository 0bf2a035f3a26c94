"""Predict the label of images with a finished run, a saved adapter, or one on the Hub."""

from __future__ import annotations

import argparse
from pathlib import Path

UNLIKE = "  (unlike the training images)"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """RESULT IMAGE… [--top K] [--json] [--revision R] [--base MODEL] [--max-pixels N]"""
    parser.add_argument("result", help="run folder, its adapter/ or model/ folder, or a Hub repo (user/name)")
    parser.add_argument("images", nargs="+", help="image files, or folders of them")
    parser.add_argument("--top", type=int, default=1, help="labels to show for each image (default 1)")
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    parser.add_argument("--revision", help="branch, tag or commit of a Hub repo")
    parser.add_argument("--base", help="the base model, where it has moved")
    parser.add_argument("--max-pixels", type=int, help="refuse larger images; default: the run's data.max_pixels")


def run(options: argparse.Namespace) -> int:
    """Print a line for each image. An unreadable one is named, the others are answered, and the exit code is 2."""
    import json
    import sys

    from hf_finetune.errors import DataError
    from hf_finetune.result.classifier import load

    files = _files(options.images)
    classifier = load(options.result, revision=options.revision, base=options.base, max_pixels=options.max_pixels)
    failed = 0
    for file in files:
        try:
            (prediction,) = classifier.predict([file])
        except DataError as error:
            print(f"hf-finetune: {error}", file=sys.stderr)
            failed += 1
            continue
        if prediction.clipped:
            beyond = f"{prediction.clipped:,} of its values lie beyond the range that the run was trained with"
            print(f"hf-finetune: {file}: {beyond}, and were clipped", file=sys.stderr)
        if options.json:
            far = {} if prediction.distance is None else {"distance": round(prediction.distance, 4)}
            said = {"image": str(file), **prediction.as_json(options.top), **far, "unlike": prediction.unlike}
            print(json.dumps(said, ensure_ascii=False))
        else:
            print(f"{file}  {prediction.text(options.top)}{UNLIKE if prediction.unlike else ''}")
    return 2 if failed else 0


def _files(written: list[str]) -> list[Path]:
    """The files as written, and those of folders that training would take: no hidden ones, no system folders."""
    from hf_finetune.data.sources.folders.walk import walk
    from hf_finetune.errors import DataError

    files: list[Path] = []
    for name in written:
        path = Path(name)
        if path.is_dir():
            found = walk(path)
            files += sorted(path / below for below in (*(below for below, _ in found.images), *found.links))
        else:
            files.append(path)
    if not files:
        raise DataError(f"No image found in {', '.join(written)}.")
    return files
