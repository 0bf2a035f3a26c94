"""What the files of a saved LoRA adapter say: its config, refused where a recipe has no word for it, and its tensors.

Reads adapter_config.json and the header of adapter_model.safetensors, no weights.
"""

from __future__ import annotations

import warnings
from dataclasses import MISSING, fields
from typing import TYPE_CHECKING, Any

from hf_finetune.adapters.starting.fetch import CONFIG, WEIGHTS, Fetched
from hf_finetune.adapters.stated_config import read_raw
from hf_finetune.errors import AdapterError, first_line

if TYPE_CHECKING:
    from peft import LoraConfig

# Options that say nothing of what the adapter computes, or that are read here.
# fmt: off
_READ = frozenset((
    "task_type", "peft_type", "auto_mapping", "peft_version", "base_model_name_or_path", "revision", "inference_mode",
    "r", "target_modules", "exclude_modules", "lora_alpha", "lora_dropout", "fan_in_fan_out", "use_rslora",
    "modules_to_save", "init_lora_weights", "eva_config", "layers_to_transform", "layers_pattern", "use_dora",
    "runtime_config", "megatron_core",
))
# fmt: on
# Others (pissa, olora, corda, loftq …) change the base's weights too when the adapter is put on.
_PLAIN_STARTS = (True, False, "gaussian", "orthogonal", "eva")


def read_config(fetched: Fetched) -> LoraConfig:
    """Raises AdapterError for another method than LoRA, and for LoRA with more to it than a recipe can say."""
    from peft import LoraConfig

    where = f"adapter.from: {fetched.name!r}"
    try:
        raw = read_raw(fetched.folder)
        kind = raw["peft_type"]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # options of a newer PEFT, and a flag that it corrects itself
            config = LoraConfig.from_pretrained(str(fetched.folder)) if kind == "LORA" else None
    except (OSError, ValueError, KeyError, TypeError) as error:
        text = first_line(error)
        raise AdapterError(f"{where}: its {CONFIG} cannot be used: {text}", "fetch or save it again") from error
    if not isinstance(config, LoraConfig):
        raise AdapterError(
            f"{where} is an adapter of the kind {kind}, not LoRA",
            "give a LoRA adapter; a head alone (LN_TUNING) is trained anew by the probe in a second",
        )
    strange = [field.name for field in fields(config) if field.name not in _READ and _is_set(config, field)]
    if config.init_lora_weights not in _PLAIN_STARTS:
        strange.append(f"init_lora_weights={config.init_lora_weights}")
    if strange:
        raise AdapterError(
            f"{where} uses {', '.join(strange)}, for which a recipe has no key",
            "give a plain LoRA: one rank and one scale for all of its modules, nothing but low-rank factors and a head",
        )
    return config


def _is_set(config: LoraConfig, field: Any) -> bool:
    default = field.default if field.default is not MISSING else field.default_factory()
    value = getattr(config, field.name)
    return value != default and bool(value)


def read_shapes(fetched: Fetched) -> dict[str, tuple[int, ...]]:
    """Every tensor of the file by its key; only the header is read."""
    from safetensors import SafetensorError, safe_open

    path = fetched.folder / WEIGHTS
    try:
        with safe_open(path, framework="pt") as file:
            return {key: tuple(file.get_slice(key).get_shape()) for key in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise AdapterError(
            f"adapter.from: {WEIGHTS} of {fetched.name!r} is damaged: {error}", "fetch or save it again"
        ) from error


def incomplete(name: str, what: str, keys: list[str]) -> AdapterError:
    """The refusal of a file whose tensors are not the backbone's; `what` is the verb."""
    more = f" and {len(keys) - 3} more" if len(keys) > 3 else ""
    return AdapterError(
        f"adapter.from: {WEIGHTS} of {name!r} {what} {len(keys)} weights: {', '.join(sorted(keys)[:3])}{more}",
        "it is incomplete, or belongs to another base model",
    )
