"""Load a backbone with a head for the run's labels; never with a weight that the checkpoint did not hold.

Owns the head's initial values and precision. What is trained is decided in adapters.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError
from torch import nn
from transformers import AutoModelForImageClassification, PreTrainedModel
from transformers.utils import logging as transformers_logging

from hf_finetune.backbones.anatomy import find_blocks, find_head
from hf_finetune.backbones.build import build_empty, read_config
from hf_finetune.backbones.checkpoint import Checkpoint, find, is_quantized, scales_among
from hf_finetune.backbones.config import Model
from hf_finetune.backbones.head_norms import begun, head_norms
from hf_finetune.backbones.own_head import OwnHead, match_head, output_names, read_head
from hf_finetune.backbones.renamed_modules import module_names
from hf_finetune.errors import ModelError
from hf_finetune.labels import Labels
from hf_finetune.network.fetch import CHECK_NETWORK
from hf_finetune.network.patience import http_errors
from hf_finetune.preprocess.describe import read_preprocess
from hf_finetune.types import Preprocess

if TYPE_CHECKING:
    from transformers import BitsAndBytesConfig, PreTrainedConfig

    from hf_finetune.backbones.streaming.mapped import MappedWeights

log = logging.getLogger(__name__)
# transformers' own initializer_range: small logits at the start, so that the first loss is close to ln(classes).
_HEAD_STD = 0.02


def load_backbone(
    model: Model,
    labels: Labels,
    *,
    dtype: torch.dtype,
    quantization_config: BitsAndBytesConfig | None = None,
    device_map: dict[str, Any] | None = None,
    seed: int,
    plain_attention: bool = False,
    frozen_files: Sequence[Path] = (),
) -> PreTrainedModel:
    """The pretrained backbone in `dtype`, in eval mode, with a float32 head of one output per label.

    An output whose label the checkpoint's own head answers, by its name, has that head's weights; the others are new
    (normal with standard deviation 0.02 from `seed`, biases zero). Images and the head's input are cast where they
    enter, so that a bfloat16 backbone runs with and without autocast. `plain_attention`: matrix products and a softmax
    instead of torch's fused attention, whose backward is slow on CPUs. `frozen_files`: safetensors that hold the
    checkpoint in `dtype`, in which the weights then stay (streaming/ahead.py); on the CPU, not quantized.

    Raises ModelError where the checkpoint lacks any weight of the backbone, or holds one of another shape.
    """
    loaded, _ = load_with_head(
        model,
        labels,
        dtype=dtype,
        quantization_config=quantization_config,
        device_map=device_map,
        seed=seed,
        plain_attention=plain_attention,
        frozen_files=frozen_files,
    )
    return loaded


def load_with_head(
    model: Model,
    labels: Labels,
    *,
    dtype: torch.dtype,
    quantization_config: BitsAndBytesConfig | None = None,
    device_map: dict[str, Any] | None = None,
    seed: int,
    plain_attention: bool = False,
    frozen_files: Sequence[Path] = (),
    classes: bool = True,
) -> tuple[PreTrainedModel, OwnHead]:
    """As `load_backbone`, and which of the labels the checkpoint's own head answers; none where they are no classes."""
    source = find(model)
    outputs = output_names(source, read_config(source))
    config = read_config(source, labels.id2label)
    head = find_head(build_empty(config, 2), build_empty(config, 3)).names
    mapped = _map(model, frozen_files) if frozen_files else None
    loaded, report = _from_pretrained(source, config, dtype, quantization_config, device_map, mapped)
    if scales_among(report["unexpected_keys"]):
        raise is_quantized(source, "bitsandbytes")  # fetched from the Hub, with a config that does not say so
    norms = begun(loaded, model.name, _norms_of_the_head(source, config, report, head))
    _check_complete(model.name, report, (*head, *norms))
    if plain_attention:
        _use_plain_attention(loaded)
    if quantization_config is not None:
        from hf_finetune.backbones.quantized import settle_quantized

        settle_quantized(model.name, loaded, head)
    if mapped is not None:
        from hf_finetune.backbones.streaming.ahead import read_blocks_ahead

        read_blocks_ahead(model.name, loaded, find_blocks(loaded, head), mapped)
    own, tensors = _own_head(model, source, head, match_head(outputs, labels.names, classes=classes), len(outputs))
    for name in head:
        _prepare_head(loaded.get_submodule(name), torch.Generator().manual_seed(seed))
        _keep_rows(loaded.get_submodule(name), name, tensors, own.rows)
    _cast_on_entering(loaded)
    return loaded.eval(), own


