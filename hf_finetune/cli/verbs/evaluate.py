"""Score a finished run or a saved adapter on a dataset's split, or a recipe by cross-validation."""

from __future__ import annotations

import argparse
from pathlib import Path

from hf_finetune.cli.plain import say


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """RESULT [data.key=value …] [--split S] [--data D] [--logit-adjustment TAU] [--tta] [--report FILE],
    or RECIPE [section.key=value …] --folds N [--trained]"""
    parser.add_argument("result", help="run folder, or its adapter/ or model/ folder; with --folds a recipe or data")
    parser.add_argument(
        "overrides",
        nargs="*",
        metavar="data.key=value",
        help="how the images are read: data.label_column, data.image_column, data.test_split, data.max_bad_share …; "
        "data.name is where the run's own images are now",
    )
    parser.add_argument("--split", choices=("train", "validation", "test"), help="default: test")
    parser.add_argument("--data", help="another dataset with the same labels; default: the run's own, as it split them")
    parser.add_argument("--base", help="the base model, where it has moved")
    parser.add_argument(
        "--folds",
        type=int,
        metavar="N",
        help="cross-validate a recipe instead: a closed-form head on frozen features, N times on all but one fold",
    )
    parser.add_argument(
        "--trained",
        action="store_true",
        help="with --folds: a run of the recipe's whole ladder for each, in output.dir/fold-K-of-N",
    )
    parser.add_argument(
        "--logit-adjustment",
        type=float,
        default=0.0,
        metavar="TAU",
        help="take TAU times the logarithm of class shares from the logits first, without training; 1: as if classes "
        "were equally frequent",
    )
    parser.add_argument(
        "--tta",
        action="store_true",
        help="average over each image and its mirror image; not for text, digits or anything that is another thing in "
        "the mirror",
    )
    parser.add_argument(
        "--report", metavar="FILE", help="also write a page with charts and small images, such as photos.html"
    )


def run(options: argparse.Namespace) -> int:
    """Print the metrics."""
    if options.folds is not None:
        return _run_folds(options)
    from hf_finetune.cli.document import print_document
    from hf_finetune.errors import RecipeError
    from hf_finetune.result.evaluate import evaluated

    if options.trained:
        raise RecipeError("--trained: how many folds are trained is expected, found none.", "Such as --folds 5.")

    split = options.split or "test"
    if options.report is not None:
        from hf_finetune.pipeline.pages.again import check_page

        check_page(Path(options.report))
    found = evaluated(
        options.result,
        split=split,
        data=options.data,
        base=options.base,
        overrides=options.overrides,
        logit_adjustment=options.logit_adjustment,
        mirrored=options.tta,
    )
    metrics = found.score
    if options.json:
        print_document(metrics)
    else:
        from hf_finetune.report.summary import render_metrics
        from hf_finetune.report.wording import words_for

        say(render_metrics(metrics, split, words_for(metrics["task"], ())), flush=True)
    if options.report is not None:  # after the score, which a full disk then does not take along
        from hf_finetune.pipeline.pages.again import write_evaluation_page

        write_evaluation_page(found, options.result, Path(options.report))
        if not options.json:
            say(f"Report: {options.report}")
    return 0


def _run_folds(options: argparse.Namespace) -> int:
    from hf_finetune.cli.document import print_document
    from hf_finetune.cli.recipe import recipe_of
    from hf_finetune.errors import RecipeError
    from hf_finetune.pipeline.folds import cross_validate
    from hf_finetune.report.folds import render_folds

    told = ("split", "data", "base", "logit_adjustment", "tta", "report")
    if unused := [name.replace("_", "-") for name in told if getattr(options, name) not in (None, 0.0, False)]:
        raise RecipeError(
            f"--{unused[0]}: with --folds a recipe says what is read, found --{unused[0]}.",
            "Leave it out; data.name and model.name of the recipe are set as section.key=value.",
        )
    recipe = recipe_of(argparse.Namespace(recipe=options.result, overrides=options.overrides))
    found = cross_validate(recipe, folds=options.folds, trained=options.trained)
    if options.json:
        print_document(found)
    else:
        say(render_folds(found))
    return 0
