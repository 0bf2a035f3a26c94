"""What base, dataset and result are called in text that others will read: Hub ids, and never a path of this machine."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from hf_finetune.report.fields import RunReport
from hf_finetune.types import BUILTIN

_OF_THIS_MACHINE = ("cache_dir", "corrections", "download_limit", "store_limit")  # of the section data
_TOKEN = re.compile(r"\bhf_[A-Za-z0-9]{16,}")
_UNQUOTED = r"[^\s\\/'\"<>|]"
_ALONE = r"(?<![\w.:/\\])"
_START = rf"{_ALONE}(?:~?/|[A-Za-z]:[\\/]|\\\\)"
_PATHS = (
    re.compile(rf"(?P<quote>['\"]){_START}(?P<quoted>[^'\"\n]*)(?P=quote)"),
    re.compile(rf"{_START}(?:{_UNQUOTED}+[\\/])+{_UNQUOTED}*"),
    re.compile(rf"{_ALONE}\.{{1,2}}[\\/](?:{_UNQUOTED}+[\\/])*{_UNQUOTED}*"),
)


def last_component(path: str) -> str:
    """`../shared/vit_tiny/` → `vit_tiny`; `C:\\weights\\vit` → `vit`."""
    return re.split(r"[\\/]", path.rstrip("\\/"))[-1] or path


def without_paths(text: str) -> str:
    """Every path in `text` that starts at a root, a home or a dot cut down to its last component; the rest stays."""
    for pattern in _PATHS:
        text = pattern.sub(lambda match: last_component(match[0].strip("'\"")), text)
    return text


def discreet(text: str, home: str) -> str:
    """Without the user's home folder, whose name is theirs, and without tokens; other paths stay."""
    if len(home) > 1 and home in text:
        text = re.sub(rf"{re.escape(home)}(?=$|[^\w.-])", "~", text)
    return _TOKEN.sub("hf_***", text) if "hf_" in text else text


def is_hub_model(report: RunReport) -> bool:
    """True where the base has a commit on the Hub."""
    return not report.model["builtin"] and report.model["commit"] is not None


def is_hub_data(report: RunReport) -> bool:
    """True where the dataset has a commit on the Hub."""
    return report.data["commit"] is not None


def base_name(report: RunReport) -> str:
    """The base's Hub id, `builtin:…`, or the last component of its folder."""
    name = report.model["name"]
    return name if is_hub_model(report) else last_component(name)


def dataset_name(report: RunReport) -> str:
    """The dataset's Hub id, `builtin:…`, or the last component of its folder or file."""
    name = report.data["name"]
    return name if is_hub_data(report) else last_component(name)


def start_name(report: RunReport) -> str | None:
    """What the run started from: an adapter's Hub id, or the last component of its folder; None: from nothing."""
    start = report.model.get("start")
    return start and (start["name"] if start["commit"] else last_component(start["name"]))


def title(report: RunReport) -> str:
    """A short name for the result: base and dataset without namespace."""
    return "-".join(last_component(name).removeprefix(BUILTIN) for name in (base_name(report), dataset_name(report)))


def method(report: RunReport) -> str:
    """`LoRA (rank 8)`, `LoRA (rank 8) on an int8 base`, `Trained head`, `Full fine-tuning`."""
    adapter, kind = report.recipe["adapter"], report.recipe["quantization"]["kind"]
    rank = adapter.get("rank")
    names = {"lora": f"LoRA (rank {rank})", "head_only": "Trained head", "full": "Full fine-tuning"}
    return names.get(adapter["kind"], str(adapter["kind"])) + ("" if kind == "none" else f" on an {kind} base")


def shared_recipe(report: RunReport) -> dict[str, Any]:
    """The resolved recipe without what only concerns this machine, and without paths."""
    recipe = {name: section for name, section in report.recipe.items() if name not in ("output", "hub", "tracking")}
    data = {key: value for key, value in recipe["data"].items() if key not in _OF_THIS_MACHINE}
    recipe["data"] = {**data, "name": dataset_name(report)}
    recipe["model"] = {**recipe["model"], "name": base_name(report)}
    start = report.model.get("start")
    if start and not start["commit"]:
        recipe["adapter"] = {**recipe["adapter"], "from": start_name(report)}
    return _without_paths(recipe)


def _without_paths(value: Any) -> Any:
    if isinstance(value, str):
        return without_paths(value)
    if isinstance(value, Mapping):
        return {key: _without_paths(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_without_paths(item) for item in value]
    return value
