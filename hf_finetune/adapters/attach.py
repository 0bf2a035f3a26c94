"""Put a saved adapter on a backbone, and make sure that all of it arrived.

PEFT only warns, or says nothing, when half of the weights are missing or belong to another base.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from hf_finetune.adapters.stated_config import stated_config
from hf_finetune.errors import AdapterError, first_line

if TYPE_CHECKING:
    import torch
    from peft import PeftModel
    from transformers import PreTrainedModel

_FILE = "adapter_model.safetensors"


def attach(model: PreTrainedModel, adapter_folder: Path | str) -> PeftModel:
    """`PeftModel.from_pretrained`, in eval mode, with every tensor of the file found in the model and none missing.

    Raises AdapterError where the folder holds no adapter, the file is damaged, or it belongs to another backbone.
    """
    from peft import PeftModel
    from safetensors import SafetensorError

    folder = Path(adapter_folder)
    saved = _read(folder)
    config = stated_config(folder, {key: tuple(tensor.shape) for key, tensor in saved.items()})
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # missing keys are what is checked below
            attached = PeftModel.from_pretrained(model, str(folder), config=config)
    except (KeyError, RuntimeError, ValueError, TypeError, SafetensorError) as error:
        text = first_line(error)
        raise AdapterError(
            f"the adapter in {folder.name!r} does not fit {type(model).__name__}: {text}",
            "load it on the base model that it was trained on, with the same number of labels",
        ) from error
    check_arrived(attached, saved, folder.name)
    return attached.eval()


def _read(folder: Path) -> dict[str, torch.Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    for name in ("adapter_config.json", _FILE):
        if not (folder / name).is_file():
            raise AdapterError(f"{str(folder)!r} holds no {name}", "give the adapter folder of a finished run")
    try:
        return load_file(folder / _FILE)
    except (SafetensorError, OSError) as error:
        raise AdapterError(f"{_FILE} in {str(folder)!r} is damaged: {error}", "fetch or train it again") from error


def check_arrived(model: PeftModel, saved: Mapping[str, torch.Tensor], name: str) -> None:
    """Raise AdapterError unless the adapter on `model` is, key by key, what the file of the adapter `name` holds."""
    from peft import get_peft_model_state_dict

    # Images have no embedding layer to look for; "auto" would ask the Hub about the base model.
    here = get_peft_model_state_dict(model, save_embedding_layers=False)
    missing, unknown = sorted(here.keys() - saved.keys()), sorted(saved.keys() - here.keys())
    changed = [name for name in here.keys() & saved.keys() if not _equal(here[name], saved[name])]
    for what, names in (("lacks", missing), ("holds, with no place here,", unknown), ("did not hand over", changed)):
        if names:
            more = f" and {len(names) - 3} more" if len(names) > 3 else ""
            raise AdapterError(
                f"{_FILE} in {name!r} {what} {len(names)} weights: {', '.join(sorted(names)[:3])}{more}",
                "it is incomplete, or belongs to another base model",
            )


def _equal(here: torch.Tensor, saved: torch.Tensor) -> bool:
    return here.shape == saved.shape and bool((here.detach().cpu() == saved.to(here.dtype)).all())
