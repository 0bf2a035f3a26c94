"""What a person reads when a recipe is wrong: YAML path, line, what was expected, a close match."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from hf_finetune.recipe.parse import LineNumbers
from hf_finetune.recipe.suggest import main_key, suggest, unknown_key

EXPECTED = " is expected"
# What is expected, by the type of pydantic's error, filled in from its context; its own sentences are not read.
_EXPECTED = {
    "int_type": "a valid integer",
    "int_parsing": "a valid integer",
    "int_from_float": "a whole number",
    "float_type": "a valid number",
    "float_parsing": "a valid number",
    "finite_number": "a finite number",
    "bool_type": "a valid boolean",
    "bool_parsing": "a valid boolean",
    "string_type": "text",
    "tuple_type": "a list",
    "model_type": "a section with keys",
    "model_attributes_type": "a section with keys",
    "dict_type": "a section with keys",
    "greater_than": "a number greater than {gt}",
    "greater_than_equal": "a number greater than or equal to {ge}",
    "less_than": "a number less than {lt}",
    "less_than_equal": "a number less than or equal to {le}",
    "string_too_short": "text of at least {min_length} character{s}",
    "too_short": "a list of at least {min_length} value{s}",
    "too_long": "a list of at most {max_length} value{s}",
}
_SECTION_TYPES = ("model_type", "model_attributes_type", "dict_type")
_QUOTED = re.compile(r"'([^']*)'")  # the choices in a context, as pydantic writes them


@dataclass(frozen=True)
class Problem:
    """What is wrong with the value at `path`, as a sentence."""

    path: tuple[str, ...]
    sentence: str

    def render(self, lines: LineNumbers) -> str:
        """With its path, and its line where it has one."""
        line = f"line {lines[self.path]}: " if self.path in lines else ""
        return f"{line}{'.'.join(self.path)}: {self.sentence}"


def find_problems(error: ValidationError, root: type[BaseModel]) -> list[Problem]:
    """One for each path, in the order of the recipe."""
    merged: dict[tuple[str, ...], list[str]] = {}
    problems = [each for each in error.errors(include_url=False) if each["type"] != "default_factory_not_called"]
    placed = [(problem, *_resolve(problem, root)) for problem in problems]
    for problem, path, section in placed:
        # `auto` or a list, found a list with a wrong item: the item is the problem.
        if problem["type"] == "literal_error" and any(other[: len(path)] == path != other for _, other, _ in placed):
            continue
        if path:
            merged.setdefault(path, []).append(_sentence(problem, path, section, root))
        else:  # a cross-field check: its message already names the paths
            for text in str(problem.get("ctx", {})["error"]).split("\n"):
                name, _, sentence = text.partition(": ")
                merged.setdefault(tuple(name.split(".")), []).append(sentence)
    return [Problem(path, _either(sentences)) for path, sentences in merged.items()]


def _either(sentences: Sequence[str]) -> str:
    """A union reports once per member; one path is one problem for the reader."""
    expected = list(dict.fromkeys(sentence.partition("; found ")[0] for sentence in sentences))
    _, semicolon, found = sentences[0].partition("; found ")
    if all(EXPECTED in text for text in expected):
        names = " or ".join(text.partition(EXPECTED)[0] for text in expected)
        return f"{names}{EXPECTED}{expected[-1].partition(EXPECTED)[2]}{semicolon}{found}"
    return f"{' or '.join(expected)}{semicolon}{found}"


def _resolve(problem: Mapping[str, Any], root: type[BaseModel]) -> tuple[tuple[str, ...], type[BaseModel]]:
    """The problem's YAML path, without the union members' names that pydantic puts in, and the section it is in."""
    path: list[str] = []
    section = root
    for position, key in enumerate(problem["loc"]):
        is_unknown = problem["type"] == "extra_forbidden" and position == len(problem["loc"]) - 1
        if isinstance(key, int) or is_unknown:
            path.append(str(key))
        elif key in _keys(section) and (section is not root or not path):
            path.append(key)
            annotation = _keys(section)[key].annotation
            if isinstance(annotation, type) and issubclass(annotation, BaseModel):
                section = annotation
        elif section is root and path:
            section = _member(root, path[0], key) or section
    return tuple(path), section


def _keys(section: type[BaseModel]) -> dict[str, FieldInfo]:
    """The section's fields by the key that a person writes."""
    return {field.alias or name: field for name, field in section.model_fields.items()}


def _member(root: type[BaseModel], section: str, tag: str) -> type[BaseModel] | None:
    """The class of `section`'s union whose kind is `tag`."""
    for member in get_args(root.model_fields[section].annotation):
        is_section = isinstance(member, type) and issubclass(member, BaseModel)
        if is_section and member.model_fields["kind"].default == tag:
            return member
    return None


def _sentence(
    problem: Mapping[str, Any], path: tuple[str, ...], section: type[BaseModel], root: type[BaseModel]
) -> str:
    kind, found, context = problem["type"], problem.get("input"), problem.get("ctx", {})
    if kind == "extra_forbidden":
        return unknown_key(path, section, root)
    if kind in ("union_tag_invalid", "union_tag_not_found"):
        tags = _QUOTED.findall(context.get("expected_tags", ""))
        written = context.get("tag", "nothing")
        return f"kind must be one of {', '.join(tags)}; found {written}{suggest(written, tags)}"
    if kind == "literal_error":
        choices = _QUOTED.findall(context["expected"])
        names = choices[0] if len(choices) == 1 else f"one of {', '.join(choices)}"
        return f"{names}{EXPECTED}; found {found!r}{suggest(str(found), choices)}"
    if kind == "missing":
        return "a value is missing"
    if kind == "value_error":  # our own validators already say what is expected
        message = str(context["error"])
        return message if ", found " in message else f"{message}; found {found!r}"
    if kind == "string_type" and found is not None:  # YAML took 2024 for a number, 2026-11-27 for a date
        read_as = f"which YAML reads as {type(found).__name__}"
        return f"text{EXPECTED}; found {found!s}, {read_as}: quote it, or write a path as ./…"
    if kind == "too_short" and isinstance(found, Mapping):
        return f"at least {context['min_length']} keys are expected; found {', '.join(map(str, found)) or 'none'}"
    if kind not in _EXPECTED:
        return f"{problem['msg']}; found {found!r}"
    values = {name: _whole(value) for name, value in context.items()}
    plural = "" if 1 in (context.get("min_length"), context.get("max_length")) else "s"
    meant = main_key(path) if kind in _SECTION_TYPES else ""
    return f"{_EXPECTED[kind].format(**values, s=plural)}{EXPECTED}; found {found!r}{meant}"


def _whole(value: Any) -> Any:
    """A bound as a person writes it: 10 and not 10.0."""
    return int(value) if isinstance(value, float) and value.is_integer() else value
