"""What a file of somebody else may state: types, finite numbers, and sizes within bounds."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any, TypeVar, cast

T = TypeVar("T")


def as_stated(kind: type[T], content: Mapping[str, Any]) -> T:
    """A dataclass from what a file says of its fields. Raises ValueError naming the first that is of another type."""
    if strange := sorted(content.keys() - {each.name for each in fields(cast("Any", kind))}):
        raise ValueError(f"{', '.join(strange)}: not known")
    from pydantic import TypeAdapter, ValidationError

    try:
        return TypeAdapter(kind).validate_python(dict(content))
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise ValueError(f"{where}: {first['msg']}, found {str(first['input'])[:40]!r}") from None


def check_finite(value: Any, where: str) -> None:
    """Raise ValueError for a number in it that is none."""
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{where}: a finite number is expected, found {value}")
    if isinstance(value, Mapping):
        for key, item in value.items():
            check_finite(item, f"{where}.{key}")
    elif isinstance(value, list | tuple):
        for item in value:
            check_finite(item, where)


def check_within(what: str, values: Sequence[int], least: int, most: int) -> None:
    """Raise ValueError naming the first of the values that is not."""
    wrong = next((value for value in values if not least <= value <= most), None)
    if wrong is not None:
        raise ValueError(f"{what}: {least:,} to {most:,} is expected, found {wrong:,}")
