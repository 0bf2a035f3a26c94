"""List, show or copy the shipped recipes, or print every key that a recipe may have."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from hf_finetune.cli.plain import say


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """list | show NAME | copy NAME [TARGET] | keys"""
    actions = parser.add_subparsers(dest="action", required=True, metavar="list|show|copy|keys")
    actions.add_parser("list", help="name the shipped recipes")
    actions.add_parser("keys", help="print every key, what it takes, its default and what it does")
    show = actions.add_parser("show", help="print one")
    show.add_argument("name")
    copy = actions.add_parser("copy", help="copy one, to change it and own it")
    copy.add_argument("name")
    copy.add_argument("target", nargs="?", help="file or folder; default: NAME.yaml here")
    for action in actions.choices.values():
        action.add_argument("--json", action="store_true", default=argparse.SUPPRESS, help="print one JSON document")


def run(options: argparse.Namespace) -> int:
    """Do the action."""
    from hf_finetune.cli.document import print_document
    from hf_finetune.cli.shipped.files import shipped_recipe, shipped_recipes
    from hf_finetune.report.tables import plain_table, terminal_width

    if options.json and options.action != "copy":
        print_document(_as_dict(options))
        return 0
    if options.action == "keys":
        from hf_finetune.recipe.reference import render_reference

        say(render_reference(), end="")
        return 0
    if options.action == "list":
        recipes = shipped_recipes()
        width = max(map(len, recipes), default=0)
        rows = [(f"{name:<{width}}", _first_line(path)) for name, path in recipes.items()]
        # A file has no width: a line of it is a recipe, whole.
        in_lines = plain_table(rows, terminal_width()) if sys.stdout.isatty() else "\n".join(map("  ".join, rows))
        say(in_lines)
        return 0
    source = shipped_recipe(options.name)
    if options.action == "show":
        say(source.read_text(encoding="utf-8"), end="")
        return 0
    target = _copy(source, Path(options.target or source.name))
    if options.json:
        print_document({"path": target})
    else:
        say(f"{target}  (train it with: hf-finetune train {target})")
    return 0


def _as_dict(options: argparse.Namespace) -> Any:
    """What `list`, `show` and `keys` print, for a program: names, a recipe, the schema of recipes."""
    from hf_finetune.cli.shipped.files import shipped_recipe, shipped_recipes

    if options.action == "list":
        return [{"name": name, "says": _first_line(path), "path": path} for name, path in shipped_recipes().items()]
    if options.action == "keys":
        from hf_finetune.recipe.recipe import recipe_schema

        return recipe_schema()
    from hf_finetune.recipe.parse import parse_yaml

    source = shipped_recipe(options.name)
    return {"name": source.stem, "path": source, "recipe": parse_yaml(source)[0]}


def _first_line(path: Path) -> str:
    return path.read_text(encoding="utf-8").partition("\n")[0].lstrip("# ")


def _copy(source: Path, target: Path) -> Path:
    from hf_finetune.errors import RecipeError

    target = target / source.name if target.is_dir() else target
    try:
        with target.open("x", encoding="utf-8") as file:
            file.write(source.read_text(encoding="utf-8"))
    except FileExistsError:
        raise RecipeError(f"{target} exists already; nothing was written.", "Give another target.") from None
    except OSError as error:
        raise RecipeError(f"{target} cannot be written: {error.strerror or error}.") from None
    return target
