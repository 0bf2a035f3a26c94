"""Writes a result as one whole model that stock transformers loads by itself: no adapter, no base, no code of ours.

Owns the merge and the folder. Does not own loading a result (`loading`), the proof that both are the same model
(`compare.py`), nor card and metrics: those are written by whoever publishes the folder.
"""

from __future__ import annotations

import gc
import json
import secrets
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hf_finetune.errors import AdapterError, MachineError, ModelError
from hf_finetune.machine.disk import failed_writes_are_said, follow_umask
from hf_finetune.report.value_range import convert_lines, differs_from_stock, range_text
from hf_finetune.result.adjust import adjust
from hf_finetune.result.answers import logits_of
from hf_finetune.result.compare import check_preprocessing, compare_whole, generated_pixels, stock_logits
from hf_finetune.result.load import base_of, find_result, load_result
from hf_finetune.result.manifest import Manifest, read_manifest
from hf_finetune.result.save import say_task
from hf_finetune.result.typical import FILE as TYPICAL
from hf_finetune.units import format_bytes

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel

_WEIGHTS = "model.safetensors"
_ALONE = "Publish the adapter alone, without merging."
_PROCESSOR = "preprocessor_config.json"
_README = "README.md"


@dataclass(frozen=True)
class Merged:
    """A whole model on disk. `sizes` are bytes by file name.

    `difference` is the largest |logit difference| between it, loaded by stock code, and the result: for an unquantized
    base of the order of float32's rounding. A result on a quantized base is taken as it was trained, so that the
    difference is what quantization had changed; None where this machine cannot run that base. `logits_range` (largest
    minus smallest of the result in float32) puts it in proportion. `readme` tells how to convert high-bit grey images;
    None where stock code sees the pixels of training. `quantization`: of the result's base.
    """

    folder: Path
    sizes: Mapping[str, int]
    difference: float | None
    logits_range: float
    readme: Path | None = None
    quantization: str = "none"


def write_merged(
    result: str | Path,
    target: Path,
    *,
    base: str | None = None,
    pixels: np.ndarray | None = None,
    stock: Callable[[Path], np.ndarray] | None = None,
    logit_adjustment: float = 0.0,
) -> Merged:
    """Write the result (a run folder, or its adapter/ or model/ folder) as a whole model into `target`.

    `target` is empty or absent; it gets config.json with the labels, model.safetensors (in shards where the library
    cuts them) and, except for timm models, preprocessor_config.json (timm's preprocessing lies in config.json). Weights
    are float32 whatever the base's type, since rounding the sum to bfloat16 would change the answers; the base of a
    quantized result is read unquantized. A result of `adapter.kind=full` is a whole model already, copied as it is.

    Before the folder gets its name, stock code loads it, and its logits for `pixels` (uint8 [N, 3, H, W] at the
    checkpoint's input size; default: generated) and its preprocessing are compared with the result's. `stock` gives
    those logits, [N, C], for a folder; default: transformers in this process. `base` names the base model where it has
    moved; `logit_adjustment` is done to the result first (`adjust.py`). Work is done on the CPU with one copy of the
    weights in memory at a time.

    Raises AdapterError where `target` is not empty, a weight cannot be merged, or the comparison fails; MachineError
    where the disk is full; and what `load_result` raises.
    """
    folder = find_result(result)
    manifest = read_manifest(folder)
    target = _free(Path(target))
    if pixels is None:
        pixels = generated_pixels(manifest.preprocess)
    with _staged(target) as staged:
        if manifest.whole:
            expected = _copy_whole(folder, staged, manifest, pixels, logit_adjustment)
        else:
            expected = _merge(folder, staged, manifest, pixels, base, logit_adjustment)
        gc.collect()  # modules of PEFT refer to one another; the next copy of the weights is about to be read
        found = stock(staged) if stock else stock_logits(staged, manifest.labels, pixels, manifest.preprocess)
        difference: float | None = compare_whole(expected, found)
        check_preprocessing(folder, staged, manifest.preprocess)
        if manifest.quantization != "none":
            difference = _quantized_difference(folder, manifest, base, pixels, found, logit_adjustment)
        told = _tell_how_to_convert(staged, manifest)
        sizes = {path.name: path.stat().st_size for path in sorted(staged.iterdir())}
        with _failed_writes_are_said(target.parent):
            if target.is_dir():
                target.rmdir()  # Windows does not rename onto a folder
            staged.rename(target)
    readme = target / _README if told else None
    return Merged(target, sizes, difference, float(np.ptp(expected)), readme, manifest.quantization)


