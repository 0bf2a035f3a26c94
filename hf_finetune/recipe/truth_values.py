"""`true` where a recipe takes numbers: pydantic would take it for 1, so it becomes the word, which is refused."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel


def spell_truth_values(content: dict[str, Any], root: type[BaseModel]) -> None:
    """Change them in `content`, also in lists; a key that takes truth values or text keeps them."""
    for section, values in content.items():
        for key, value in values.items() if isinstance(values, dict) else ():
            if not _takes_numbers_alone(root, section, key):
                continue
            values[key] = [_spelled(each) for each in value] if isinstance(value, list) else _spelled(value)


def _spelled(value: object) -> object:
    return str(value).lower() if isinstance(value, bool) else value


def _takes_numbers_alone(root: type[BaseModel], section: str, key: str) -> bool:
    if section not in root.model_fields:
        return False
    members = _plain_types(root.model_fields[section].annotation)
    fields = [each.model_fields[key] for each in members if _is_section(each) and key in each.model_fields]
    types = {found for field in fields for found in _plain_types(field.annotation)}
    return bool(types & {int, float}) and not types & {bool, str}


def _is_section(each: Any) -> bool:
    return isinstance(each, type) and issubclass(each, BaseModel)


def _plain_types(annotation: Any) -> Iterator[Any]:
    """`int | tuple[Annotated[float, …], ...] | None` → int, float, … and NoneType."""
    if get_origin(annotation) is Literal or not get_args(annotation):
        yield annotation
        return
    for each in get_args(annotation):
        yield from _plain_types(each)
