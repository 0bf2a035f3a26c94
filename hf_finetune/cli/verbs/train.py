"""Train a recipe, or on images without one; the same command resumes an unfinished run."""

from __future__ import annotations

import argparse
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from hf_finetune.cli.plain import say
from hf_finetune.cli.recipe import add_recipe_arguments, recipe_of

if TYPE_CHECKING:
    from hf_finetune.recipe.recipe import Recipe


JSON = "print run.json, with where run and result lie and what was pushed"
_EXISTING = {
    "extend": "go on from its adapter, with the budget and the train section of now",
    "overwrite": "begin anew there; the run is kept until the new one has a model",
    "number": "take the next free name, output.dir-2 and so on",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """[RECIPE | DATA] [section.key=value …] [--extend | --overwrite | --number] [--no-cache] [--accelerate NAME]"""
    add_recipe_arguments(parser)
    existing = parser.add_mutually_exclusive_group()
    for name, what in _EXISTING.items():
        existing.add_argument(f"--{name}", action="store_true", help=f"where output.dir holds a run: {what}")
    parser.add_argument(
        "--no-cache", action="store_true", help="reuse no decoded images or features, and leave none behind"
    )
    parser.add_argument(
        "--accelerate",
        metavar="NAME",
        help="on several processes: multi_gpu, cpu_multi, another of accelerate_configs/, or a configuration's path",
    )


@contextmanager
def own_cache(recipe: Recipe) -> Iterator[None]:
    """A cache beside the run folder for this run alone, removed at its end. Raises RecipeError for a named cache."""
    from hf_finetune.errors import RecipeError
    from hf_finetune.machine.processes import is_first

    if recipe.data.cache_dir:
        raise RecipeError(
            f"--no-cache: data.cache_dir names a cache, {recipe.data.cache_dir}.", "Leave one of them out."
        )
    folder = recipe.output.folder
    place = folder.with_name(f"{folder.name}.cache")
    before = os.environ.get("HF_FINETUNE_CACHE")
    if is_first():
        _remove_cache(place)
    os.environ["HF_FINETUNE_CACHE"] = str(place)
    try:
        yield
    finally:
        if before is None:
            del os.environ["HF_FINETUNE_CACHE"]
        else:
            os.environ["HF_FINETUNE_CACHE"] = before
        if is_first():
            _remove_cache(place)


def _remove_cache(place: Path) -> None:
    """What a run puts there; a folder with files of somebody else stays."""
    from hf_finetune.run.speeds import FILE

    shutil.rmtree(place / "store", ignore_errors=True)
    (place / FILE).unlink(missing_ok=True)
    with suppress(OSError):
        place.rmdir()


def run(options: argparse.Namespace) -> int:
    """Train, and print the summary on rank 0."""
    if options.accelerate is not None:
        from hf_finetune.cli.launch import launch

        return launch(options.accelerate, options.arguments)
    from hf_finetune.cli.document import print_document
    from hf_finetune.machine import interruption, processes
    from hf_finetune.machine.launcher import refuse_engines
    from hf_finetune.pipeline.train import train
    from hf_finetune.run.clock import process_start

    refuse_engines()
    for name in _EXISTING:
        if getattr(options, name):
            options.overrides = [*options.overrides, f"output.existing={name}"]
    recipe = recipe_of(options)
    interruption.listen()  # a scheduler that ends the job gets the best rung so far too
    try:
        with own_cache(recipe) if options.no_cache else nullcontext():
            finished = train(recipe, started=process_start(), push=False)
    finally:
        processes.leave()
    if processes.is_first():
        from hf_finetune.cli.verbs.push import render_uploaded, uploaded_as_dict
        from hf_finetune.report.summary import render_summary

        if not options.json:
            say(render_summary(finished.report, finished.folder.path), flush=True)
        pushed = [] if recipe.hub.repo is None else finished.push(recipe.hub)
        if options.json:
            where = {"run": finished.folder.path, "result": finished.result}
            print_document({**where, **finished.report, "pushed": [uploaded_as_dict(done) for done in pushed]})
        else:
            for done in pushed:
                say(render_uploaded(done))
    return 0