def _cast_on_entering(model: PreTrainedModel) -> None:
    # PEFT calls the forward of what it wraps, past its hooks; those of the body below it do run.
    for entrance in {model, model.base_model}:
        entrance.register_forward_pre_hook(_cast_pixels, with_kwargs=True)


def load_empty(
    config: PreTrainedConfig, labels: int, head: Sequence[str], dtype: torch.dtype, *, plain_attention: bool
) -> PreTrainedModel:
    """What `load_backbone` gives, without weights: on the meta device."""
    model: Any = build_empty(config, labels)
    model.to(dtype)
    if plain_attention:
        _use_plain_attention(model)
    for name in head:
        module = model.get_submodule(name)
        module.to(torch.float32)
        module.register_forward_pre_hook(_cast_input)
    _cast_on_entering(model)
    return model.eval()


def _norms_of_the_head(
    source: Checkpoint, config: PreTrainedConfig, report: dict[str, Any], head: tuple[str, ...]
) -> tuple[str, ...]:
    """Norms that the checkpoint lacks and that the head alone reads."""
    missing = [key for key in report["missing_keys"] if not _of_head(key, head)]
    if all(key.endswith("num_batches_tracked") for key in missing):
        return ()
    seen = read_preprocess(source.location, source.commit or source.revision)
    return head_norms(build_empty(config, 2), missing, head, seen.height, seen.width)


def _own_head(
    model: Model, source: Checkpoint, head: tuple[str, ...], own: OwnHead, outputs: int
) -> tuple[OwnHead, dict[str, torch.Tensor]]:
    """The checkpoint's own head as far as its weights are there, and those weights."""
    if not own.kept:
        return own, {}
    tensors = read_head(source, module_names(model), head, outputs)
    if tensors is None:
        own = own.without_weights()
        log.warning("%s: a fresh head: %s.", model.name, own.note)
    return own, tensors or {}


@torch.no_grad()
def _keep_rows(module: nn.Module, name: str, own: Mapping[str, torch.Tensor], rows: Sequence[int | None]) -> None:
    """Put the checkpoint's weights of the outputs `rows` into the head's module; those without one stay new."""
    for leaf, weight in module.named_parameters():
        there = own.get(f"{name}.{leaf}")
        for label, row in enumerate(rows):
            if there is not None and row is not None:
                weight[label] = there[row].to(weight)


def short_sequence(preprocess: Preprocess) -> bool:
    """Whether plain attention, whose memory grows with the square of the tokens, is affordable: up to 288 px."""
    return preprocess.height * preprocess.width <= 288 * 288


def _use_plain_attention(model: PreTrainedModel) -> None:
    """A LoRA step of ViT-Tiny (197 tokens) on two cores takes 18 to 28 % less (AMD EPYC, torch 2.15, 2026-11-23)."""
    if model.config.model_type != "timm_wrapper":
        with suppress(ValueError):  # an architecture without a choice
            model.set_attn_implementation("eager")
    for module in model.modules():
        if isinstance(getattr(module, "fused_attn", None), bool):
            setattr(module, "fused_attn", False)  # noqa: B010  timm's switch; nn.Module's type wants a tensor


def _from_pretrained(
    source: Checkpoint,
    config: PreTrainedConfig,
    dtype: torch.dtype,
    quantization_config: BitsAndBytesConfig | None,
    device_map: dict[str, Any] | None,
    mapped: MappedWeights | None,
) -> tuple[PreTrainedModel, dict[str, Any]]:
    if mapped is not None:
        with quiet():
            kind: Any = type(build_empty(config, 2))
            return kind.from_pretrained(
                None,
                config=config,
                state_dict=mapped.tensors,
                dtype=dtype,
                ignore_mismatched_sizes=True,
                output_loading_info=True,
            )
    extra: dict[str, Any] = {}
    if quantization_config is not None:
        extra["quantization_config"] = quantization_config
    if device_map is not None:
        extra["device_map"] = device_map
    try:
        with quiet(), _quantized_in_pieces(quantization_config):
            return AutoModelForImageClassification.from_pretrained(
                source.location,
                revision=source.commit or source.revision,
                config=config,
                dtype=dtype,
                ignore_mismatched_sizes=True,
                output_loading_info=True,
                trust_remote_code=False,
                **extra,
            )
    except (OSError, SafetensorError) as error:
        raise ModelError(
            f"model.name: the weights of {source.name!r} cannot be read: {error}",
            "fetch them again, or check the folder",
        ) from error
    except http_errors() as error:
        raise ModelError(
            f"model.name: the weights of {source.name!r} could not be fetched: {type(error).__name__}: {error}",
            CHECK_NETWORK,
        ) from error


