"""Score a finished run or a saved adapter on a dataset's split."""

from __future__ import annotations

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """RESULT [data.key=value …] [--split S] [--data D] [--logit-adjustment TAU] [--json]"""
    parser.add_argument("result", help="run folder, or its adapter/ or model/ folder")
    parser.add_argument(
        "overrides",
        nargs="*",
        metavar="data.key=value",
        help="how the images are read: data.label_column, data.image_column, data.test_split, data.max_bad_share …; "
        "data.name is where the run's own images are now",
    )
    parser.add_argument("--split", default="test", choices=("train", "validation", "test"), help="default: test")
    parser.add_argument("--data", help="another dataset with the same labels; default: the run's own, as it split them")
    parser.add_argument("--base", help="the base model, where it has moved")
    parser.add_argument(
        "--logit-adjustment",
        type=float,
        default=0.0,
        metavar="TAU",
        help="take TAU times the logarithm of class shares from the logits first, without training; 1: as if classes "
        "were equally frequent",
    )
    parser.add_argument("--json", action="store_true", help="print the metrics as JSON")


def run(options: argparse.Namespace) -> int:
    """Print the metrics."""
    import json

    from hf_finetune.result.evaluate import evaluate

    metrics = evaluate(
        options.result,
        split=options.split,
        data=options.data,
        base=options.base,
        overrides=options.overrides,
        logit_adjustment=options.logit_adjustment,
    )
    if options.json:
        print(json.dumps(metrics, indent=1, ensure_ascii=False))
        return 0
    from hf_finetune.report.summary import render_metrics

    print(render_metrics(metrics, options.split))
    return 0
