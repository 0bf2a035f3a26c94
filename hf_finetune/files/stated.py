"""What a file of somebody else may state: types, finite numbers, and sizes within bounds."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any, TypeVar, cast

T = TypeVar("T")


def as_stated(kind: type[T], content: Mapping[str, Any]) -> T:
    """A dataclass from what a file says of its fields. Raises ValueError naming the first that is of another type."""
    if strange := sorted(content.keys() - {each.name for each in fields(cast("Any", kind))}):
        raise ValueError(f"{', '.join(strange)}: not known")
    return valid(kind, dict(content))


def valid(kind: type[T], content: Any, where: str = "") -> T:
    """What pydantic makes of it. Raises ValueError naming the first value that is of another type; `where`: the key
    that `content` stands at."""
    from pydantic import TypeAdapter, ValidationError

    try:
        return TypeAdapter(kind).validate_python(content)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        place = ".".join(filter(None, (where, *map(str, first["loc"]))))
        found = "" if first["type"] == "missing" else f", found {str(first['input'])[:40]!r}"
        expected = re.sub(r" or instance of \w+", "", first["msg"]).removeprefix("Value error, ")
        raise ValueError(f"{place}: {expected}{found}") from None


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
