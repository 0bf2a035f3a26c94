"""The command line's `section.key=value` over a recipe: applied, and told apart from the file's own mistakes. Light."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any, get_args

from pydantic import BaseModel

from hf_finetune.errors import RecipeError
from hf_finetune.recipe.parse import parse_override, set_path

logger = logging.getLogger(__name__)
Path = tuple[str, ...]


def apply_overrides(content: dict[str, Any], overrides: Sequence[str], root: type[BaseModel]) -> dict[Path, str]:
    """Set each override in `content`; gives what was written on the command line by its path.

    Where the command line chooses another `kind` of a section, the keys that only other kinds know, and that came from
    the recipe, are left out and named. Raises RecipeError for what is no override.
    """
    written: dict[Path, str] = {}
    problems: list[str] = []
    own = {section: dict(value) for section, value in content.items() if isinstance(value, Mapping)}
    for override in overrides:
        try:
            path, value = parse_override(override)
            set_path(content, path, value)
        except ValueError as error:
            problems.append(str(error))
        else:
            written[path] = override
    if problems:
        raise RecipeError(command_line_problems(problems))
    for section in own:
        if (section, "kind") in written and isinstance(content[section], dict):
            _drop_foreign(section, content[section], own[section], written, root)
    return written


def command_line_problems(problems: Sequence[str]) -> str:
    """What is said of mistakes on the command line, whatever the recipe is."""
    return "\n  - ".join(["The command line cannot be used:", *problems])


def blames_command_line(
    path: Path, content: Mapping[str, Any], written: Mapping[Path, str], sentence: str = ""
) -> bool:
    """Whether the problem at `path` comes from the command line; `content` is the recipe without it.

    A sentence on several keys (a quantized base and full fine-tuning) is the command line's where it names one of its.
    """
    for override in written:
        if path[: len(override)] == override:
            return True
        if override[: len(path)] == path and not _holds(content, path):
            return True
        if override[:-1] == path and override[-1] == "kind":  # a wrong kind is a problem of its section
            return True
        if ".".join(override) in sentence:
            return True
    return False


def _holds(content: Any, path: Path) -> bool:
    for key in path:
        if not isinstance(content, Mapping) or key not in content:
            return False
        content = content[key]
    return True


def _drop_foreign(
    section: str,
    value: dict[str, Any],
    before: Mapping[str, Any],
    written: Mapping[Path, str],
    root: type[BaseModel],
) -> None:
    """Leave out of `value` what the recipe said for another kind than the command line's."""
    kinds = kinds_of(root, section)
    chosen = kinds.get(str(value["kind"]))
    if chosen is None:  # refused later, with the kinds that there are
        return
    others = {key for kind in kinds.values() for key in keys_of(kind)} - set(keys_of(chosen))
    dropped = [key for key in before if key in others and (section, key) not in written]
    for key in dropped:
        del value[key]
    if dropped:
        names = ", ".join(f"{section}.{key}" for key in dropped)
        logger.warning("%s: %s of the recipe left out, which it does not have.", written[section, "kind"], names)


def kinds_of(root: type[BaseModel], section: str) -> dict[str, type[BaseModel]]:
    """The members of a section's union by their kind; empty where it is none."""
    field = root.model_fields.get(section)
    members = [each for each in get_args(field.annotation) if _is_section(each)] if field is not None else []
    return {member.model_fields["kind"].default: member for member in members if "kind" in member.model_fields}


def keys_of(section: type[BaseModel]) -> list[str]:
    """The keys that a person writes in a section."""
    return [field.alias or name for name, field in section.model_fields.items()]


def _is_section(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)