def _map(model: Model, files: Sequence[Path]) -> MappedWeights:
    from hf_finetune.backbones.streaming.mapped import MappedWeights

    try:
        return MappedWeights(files)
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise ModelError(
            f"model.name: the weights of {model.name!r} cannot be mapped: {error}",
            "fetch them again, or set model.stream=off",
        ) from error


def _quantized_in_pieces(config: BitsAndBytesConfig | None) -> AbstractContextManager[object]:
    if config is None:
        return nullcontext()
    from hf_finetune.backbones.quantizing import QuantizedInPieces

    return QuantizedInPieces()


@contextmanager
def quiet() -> Iterator[None]:
    """Without transformers' progress bars and load report (the replaced head fills a screen); callers check it."""
    level, bar = transformers_logging.get_verbosity(), transformers_logging.is_progress_bar_enabled()
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(level)
        if bar:
            transformers_logging.enable_progress_bar()


def _of_head(name: str, head: tuple[str, ...]) -> bool:
    return any(name.startswith(f"{each}.") for each in head)


def _check_complete(name: str, report: dict[str, Any], head: tuple[str, ...]) -> None:
    # num_batches_tracked only counts steps; batch norm in eval mode never reads it and older checkpoints lack it.
    missing = [
        key for key in report["missing_keys"] if not _of_head(key, head) and not key.endswith("num_batches_tracked")
    ]
    mismatched = [entry for entry in report["mismatched_keys"] if not _of_head(entry[0], head)]
    if missing:
        raise ModelError(
            f"model.name: the checkpoint {name!r} lacks {len(missing)} weights of the backbone: {_some(missing)}",
            "they would be random; use a checkpoint that holds the whole backbone",
        )
    if mismatched:
        texts = [f"{key} {list(found)} instead of {list(wanted)}" for key, found, wanted in mismatched]
        raise ModelError(
            f"model.name: the checkpoint {name!r} holds {len(texts)} weights of another shape: {_some(texts)}",
            "its config.json does not belong to its weights",
        )
    unexpected = [key for key in report["unexpected_keys"] if not _of_head(key, head)]
    if unexpected:
        # A text tower or a pooler that the classifier has no place for: normal for CLIP, SigLIP and ViT checkpoints.
        log.info("%s: %d weights of the checkpoint have no place here: %s", name, len(unexpected), _some(unexpected))


def _some(names: Any) -> str:
    names = sorted(names)
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")


def _prepare_head(module: nn.Module, generator: torch.Generator) -> None:
    module.to(torch.float32)
    with torch.no_grad():
        for name, weight in module.named_parameters():
            if weight.ndim > 1:
                # Drawn on the CPU, so that every device gets the same head.
                weight.copy_(torch.normal(0.0, _HEAD_STD, weight.shape, generator=generator))
            else:
                weight.zero_() if name.endswith("bias") else weight.fill_(1.0)
    module.register_forward_pre_hook(_cast_input)


def _cast_input(module: nn.Module, inputs: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
    dtype = next(module.parameters()).dtype
    return tuple(each.to(dtype) if each.is_floating_point() else each for each in inputs)


def _cast_pixels(
    module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    # Convolutional backbones of transformers do not cast their input; the first weight is the stem's.
    dtype = next(weight.dtype for weight in module.parameters() if weight.is_floating_point())
    pixels = kwargs.get("pixel_values")
    if isinstance(pixels, torch.Tensor):
        kwargs = {**kwargs, "pixel_values": pixels.to(dtype)}
    elif args and isinstance(args[0], torch.Tensor):
        args = (args[0].to(dtype), *args[1:])
    return args, kwargs
