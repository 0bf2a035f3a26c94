"""Every key of a recipe in one Markdown page, made from the types: `docs/recipe-keys.md` is what this gives."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterator, Mapping
from typing import Any

from hf_finetune.recipe.recipe import recipe_schema

_WIDTH = 120
_HEAD = """# Keys of a recipe

Every key, what it takes, its default, and what it does. The page is made from the types: `hf-finetune recipes keys`
prints it, and a test compares. A key is written `section: {key: value}` in the file, or `section.key=value` on the
command line. Bytes are written `4GB` or `512MiB`, times `150s` or `2m`. `null` leaves the choice to the plan.
"""
_BOUNDS = {"minimum": "at least", "exclusiveMinimum": "above", "maximum": "at most", "exclusiveMaximum": "below"}


def render_reference() -> str:
    """The page as Markdown."""
    schema = recipe_schema()
    parts = [_HEAD]
    for section, field in schema["properties"].items():
        kinds = list(_kinds(field, schema["$defs"]))
        if not kinds:
            parts.append(f"## {section}\n\n{_line(section, field, schema['$defs'])}\n")
            continue
        parts.append(f"## {section}\n")
        for kind, definition in kinds:
            title = f"### {section}.kind: {kind}\n\n" if len(kinds) > 1 else ""
            lines = [
                _line(f"{section}.{key}", each, schema["$defs"])
                for key, each in definition["properties"].items()
                if key != "kind"
            ]
            text = textwrap.fill(definition.get("description", "").split("\n\n")[0].replace("\n", " "), _WIDTH)
            keys = "\n".join(lines) if lines else "No further keys."
            parts.append(f"{title}{text}\n\n{keys}\n")
    return "\n".join(parts)


def _kinds(field: Mapping[str, Any], definitions: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """The classes that a section may be, by their `kind`; none where it is a plain value."""
    for each in field.get("oneOf") or field.get("anyOf") or [field]:
        if (name := _referred(each)) is not None and "properties" in definitions[name]:
            definition = definitions[name]
            yield definition["properties"].get("kind", {}).get("const", ""), definition


def _referred(field: Mapping[str, Any]) -> str | None:
    reference = field.get("$ref")
    return None if reference is None else reference.rpartition("/")[2]


def _line(key: str, field: Mapping[str, Any], definitions: Mapping[str, Any]) -> str:
    empty = field.get("type") == "object" and "minProperties" not in field  # its default is made anew each time
    default = f"`{json.dumps(field['default'], ensure_ascii=False)}`" if "default" in field else "needed"
    default = "`{}`" if empty else default
    takes = _takes(field, definitions)
    what = field.get("description", "")
    return textwrap.fill(
        f"- `{key}`: {takes}; default {default}" + (f". {_sentence(what)}" if what else "."),
        _WIDTH,
        subsequent_indent="  ",
        break_on_hyphens=False,
        break_long_words=False,
    )


def _sentence(text: str) -> str:
    """With a full stop, and a capital letter unless it begins with a value."""
    return f"{text if text.startswith('null') else text[0].upper() + text[1:]}."


def _takes(field: Mapping[str, Any], definitions: Mapping[str, Any]) -> str:
    """What a value may be, in words: `a whole number above 0`, `"lora" or "full"`, `text or null`."""
    if "anyOf" in field:
        return " or ".join(dict.fromkeys(_takes(each, definitions) for each in field["anyOf"]))
    if (name := _referred(field)) is not None:
        return _takes(definitions[name], definitions)
    if "const" in field:
        return f"`{field['const']}`"
    if "enum" in field:
        return ", ".join(f"`{each}`" for each in field["enum"])
    bounds = "".join(f" {word} {field[bound]:,}" for bound, word in _BOUNDS.items() if bound in field)
    kind = field.get("type")
    if kind == "array":
        inner = field.get("items") or {"anyOf": field.get("prefixItems", [{}])}
        return f"a list of {_takes(inner, definitions)}"
    if kind == "object":
        return "a mapping of names to " + (
            "a task" if "oneOf" in (of := field["additionalProperties"]) else _takes(of, definitions)
        )
    words = {"integer": "a whole number", "number": "a number", "boolean": "`true`, `false`", "null": "`null`"}
    if isinstance(kind, list):
        return "text or a number"
    return words.get(str(kind), "text") + bounds
