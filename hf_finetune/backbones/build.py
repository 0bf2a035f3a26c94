"""Build a backbone without its weights: its config, and an empty model on the meta device (or a random one on the CPU).

Owns which models are accepted at all. Loads no weights; what is found inside a model is anatomy.py's.
"""

from __future__ import annotations

import copy
import inspect
import json
import logging
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForImageClassification, PreTrainedConfig, PreTrainedModel
from transformers.models.auto.configuration_auto import CONFIG_MAPPING
from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES

from hf_finetune.backbones.checkpoint import Checkpoint
from hf_finetune.errors import ModelError, first_line

log = logging.getLogger(__name__)
# model type -> the name of its classifier, or a tuple of names where it has several.
_CLASSES: dict[str, Any] = {**MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES}
_ACCEPTED = (
    "an image classifier of transformers whose forward takes pixel_values [B, 3, H, W], or a timm model, is expected"
)


def read_config(source: Checkpoint, labels: dict[int, str] | None = None) -> PreTrainedConfig:
    """The backbone's config, with `labels` as id2label where given.

    Raises ModelError for what is no image classifier.
    """
    _check_known(source)
    revision = source.commit or source.revision
    try:
        config = AutoConfig.from_pretrained(source.location, revision=revision, trust_remote_code=False)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(f"model.name: the config of {source.name!r} cannot be used: {error}", _ACCEPTED) from error
    if labels is not None:
        config.id2label = dict(labels)
        config.label2id = {name: number for number, name in labels.items()}
        # Pipelines answer with sigmoids where the base was trained for several labels an image.
        config.problem_type = "single_label_classification"
        if config.model_type == "timm_wrapper":
            # It writes label names a second time, and on loading believes these: a base with its own would keep them.
            config.label_names = list(labels.values())  # pyright: ignore[reportAttributeAccessIssue]
    return prepare(config)


def prepare(config: PreTrainedConfig) -> PreTrainedConfig:
    """Mend what transformers trips over, on the config itself, and give it back.

    A timm config whose `model_args` repeats num_classes makes the wrapper pass it twice; a config without
    `architectures` makes the Auto class iterate over None where a model type has several classes (deit, levit); the
    MobileNets' converted checkpoints give TensorFlow's keep probability (.999, .8) as the share to drop.
    """
    if config.model_type == "timm_wrapper":
        arguments = dict(getattr(config, "model_args", None) or {})
        for repeated in ("num_classes", "pretrained"):
            arguments.pop(repeated, None)
        config.model_args = arguments  # empty, not None: timm itself fails on a null in config.json
    if config.model_type in ("mobilenet_v1", "mobilenet_v2") and config.classifier_dropout_prob > 0.5:
        mended = round(1 - config.classifier_dropout_prob, 6)
        log.warning("%s drops %g of the head's input; %g is used", config.model_type, 1 - mended, mended)
        config.classifier_dropout_prob = mended
    classes = _CLASSES.get(config.model_type, ())
    if isinstance(classes, tuple) and not set(config.architectures or ()) & set(classes):
        config.architectures = [classes[0]]
    return config


def _check_known(source: Checkpoint) -> None:
    if source.is_timm:
        return
    kind = source.raw.get("model_type")
    if kind in _CLASSES:
        channels = source.raw.get("num_channels", 3)
        if channels != 3:
            raise ModelError(f"model.name: {source.name!r} takes images of {channels} channels, not 3", _ACCEPTED)
        return
    if kind not in CONFIG_MAPPING and "auto_map" in source.raw:
        raise ModelError(
            f"model.name: {source.name!r} needs code from its own repository, which is never run here", _ACCEPTED
        )
    what = source.raw.get("architectures") or source.raw.get("architecture") or kind
    what = ", ".join(what) if isinstance(what, list) else what
    raise ModelError(
        f"model.name: {source.name!r} is no image classifier, it is {what or 'of no known type'}", _ACCEPTED
    )


def build_empty(config: PreTrainedConfig, num_labels: int, device: str = "meta") -> PreTrainedModel:
    """An untrained model with `num_labels` outputs: no memory on the meta device, random weights on the CPU."""
    config = copy.deepcopy(config)
    config.num_labels = num_labels
    with torch.device(device):
        return AutoModelForImageClassification.from_config(config, dtype=torch.float32)


def build_checked(config: PreTrainedConfig, name: str, num_labels: int, height: int, width: int) -> PreTrainedModel:
    """Build it, on the meta device if it can be, and run one image through it. In eval mode.

    Raises ModelError where it cannot be built, its forward does not take pixel_values [B, 3, H, W], or gives no logits
    [B, num_labels].
    """
    problem: Exception | None = None
    for device in ("meta", "cpu"):
        try:
            model = build_empty(config, num_labels, device)
            _check_signature(model, name)
            check_forward(model, num_labels, height, width, name)
        except ModelError:
            raise
        except Exception as error:  # noqa: BLE001  third-party constructors raise anything; it is reported below
            log.debug("%s does not run on the %s device: %s", name, device, error)
            problem = error
            # Random weights in memory help only where the meta device itself is what is missing.
            if "meta" not in str(error).lower():
                break
        else:
            return model
    kind = type(problem).__name__
    text = first_line(problem)
    raise ModelError(
        f"model.name: {name!r} ({_what(config)}) cannot be built, or does not take "
        f"pixel_values [1, 3, {height}, {width}]: {kind}: {text}",
        _ACCEPTED,
    ) from problem


def check_forward(model: PreTrainedModel, num_labels: int, height: int, width: int, name: str) -> None:
    """One image through the model; ModelError where the output holds no logits [1, num_labels]."""
    device = next(model.parameters()).device
    with torch.no_grad():
        output = model.eval()(pixel_values=torch.zeros(1, 3, height, width, device=device))
    logits = getattr(output, "logits", None)
    if not isinstance(logits, torch.Tensor) or logits.shape != (1, num_labels):
        found = "no logits" if logits is None else f"logits {list(logits.shape)}"
        raise ModelError(f"model.name: {name!r} gives {found} instead of logits [1, {num_labels}]", _ACCEPTED)


def _check_signature(model: PreTrainedModel, name: str) -> None:
    taken = inspect.signature(model.forward).parameters
    if "pixel_values" not in taken:
        raise ModelError(
            f"model.name: the forward of {name!r} ({type(model).__name__}) takes {', '.join(taken)}, not pixel_values",
            _ACCEPTED,
        )
    needed = [
        each.name
        for each in taken.values()
        if each.default is inspect.Parameter.empty and each.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD
    ]
    more = [each for each in needed if each != "pixel_values"]
    if more:
        raise ModelError(
            f"model.name: the forward of {name!r} ({type(model).__name__}) needs {', '.join(more)} beside pixel_values",
            _ACCEPTED,
        )


def _what(config: PreTrainedConfig) -> str:
    if config.model_type == "timm_wrapper":
        return str(getattr(config, "architecture", "timm"))
    return json.dumps(config.architectures)[1:-1].replace('"', "") if config.architectures else config.model_type
