"""What the README.md of a dataset says in its front matter, as the Hub's dataset cards have it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hf_finetune.files.bounded import read_yaml


def card_facts(root: Path) -> dict[str, Any]:
    """The front matter of the folder's README.md; empty where there is none."""
    import yaml

    card = root / "README.md"
    if not card.is_file():
        return {}
    parts = card.read_text(encoding="utf-8", errors="replace").split("---", 2)
    if len(parts) < 3 or parts[0].strip():
        return {}
    try:
        facts = read_yaml(parts[1])
    except (yaml.YAMLError, ValueError):
        return {}
    return facts if isinstance(facts, dict) else {}


def card_licence(root: Path) -> str | None:
    """The licence that the folder's card states."""
    licence = card_facts(root).get("license")
    return ", ".join(map(str, licence)) if isinstance(licence, list) else licence


def card_classes(root: Path, config: str) -> dict[str, tuple[str, ...]]:
    """Class names by column, in order, from the card's `dataset_info` of a configuration (or its only one)."""
    infos = card_facts(root).get("dataset_info")
    listed = [info for info in (infos if isinstance(infos, list) else [infos]) if isinstance(info, dict)]
    wanted = [info for info in listed if info.get("config_name", "default") == config]
    found: dict[str, tuple[str, ...]] = {}
    for info in wanted or (listed if len(listed) == 1 else []):
        features = info.get("features")
        for feature in features if isinstance(features, list) else []:
            if (names := _names(feature)) is not None:
                found[feature["name"]] = names
    return found


def _names(feature: Any) -> tuple[str, ...] | None:
    """Of `{name, dtype: {class_label: {names: {"0": cat, "1": dog}}}}`; None for any other feature."""
    dtype = feature.get("dtype") if isinstance(feature, Mapping) else None
    label = dtype.get("class_label") if isinstance(dtype, Mapping) else None
    names = label.get("names") if isinstance(label, Mapping) else None
    if isinstance(names, list):
        return tuple(map(str, names))
    if isinstance(names, Mapping) and all(str(key).isdigit() for key in names):
        by_number = {int(key): str(name) for key, name in names.items()}
        return (
            tuple(by_number[n] for n in range(len(by_number)))
            if sorted(by_number) == [*range(len(by_number))]
            else None
        )
    return None
