"""What stands behind `train`, `plan`, `check` and `lr-find`: a recipe, a run folder, or data alone."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hf_finetune.recipe.recipe import Recipe


def add_recipe_arguments(parser: argparse.ArgumentParser) -> None:
    """[RECIPE | DATA] [section.key=value …]"""
    parser.add_argument(
        "recipe",
        nargs="?",
        help="a recipe file (see `hf-finetune recipes list`), or a folder of images or a table without one",
    )
    parser.add_argument("overrides", nargs="*", metavar="section.key=value", help="override a value of the recipe")


def recipe_of(options: argparse.Namespace) -> Recipe:
    """The recipe of the command line. Raises RecipeError, and for data alone what choosing a backbone raises."""
    from hf_finetune.cli.shipped.files import recipe_path
    from hf_finetune.recipe.recipe import load_recipe

    written, overrides = options.recipe, list(options.overrides)
    if written is not None and "=" in written and not Path(written).exists():
        written, overrides = None, [written, *overrides]
    if written is None or is_data(written):
        from hf_finetune.pipeline.from_data import recipe_for

        return recipe_for(written, overrides)
    path = recipe_path(written)
    if not path.exists():
        raise _no_recipe(written)
    return load_recipe(path / "recipe.yaml" if path.is_dir() else path, overrides)


def is_data(written: str) -> bool:
    """Whether it can only be meant as data: a folder that is no run's, a table, or built in."""
    from hf_finetune.data.sources.naming import ARCHIVE_SUFFIXES, IMAGE_SUFFIXES, TABLE_SUFFIXES
    from hf_finetune.types import is_builtin

    path = Path(written).expanduser()
    if path.is_dir():
        return not (path / "recipe.yaml").is_file()
    return is_builtin(written) or path.suffix.lower() in (*TABLE_SUFFIXES, *ARCHIVE_SUFFIXES, *IMAGE_SUFFIXES)


def _no_recipe(written: str) -> Exception:
    """What is said of a name that is neither a file nor a folder nor a shipped recipe."""
    from hf_finetune.cli.shipped.files import shipped_recipes
    from hf_finetune.data.sources.naming import HUB_ID, looks_like_path, missing_path_hint
    from hf_finetune.errors import RecipeError
    from hf_finetune.recipe.suggest import suggest

    hints = [missing_path_hint(Path(written), close_only=True).removesuffix("?")]
    hints.append(suggest(Path(written).stem, shipped_recipes()).removeprefix("; ").removesuffix("?"))
    close = " or ".join(hint.removeprefix("did you mean ") for hint in hints if hint)
    parts = [f"Did you mean {close}?"] if close else []
    parts.append("`hf-finetune recipes list` names the shipped ones; `recipes copy NAME`.")
    if "/" in written and HUB_ID.fullmatch(written) and not looks_like_path(written):
        parts.append(f"A dataset of the Hub: data.name={written}.")
    return RecipeError(f"There is no recipe or folder at {written}.", " ".join(parts))
