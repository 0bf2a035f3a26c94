"""What is shipped with the package, recipes and pages: in the repository's folders, or in the wheel."""

from __future__ import annotations

import difflib
from pathlib import Path

from hf_finetune.errors import RecipeError


def shipped(name: str) -> Path:
    """The folder of that name. In a checkout it lies at the top level, in a wheel inside the package."""
    package = Path(__file__).resolve().parents[2]
    inside = package / "_shipped" / name
    return inside if inside.is_dir() else package.parent / name


def shipped_recipes() -> dict[str, Path]:
    """Name → file, sorted."""
    return {path.stem: path for path in sorted(shipped("recipes").glob("*.yaml"))}


def shipped_recipe(name: str) -> Path:
    """The shipped recipe of that name. Raises RecipeError with a close match."""
    recipes = shipped_recipes()
    stem = name.removesuffix(".yaml")
    if stem in recipes:
        return recipes[stem]
    close = difflib.get_close_matches(stem, recipes, n=1)
    hint = f"Did you mean {close[0]}?" if close else "`hf-finetune recipes list` names them."
    raise RecipeError(f"There is no shipped recipe {name!r}.", hint)


def recipe_path(written: str) -> Path:
    """A recipe file as written; `quickstart` and a missing `recipes/quickstart.yaml` mean the shipped one."""
    path = Path(written)
    if path.exists():
        return path
    recipes = shipped_recipes()
    stem = path.stem if path.suffix == ".yaml" and path.parent.name in ("", "recipes") else written
    return recipes.get(stem, path)
