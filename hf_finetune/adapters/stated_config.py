"""What an adapter's files state, before PEFT builds anything by it.

adapter_config.json may come from anybody, and PEFT does as it says: a rank of a thousand million is allocated, and a
pattern in `target_modules` is matched against every module, which some patterns take for ever to do. So rank and
modules must be those of the weights that lie beside it, and a pattern a tame one.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hf_finetune.errors import AdapterError, first_line
from hf_finetune.files.bounded import read_json

if TYPE_CHECKING:
    from peft import PeftConfig

CONFIG = "adapter_config.json"
PREFIX = "base_model.model."
KINDS = ("LORA", "LN_TUNING")
_FACTOR = re.compile(r"(?P<module>.+)\.(?:lora_A\.weight|lora_B\.weight|lora_magnitude_vector(?:\.weight)?)")
LARGEST_ALPHA = 1_000_000
# Of a pattern: a repetition in another one takes exponential time where it fails, a row of them polynomial.
MOST_REPETITIONS, LONGEST_PATTERN = 3, 2_000
_REPETITION, _NESTED = re.compile(r"[*+{]"), re.compile(r"\)[*+{]")
# By pattern, which ours never say.
_UNKNOWN = ("rank_pattern", "alpha_pattern", "layers_pattern", "exclude_modules", "layers_to_transform")


def read_raw(folder: Path) -> dict[str, Any]:
    """The file as it is. Raises OSError, and ValueError for what is no object or has an untame pattern."""
    raw = read_json(folder / CONFIG)
    if not isinstance(raw, dict):
        raise ValueError(f"an object is expected, found a {type(raw).__name__}")
    for name in ("target_modules", "exclude_modules", "layers_pattern"):
        if isinstance(pattern := raw.get(name), str):
            check_tame(pattern, name)
    for name in ("rank_pattern", "alpha_pattern"):
        for pattern in raw.get(name) or ():
            check_tame(str(pattern), name)
    return raw


def check_tame(pattern: str, name: str) -> None:
    """Raise ValueError for a pattern that may take for ever on some module's name."""
    repeated = len(_REPETITION.findall(pattern))
    if len(pattern) > LONGEST_PATTERN or repeated > MOST_REPETITIONS or _NESTED.search(pattern):
        raise ValueError(f"{name} is a pattern that could take for ever to match: a list of names is expected")


def stated_config(folder: Path, shapes: Mapping[str, tuple[int, ...]]) -> PeftConfig:
    """The config of an adapter that this package saved, with the modules that its weights (`shapes` by key) are for.

    Raises AdapterError where it is of another kind, or does not agree with the weights.
    """
    from peft import LNTuningConfig, LoraConfig

    again = "fetch or train it again"
    try:
        raw = read_raw(folder)
        if raw.get("peft_type") not in KINDS:
            raise ValueError(f"peft_type: one of {', '.join(KINDS)} is expected, found {raw.get('peft_type')!r}")
        if strange := [name for name in _UNKNOWN if raw.get(name)]:
            raise ValueError(f"{', '.join(strange)}: not known of a result")
        kind: Any = LoraConfig if raw["peft_type"] == "LORA" else LNTuningConfig
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # options of a newer PEFT
            config: Any = kind.from_pretrained(str(folder))
        modules = {name for key in shapes if (name := _module_of(key, low_rank=kind is LoraConfig)) is not None}
        if kind is LoraConfig:
            _check_numbers(config, shapes)
        if isinstance(config.target_modules, str):
            config.target_modules = modules
        elif absent := sorted(set(map(str, config.target_modules or ())) - _ends(modules)):
            raise ValueError(f"target_modules names {', '.join(absent[:3])}, of which there are no weights")
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise AdapterError(f"{CONFIG} in {str(folder)!r} cannot be used: {first_line(error)}", again) from error
    return config


def _module_of(key: str, *, low_rank: bool) -> str | None:
    name = key.removeprefix(PREFIX)
    if not low_rank:
        return name.rpartition(".")[0].removesuffix(".ln_tuning_layers")
    match = _FACTOR.fullmatch(name)
    return match["module"] if match is not None else None


def _ends(modules: set[str]) -> set[str]:
    """Every name that PEFT would take for one of the modules: the whole, and each part behind a dot."""
    return {".".join(parts[start:]) for name in modules for parts in [name.split(".")] for start in range(len(parts))}


def _check_numbers(config: Any, shapes: Mapping[str, tuple[int, ...]]) -> None:
    ranks = {shape[0] for key, shape in shapes.items() if key.endswith("lora_A.weight") and shape}
    if ranks != {config.r}:
        raise ValueError(f"r: the rank of the weights is expected, {sorted(ranks)}, found {config.r!r}")
    if not (isinstance(config.lora_alpha, int | float) and 0 < abs(config.lora_alpha) <= LARGEST_ALPHA):
        raise ValueError(f"lora_alpha: a number up to {LARGEST_ALPHA:,} is expected, found {config.lora_alpha}")
