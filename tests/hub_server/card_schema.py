"""Whether a card's metadata is what the Hub takes: the check behind `/api/validate-yaml` and behind a push.

Owns the rules, written from the Hub's specification (huggingface/hub-docs, modelcard.md and docs/hub/model-cards.md)
and from the messages that its validator gives. Owns no vocabulary: see `card_terms`. Fields that the specification
does not name are let through, as the Hub does.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Hashable, Sequence
from typing import Any
from urllib.parse import urlsplit

import yaml

from tests.hub_server.card_terms import LICENCES, RELATIONS, TASKS

_BLOCK = re.compile(r"\A\s*---[\r\n]+([\s\S]*?)[\r\n]+---(?:[\r\n]|\Z)")
_ID = re.compile(r"(?!.*(?:--|\.\.))\w[\w.-]{0,95}(?:/\w[\w.-]{0,95})?", re.ASCII)
_LANGUAGE = re.compile(r"[a-z]{2,3}(?:-[a-z0-9]{2,8})*|code|multilingual")  # ISO 639, as the Hub's pages link it


class _UniqueKeys(yaml.SafeLoader):
    """YAML as the Hub's parser reads it: a key that comes twice is an error."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        twice = [key for key in keys if keys.count(key) > 1]
        if twice:
            raise yaml.constructor.ConstructorError(None, None, f"duplicated mapping key: {twice[0]}", node.start_mark)
        return super().construct_mapping(node, deep)


def check(content: str, kind: str) -> tuple[list[str], list[str]]:
    """Errors and warnings about the README.md `content` of a repo of `kind` ("models" or "datasets")."""
    block = _BLOCK.match(content)
    if block is None:
        return [], ["empty or missing yaml metadata in repo card"]
    try:
        card = yaml.load(block[1], _UniqueKeys)
    except yaml.YAMLError as error:
        return [f"invalid yaml metadata: {error}"], []
    if card is None:
        return [], ["empty or missing yaml metadata in repo card"]
    if not isinstance(card, dict):
        return ["the metadata must be a mapping of names to values"], []
    errors: list[str] = []
    for name, rule in (_MODEL_RULES if kind == "models" else _SHARED_RULES).items():
        if name in card:
            errors += rule(f'"{name}"', card[name])
    if card.get("license") == "other" and not isinstance(card.get("license_name"), str):
        errors.append('"license_name" is required when "license" is other')
    return errors, []


def metadata(content: str) -> dict[str, Any]:
    """The metadata as JSON can hold it; {} where it is missing or cannot be read."""
    block = _BLOCK.match(content)
    try:
        card = yaml.safe_load(block[1]) if block is not None else None
    except yaml.YAMLError:
        return {}
    return json.loads(json.dumps(card, default=str)) if isinstance(card, dict) else {}


Rule = Callable[[str, Any], list[str]]


def _text(name: str, value: Any) -> list[str]:
    return [] if isinstance(value, str) and value.strip() else [f"{name} must be a string"]


def _one_of(allowed: Sequence[str]) -> Rule:
    def rule(name: str, value: Any) -> list[str]:
        return [] if value in allowed else [f"{name} must be one of [{', '.join(allowed)}]"]

    return rule


def _licence(name: str, value: Any) -> list[str]:
    return _each(_one_of(LICENCES))(name, value) if isinstance(value, list) else _one_of(LICENCES)(name, value)


def _id_of(kind: str) -> Rule:
    def rule(name: str, value: Any) -> list[str]:
        if isinstance(value, str) and _ID.fullmatch(value):
            return []
        return [f'{name} with value "{value}" is not valid. Use a {kind} id from https://hf.co/{kind}s.']

    return rule


def _language(name: str, value: Any) -> list[str]:
    if isinstance(value, str) and _LANGUAGE.fullmatch(value):
        return []
    return [f'{name} with value "{value}" is not valid. It must be an ISO 639-1, 639-2 or 639-3 code']


def _each(rule: Rule) -> Rule:
    """A list of what `rule` takes."""

    def of_list(name: str, value: Any) -> list[str]:
        if not isinstance(value, list):
            return [f"{name} must be an array"]
        label = name.strip('"')
        return [error for place, item in enumerate(value) for error in rule(f'"{label}[{place}]"', item)]

    return of_list


def _one_or_more(rule: Rule) -> Rule:
    return lambda name, value: _each(rule)(name, value) if isinstance(value, list) else rule(name, value)


def _record(required: dict[str, Rule], optional: dict[str, Rule]) -> Rule:
    """A mapping with the fields of `required` and perhaps those of `optional`."""

    def of_mapping(name: str, value: Any) -> list[str]:
        label = name.strip('"')
        if not isinstance(value, dict):
            return [f'"{label}" must be an object']
        errors = [f'"{label}.{field}" is required' for field in required if field not in value]
        for field, rule in (required | optional).items():
            if field in value:
                errors += rule(f'"{label}.{field}"', value[field])
        return errors

    return of_mapping


def _value(name: str, value: Any) -> list[str]:
    """A metric's value: a number, a text or a record of them; NaN cannot be stored."""
    if value is None or isinstance(value, bool) or (isinstance(value, float) and value != value):
        return [f"{name} must be a number, a string or an object"]
    return []


def _mapping(name: str, value: Any) -> list[str]:
    return [] if isinstance(value, dict) else [f"{name} must be an object"]


def _url(name: str, value: Any) -> list[str]:
    is_url = isinstance(value, str) and urlsplit(value).scheme in ("http", "https")
    return [] if is_url else [f"{name} must be a valid uri"]


_METRIC = _record({"type": _text, "value": _value}, {"name": _text, "config": _text, "args": _mapping})
_DATASET = _record(
    {"type": _text, "name": _text}, {"config": _text, "split": _text, "revision": _text, "args": _mapping}
)
_RESULT = _record(
    {"task": _record({"type": _text}, {"name": _text}), "dataset": _DATASET, "metrics": _each(_METRIC)},
    {"source": _record({"url": _url}, {"name": _text})},
)
_SHARED_RULES: dict[str, Rule] = {
    "license": _licence,
    "license_name": _text,
    "license_link": _text,
    "language": _one_or_more(_language),
    "tags": _each(_text),
}
_MODEL_RULES: dict[str, Rule] = _SHARED_RULES | {
    "library_name": _text,
    "pipeline_tag": _one_of(TASKS),
    "datasets": _one_or_more(_id_of("dataset")),
    "metrics": _each(_text),
    "base_model": _one_or_more(_id_of("model")),
    "base_model_relation": _one_of(RELATIONS),
    "new_version": _id_of("model"),
    "model-index": _each(_record({"name": _text, "results": _each(_RESULT)}, {})),
}
