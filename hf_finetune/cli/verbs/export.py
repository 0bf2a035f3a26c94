"""Write a result as one whole model that stock transformers loads, without adapter or base."""

from __future__ import annotations

import argparse
from pathlib import Path

from hf_finetune.cli.plain import say


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """RESULT FOLDER [--base MODEL] [--logit-adjustment TAU]"""
    parser.add_argument("result", help="run folder, or its adapter/ or model/ folder")
    parser.add_argument("folder", help="where the model goes: a folder that is empty or does not exist")
    parser.add_argument("--base", help="the base model, where it has moved")
    parser.add_argument(
        "--logit-adjustment",
        type=float,
        default=0.0,
        metavar="TAU",
        help="take TAU times the logarithm of class shares from its logits; 1: as if classes were equally frequent",
    )


def run(options: argparse.Namespace) -> int:
    """Print where it is, its size, and how far its answers are from the result's."""
    from hf_finetune.cli.document import print_document
    from hf_finetune.result.merge import write_merged
    from hf_finetune.units import format_bytes

    adjustment = options.logit_adjustment
    merged = write_merged(options.result, Path(options.folder), base=options.base, logit_adjustment=adjustment)
    if options.json:
        print_document(
            {
                "folder": merged.folder,
                "bytes": sum(merged.sizes.values()),
                "files": [{"name": name, "bytes": size} for name, size in merged.sizes.items()],
                "logit_difference": merged.difference,
                "logits_range": merged.logits_range,
                "trained_on_quantization": merged.quantization,
                "readme": merged.readme,
            }
        )
        return 0
    say(f"{merged.folder}  {format_bytes(sum(merged.sizes.values()))}")
    if merged.difference is None:
        say("Not compared with the quantized base that it was trained on: this machine cannot run that one.")
    else:
        whose = f"the adjusted result's ({adjustment:g})" if adjustment else "the result's"
        scale = f"of a range of {merged.logits_range:.3g}"
        say(f"Logits differ from {whose} by at most {merged.difference:.2g}, {scale}, on the same pixels.")
    if merged.quantization != "none":
        say(
            f"It trained on a base in {merged.quantization}, and this model has that base's own weights: it answers "
            "some images otherwise than the result. Score it before you publish it; the adapter alone stays as it was."
        )
    if merged.readme is not None:
        say(
            "Its images were 16-bit, 32-bit or float grey, of which stock code (a pipeline, Pillow's convert) sees "
            f"other pixels, so that it answers otherwise. The lines that convert them are in {merged.readme}."
        )
    return 0