def _tell_how_to_convert(staged: Path, manifest: Manifest) -> bool:
    """Writes a README where stock code would see other pixels of the images that were trained on."""
    value_range = manifest.preprocess.value_range
    if value_range is None or not differs_from_stock(value_range):
        return False
    imports, lines = convert_lines(value_range)
    text = (
        f"The images of training were 16-bit, 32-bit or float grey, whose values {range_text(value_range)} became "
        "black to white.\nStock loading (`pipeline`, `convert` alone) takes 0 to 255 for that. Convert them first, and "
        f"hand the result to the pipeline:\n\n```python\n{imports}from PIL import Image, ImageOps\n\n{lines}```\n"
    )
    with _failed_writes_are_said(staged.parent):
        (staged / _README).write_text(text, encoding="utf-8")
    return True


# ------------------------------------------------------------------------------------------------------------- folders


def _free(target: Path) -> Path:
    target = target.expanduser().resolve()
    if target.exists() and not target.is_dir():
        raise AdapterError(f"{target} is a file; a folder that is empty or absent is expected.", "Give another folder.")
    if target.is_dir() and any(target.iterdir()):
        raise AdapterError(
            f"{target} is not empty; nothing was written.", "Give a folder that is empty or does not exist."
        )
    return target


@contextmanager
def _staged(target: Path) -> Iterator[Path]:
    """A new folder beside `target`, on its disk; gone afterwards, unless it was renamed."""
    with _failed_writes_are_said(target.parent):
        target.parent.mkdir(parents=True, exist_ok=True)
        staged = target.with_name(f".{target.name}.{secrets.token_hex(4)}")
        staged.mkdir()
    try:
        yield staged
    finally:
        shutil.rmtree(staged, ignore_errors=True)


def _failed_writes_are_said(folder: Path) -> AbstractContextManager[None]:
    return failed_writes_are_said(folder, "Free some space, or give another folder; nothing half-written was left.")


def _copy_whole(
    folder: Path, staged: Path, manifest: Manifest, pixels: np.ndarray, logit_adjustment: float
) -> np.ndarray:
    """Copy the files of a whole model by name, or write it anew where its head is adjusted; gives its logits."""
    import torch

    from hf_finetune.training.whole_weights import unshared_state

    index = folder / f"{_WEIGHTS}.index.json"
    names = ["config.json", _PROCESSOR, _WEIGHTS, index.name]
    if index.is_file():
        names += sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
    model: Any = load_result(folder, manifest, torch.float32, "cpu")
    if logit_adjustment:
        manifest = adjust(model, folder, manifest, logit_adjustment)
        names = [_PROCESSOR]
    expected = logits_of(model, pixels, manifest.preprocess)
    with _failed_writes_are_said(staged.parent):
        if logit_adjustment:
            model.save_pretrained(staged, state_dict=unshared_state(model))
            say_task(staged, manifest)
            follow_umask(staged)
        for name in (*names, TYPICAL):
            if (folder / name).is_file():
                shutil.copyfile(folder / name, staged / name)
    return expected


# --------------------------------------------------------------------------------------------------------------- merge


