"""The weights of a whole model on disk while it trains: written so that all of them come back.

The Trainer reads a checkpoint by the names that the model's modules have now, and says nothing of what it does not
find. transformers writes other names, those of its former versions and of timm; and safetensors refuses tensors that
several modules share.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from transformers import PreTrainedModel

from hf_finetune.errors import TrainingError


def unshared_state(model: PreTrainedModel, state: Mapping[str, torch.Tensor] | None = None) -> dict[str, torch.Tensor]:
    """The state dict (of `model` unless given) with a copy of each tensor whose memory another name has too (timm's
    CoaT), which safetensors cannot hold.

    Tensors that transformers ties itself stay as they are: it writes them once and ties them again on loading.
    """
    known: set[int] = set()
    separate = dict(model.state_dict() if state is None else state)
    for name, tensor in separate.items():
        memory = tensor.untyped_storage().data_ptr()
        if memory in known and name not in (model.all_tied_weights_keys or {}):
            separate[name] = tensor.clone()
        known.add(memory)
    return separate


def save_whole(model: PreTrainedModel, folder: Path, state: Mapping[str, torch.Tensor] | None) -> None:
    """Write the weights under the names that the model's modules have, and config.json, into a checkpoint."""
    model.save_pretrained(folder, state_dict=unshared_state(model, state), save_original_format=False)


def check_read(model: PreTrainedModel, missing: Sequence[str]) -> None:
    """Raise TrainingError where a checkpoint did not hold `missing` weights of the model."""
    lost = [name for name in missing if name not in (model.all_tied_weights_keys or {})]
    if lost:
        more = f" and {len(lost) - 3} more" if len(lost) > 3 else ""
        raise TrainingError(
            f"output.dir: the checkpoint lacks {len(lost)} weights of the model: {', '.join(lost[:3])}{more}.",
            "Remove the folder checkpoints/ of the run (an earlier version may have written it): it then starts again.",
        )
