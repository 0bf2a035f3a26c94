"""Where a backbone comes from: a Hub id, a local folder or the built-in starter; and the refusals that need no build.

Owns finding `config.json`, the resolved commit and the licence. Reads no weights and builds no model.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from hf_finetune.backbones.config import Model
from hf_finetune.errors import ModelError
from hf_finetune.network.fetch import fetch
from hf_finetune.types import BUILTIN, is_builtin

_BUILTINS = ("starter",)
_WEIGHTS = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json")
_LOOK = "a Hub id such as timm/vit_tiny_patch16_224.augreg_in21k_ft_in1k, a folder, or builtin:starter is expected"


@dataclass(frozen=True)
class Checkpoint:
    """A backbone that was found. `location` is what `from_pretrained` takes; `raw` is its config.json."""

    name: str
    library: Literal["timm", "transformers", "builtin"]
    location: str
    revision: str | None
    commit: str | None
    raw: dict[str, Any]

    @property
    def is_timm(self) -> bool:
        """True where transformers will go through its timm wrapper."""
        return "pretrained_cfg" in self.raw or self.raw.get("model_type") == "timm_wrapper"

    @property
    def licence(self) -> str | None:
        """The licence that config.json (timm's do) or the model card states, else None; a built-in one has ours."""
        if self.library == "builtin":
            return "apache-2.0"
        stated = self.raw.get("license") or self.raw.get("pretrained_cfg", {}).get("license")
        stated = stated or card_data(self).get("license")
        return stated if isinstance(stated, str) else None


def builtin_path(name: str) -> Path:
    """The packaged folder of `builtin:starter`. Raises ModelError for a name that is not built in."""
    short = name.removeprefix(BUILTIN)
    if short not in _BUILTINS:
        known = ", ".join(f"{BUILTIN}{each}" for each in _BUILTINS)
        raise ModelError(f"model.name: {name!r} is not a built-in backbone", f"there is {known}")
    return Path(__file__).resolve().parent / short / "weights"


def find(model: Model) -> Checkpoint:
    """Find the backbone's config.json, in a folder or on the Hub (its cache first when offline).

    Raises ModelError where it is absent, gated, an adapter, quantized already, or needs code from the Hub.
    """
    source = _found(model)
    kind = quantized_kind(source)
    if kind is not None:
        raise is_quantized(source, kind)
    return source


def _found(model: Model) -> Checkpoint:
    if is_builtin(model.name):
        folder = builtin_path(model.name)
        return _in_folder(model, folder, "builtin")
    folder = Path(model.name).expanduser()
    if folder.is_dir():
        return _in_folder(model, folder, None)
    if _looks_like_a_path(model.name):
        raise ModelError(f"model.name: there is no folder {model.name!r}", _LOOK)
    return _on_hub(model)


def unquantized_origin(name: str) -> tuple[bool, str | None]:
    """Whether the model `name` is quantized already, and what it then says that it was made from, as far as known.

    (False, None) where it cannot be found.
    """
    try:
        source = _found(Model(name=name))
    except ModelError:
        return False, None
    quantized = quantized_kind(source) is not None
    return quantized, origin(source) if quantized else None


def _looks_like_a_path(name: str) -> bool:
    return name.startswith((".", "/", "~")) or "\\" in name or name.count("/") > 1 or Path(name).is_absolute()


def _in_folder(model: Model, folder: Path, library: Literal["builtin"] | None) -> Checkpoint:
    if model.revision is not None:
        raise ModelError(
            f"model.revision: {model.revision!r} is set, but model.name {model.name!r} is a folder, without revisions",
            "remove model.revision",
        )
    weights = [file for file in _WEIGHTS if (folder / file).is_file()]
    if (folder / "adapter_config.json").is_file() and not weights:
        raise _is_adapter(model.name)
    if not (folder / "config.json").is_file():
        raise ModelError(
            f"model.name: {model.name!r} holds no config.json",
            "give a folder that save_pretrained (transformers) or save_for_hf (timm) wrote",
        )
    if not weights:
        raise ModelError(
            f"model.name: {model.name!r} holds a config.json but no weights",
            f"one of {', '.join(_WEIGHTS)} is expected",
        )
    raw = _read_config(model.name, folder / "config.json")
    timm = "pretrained_cfg" in raw or raw.get("model_type") == "timm_wrapper"
    # Paths are made absolute so that a run that changes folder, or an adapter saved elsewhere, finds the same base.
    return Checkpoint(
        model.name, library or ("timm" if timm else "transformers"), str(folder.resolve()), None, None, raw
    )


def _on_hub(model: Model) -> Checkpoint:
    from huggingface_hub import errors, hf_hub_download

    def config() -> str:
        return hf_hub_download(model.name, "config.json", revision=model.revision)

    # A name without a user is one of transformers' oldest models, or a timm model as timm itself calls it.
    absent = "check the spelling" if "/" in model.name else "check the spelling; timm's models are called timm/NAME.TAG"
    keys = {"key": "model.name", "revision_key": "model.revision"}
    try:
        path = fetch(config, model.name, model.revision, ModelError, **keys, look=_LOOK, absent=absent)
    except errors.EntryNotFoundError as error:
        raise _no_config(model) from error
    raw = _read_config(model.name, path)
    commit = path.parent.name if path.parent.parent.name == "snapshots" else None
    timm = "pretrained_cfg" in raw or raw.get("model_type") == "timm_wrapper"
    return Checkpoint(model.name, "timm" if timm else "transformers", model.name, model.revision, commit, raw)


def _no_config(model: Model) -> ModelError:
    from huggingface_hub import errors, hf_hub_download

    try:
        hf_hub_download(model.name, "adapter_config.json", revision=model.revision)
    except (errors.EntryNotFoundError, errors.HfHubHTTPError, OSError):
        return ModelError(
            f"model.name: {model.name!r} holds no config.json",
            "it is not a model of transformers or timm, or in a format that they do not read",
        )
    return _is_adapter(model.name)


def _is_adapter(name: str) -> ModelError:
    return ModelError(
        f"model.name: {name!r} is an adapter, not a backbone",
        "give the base model that it was trained on (base_model_name_or_path in its adapter_config.json)",
    )


# Endings of tensors that bitsandbytes saves beside a quantized weight.
_SCALES = (".SCB", ".weight_format", ".absmax", ".quant_map", ".quant_state.bitsandbytes__nf4")


def quantized_kind(source: Checkpoint) -> str | None:
    """`bitsandbytes, int8`, `gptq`, … where the checkpoint's weights are quantized already, else None.

    Its config says so; a folder's own tensors do, where the config has lost it.
    """
    about = source.raw.get("quantization_config") or source.raw.get("compression_config")
    if isinstance(about, dict):
        method = str(about.get("quant_method") or "bitsandbytes")
        bits = {"load_in_8bit": "int8", "load_in_4bit": str(about.get("bnb_4bit_quant_type", "4 bits"))}
        known = [name for key, name in bits.items() if about.get(key) or about.get(f"_{key}")]
        return ", ".join([method, *known[:1]])
    return "bitsandbytes" if scales_among(_tensor_names(Path(source.location))) else None


def scales_among(names: Iterable[str]) -> list[str]:
    """Those tensors that only a checkpoint quantized by bitsandbytes holds."""
    return [name for name in names if name.endswith(_SCALES)]


def _tensor_names(folder: Path) -> list[str]:
    """From the header of a folder's safetensors; nothing for what is not on this machine, or no safetensors."""
    try:
        index = folder / _WEIGHTS[1]
        if index.is_file():
            return list(json.loads(index.read_text(encoding="utf-8"))["weight_map"])
        with (folder / _WEIGHTS[0]).open("rb") as file:
            return list(json.loads(file.read(int.from_bytes(file.read(8), "little"))))
    except (OSError, ValueError, KeyError, TypeError, MemoryError, OverflowError):
        return []  # a damaged file is reported when it is read


def origin(source: Checkpoint) -> str | None:
    """The model that a quantized one was made from, as its config or its card says, unless that is itself."""
    stated = [source.raw.get("_name_or_path"), source.raw.get("base_model_name_or_path")]
    stated = [name for name in stated if isinstance(name, str) and name]
    if not stated:
        of_card = card_data(source).get("base_model")
        stated = of_card if isinstance(of_card, list) else [of_card]
    own = {source.name.casefold(), source.location.casefold()}
    return next((name for name in stated if isinstance(name, str) and name and name.casefold() not in own), None)


def is_quantized(source: Checkpoint, kind: str) -> ModelError:
    """The refusal of a checkpoint that is quantized already."""
    made_from = origin(source)
    named = f"the unquantized {made_from}" if made_from else "the unquantized model that it was made from"
    if made_from and _looks_like_a_path(made_from) and not Path(made_from).is_dir():
        named += ", which is no folder on this machine"
    wanted = "int8" if "int8" in kind else "nf4" if "4" in kind else "int8 or nf4"
    return ModelError(
        f"model.name: {source.name!r} is quantized already ({kind}): it cannot be trained on, predicted with or merged "
        "into as a base model",
        f"give {named}, as the base model; quantization.kind={wanted} then keeps it as small",
    )


def card_data(source: Checkpoint) -> dict[str, Any]:
    """The YAML block that opens README.md; empty where there is none, or it cannot be fetched."""
    from huggingface_hub import ModelCard, errors, hf_hub_download

    card = Path(source.location) / "README.md"
    if not Path(source.location).is_dir():
        try:
            card = Path(hf_hub_download(source.location, "README.md", revision=source.commit or source.revision))
        except (errors.EntryNotFoundError, errors.HfHubHTTPError, OSError):
            return {}
    if not card.is_file():
        return {}
    try:
        return ModelCard.load(card, ignore_metadata_errors=True).data.to_dict()
    except (ValueError, OSError):
        return {}


def _read_config(name: str, path: Path) -> dict[str, Any]:
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(
            f"model.name: the config.json of {name!r} cannot be read: {error}", "fetch it again"
        ) from error
    if not isinstance(raw, dict):
        raise ModelError(f"model.name: the config.json of {name!r} is not a JSON object", "fetch it again")
    return raw