def _merge(
    folder: Path, staged: Path, manifest: Manifest, pixels: np.ndarray, base: str | None, logit_adjustment: float
) -> np.ndarray:
    """Write the merged model; gives the logits of the unmerged one."""
    import torch

    whole = replace(manifest, quantization="none", stream="off")
    model: Any = load_result(folder, whole, torch.float32, "cpu", base=base)
    if logit_adjustment:
        manifest = adjust(model, folder, manifest, logit_adjustment)
    expected = logits_of(model, pixels, manifest.preprocess)
    save_merged(model, staged)
    say_task(staged, manifest)
    with _failed_writes_are_said(staged.parent):
        for name in (_PROCESSOR, TYPICAL):
            if (folder / name).is_file():
                shutil.copyfile(folder / name, staged / name)
    return expected


def save_merged(model: PeftModel, folder: Path) -> None:
    """Merge the adapter into its base, in place, and write config.json and the weights into `folder`.

    `model` is of no use afterwards. Raises AdapterError where a weight cannot be merged, MachineError where the disk is
    full.
    """
    from hf_finetune.backbones.load import quiet
    from hf_finetune.training.whole_weights import unshared_state

    _refuse_grouped(model)
    try:
        merged: PreTrainedModel = model.merge_and_unload()  # pyright: ignore[reportCallIssue, reportAssignmentType]
    except (RuntimeError, ValueError, TypeError, AttributeError) as error:
        raise AdapterError(f"PEFT cannot merge this adapter into its base model: {error}.", _ALONE) from error
    state = unshared_state(merged)
    needed, free = sum(tensor.nbytes for tensor in state.values()), shutil.disk_usage(folder).free
    if free < needed:
        raise MachineError(
            f"{folder.parent} has {format_bytes(free)} free; the whole model needs {format_bytes(needed)}.",
            "Free some space, or give another folder.",
        )
    with _failed_writes_are_said(folder.parent), quiet():
        merged.save_pretrained(folder, state_dict=state)
        follow_umask(folder)


def _refuse_grouped(model: PeftModel) -> None:
    """The low-rank update of a grouped convolution joins all input channels: no grouped weight is their sum."""
    from peft.tuners.lora.layer import LoraLayer

    grouped = [
        name.removeprefix("base_model.model.")
        for name, module in model.named_modules()
        if isinstance(module, LoraLayer) and getattr(module.get_base_layer(), "groups", 1) > 1
    ]
    if grouped:
        raise AdapterError(
            f"The adapter changes {len(grouped)} grouped convolutions, such as {grouped[0]}; into those LoRA cannot be "
            "merged.",
            _ALONE,
        )


def _quantized_difference(
    folder: Path,
    manifest: Manifest,
    base: str | None,
    pixels: np.ndarray,
    found: np.ndarray,
    logit_adjustment: float,
) -> float | None:
    """The largest logit difference from the result on its quantized base; None where this machine cannot run that."""
    import torch
    from pydantic import TypeAdapter

    from hf_finetune.backbones.facts import read_facts
    from hf_finetune.machine.detect import detect
    from hf_finetune.quantizers import Quantizer
    from hf_finetune.quantizers.checks import skip_patterns

    machine = detect()
    try:
        quantizer = TypeAdapter(Quantizer).validate_python({"kind": manifest.quantization})
        facts = read_facts(base_of(folder, manifest, base), num_labels=len(manifest.labels))
        quantizer.check(facts, machine)
    except (MachineError, ModelError):
        return None
    here = skip_patterns(quantizer.left_out(facts), facts.linears)
    if machine.device == "cpu" and not set(here) <= set(manifest.unquantized):
        return None  # from a GPU and before 2026-11-28: layers are in nf4 whose widths a CPU does not take
    trained = load_result(folder, manifest, torch.float32, machine.device, base=base)
    if logit_adjustment:
        adjust(trained, folder, manifest, logit_adjustment)
    return float(np.abs(found - logits_of(trained, pixels, manifest.preprocess)).max())
