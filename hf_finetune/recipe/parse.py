"""Reading a recipe's YAML and the command line's overrides into plain mappings, remembering line numbers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from hf_finetune.errors import RecipeError
from hf_finetune.files.bounded import OutOfBoundsError, read_yaml

MOST_BYTES = 1_000_000  # of a recipe
LineNumbers = dict[tuple[str, ...], int]


def parse_yaml(path: Path) -> tuple[dict[str, Any], LineNumbers]:
    """The file's mapping, and the line (from 1) of every key by its path. Raises RecipeError naming the file."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise RecipeError(
            f"There is no recipe at {path}.", "`hf-finetune recipes list` names the shipped ones; `recipes copy NAME`."
        ) from None
    except IsADirectoryError:
        raise RecipeError(f"{path} is a folder; a recipe is a YAML file.") from None
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeError(f"{path} cannot be read as UTF-8 text: {error}") from None
    try:
        content = read_yaml(text, most_bytes=MOST_BYTES)
        node = yaml.compose(text, Loader=yaml.SafeLoader)
    except (yaml.YAMLError, ValueError) as error:  # a ValueError: 2026-27-11, taken for a date
        hint = "Write Windows paths without quotes, or with /." if "unknown escape" in str(error) else ""
        raise RecipeError(f"{path} is not valid YAML: {error}", hint) from None
    if content is None:
        return {}, {}
    if not isinstance(content, dict) or not isinstance(node, yaml.MappingNode):
        raise RecipeError(
            f"{path}: a mapping of sections (model, data, …) is expected, found a {type(content).__name__}."
        )
    lines: LineNumbers = {}
    repeated: list[str] = []
    _walk(node, (), lines, repeated)
    if repeated:
        # YAML lets the last one win, so that a person's setting is lost without a word.
        raise RecipeError(f"{path}: the same key is written twice: {', '.join(repeated)}.")
    return content, lines


def _walk(node: yaml.MappingNode, path: tuple[str, ...], lines: LineNumbers, repeated: list[str]) -> None:
    for key, value in node.value:
        here = (*path, str(key.value))
        if here in lines:
            repeated.append(f"{'.'.join(here)} (lines {lines[here]} and {key.start_mark.line + 1})")
        lines[here] = key.start_mark.line + 1
        if isinstance(value, yaml.MappingNode):
            _walk(value, here, lines, repeated)


def parse_override(text: str) -> tuple[tuple[str, ...], Any]:
    """`train.epochs=3` → (("train", "epochs"), 3); the value is YAML. Raises ValueError."""
    path, equals, value = text.partition("=")
    keys = tuple(path.strip().split("."))
    if not equals or not all(keys):
        raise ValueError(f"{text!r}: an override is written section.key=value, such as train.epochs=3")
    try:
        return keys, read_yaml(value, most_bytes=MOST_BYTES)
    except OutOfBoundsError as error:
        raise ValueError(f"{text[:40]!r}…: {error}") from None
    except (yaml.YAMLError, ValueError):
        raise ValueError(f"{text!r}: the value is not valid YAML; quote it") from None


def set_path(content: dict[str, Any], path: tuple[str, ...], value: Any) -> None:
    """Set a nested key, making sections as needed. Raises ValueError where a section is not a mapping."""
    *parents, last = path
    for key in parents:
        inner = content.get(key)
        if inner is None:
            inner = content[key] = {}
        if not isinstance(inner, dict):
            raise ValueError(f"{'.'.join(path)}: {key} is {inner!r} in the recipe, not a section")
        content = inner
    content[last] = value
