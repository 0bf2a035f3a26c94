"""Loads a result without knowing anything of its base: `hf_finetune.load(path)`."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hf_finetune.data.sources.naming import missing_path_hint
from hf_finetune.errors import AdapterError, MachineError, first_line
from hf_finetune.files.at_work import way_on
from hf_finetune.files.bounded import read_json
from hf_finetune.labels import Labels
from hf_finetune.machine.process import keep_freed_memory
from hf_finetune.report.run_json import LARGEST
from hf_finetune.result.download import fetch_result, looks_like_repo
from hf_finetune.result.files import sha256_of
from hf_finetune.result.manifest import FILE, Manifest

if TYPE_CHECKING:
    import torch
    from torch import nn

    from hf_finetune.backbones.config import Model
    from hf_finetune.types import Compute

logger = logging.getLogger(__name__)
_TOLD = ("recipe.yaml", "metrics.json", "predicted.png")  # no answer depends on them
_WAYS_BACK = "Copy the run folder again, or train it again with --overwrite."


def find_result(path: str | Path, revision: str | None = None) -> Path:
    """The adapter or model folder meant by `path`: itself, the one in a run folder, or a Hub repo's, fetched.

    Raises AdapterError.
    """
    folder = Path(path)
    if not folder.exists() and looks_like_repo(str(path)):
        fetched = _fetched(folder, str(path), revision)
        if (fetched / FILE).is_file():
            return fetched
        raise AdapterError(
            f"{path} on the Hub holds no {FILE}: a result pushed by hf-finetune is expected.",
            "A plain PEFT adapter can be the start of a recipe (adapter.from), and is loaded by PeftModel.",
        )
    if revision is not None:
        raise AdapterError(f"{path} is no Hub repo, so it has no revision {revision!r}.", "Leave the revision out.")
    for candidate in (folder, folder / "adapter", folder / "model"):
        if (candidate / FILE).is_file():
            refuse_damaged(candidate)
            return candidate
    if (folder / "run.json").is_file():
        raise AdapterError(f"{folder} is a finished run whose result is gone.", _WAYS_BACK)
    if (folder / "recipe.yaml").is_file():
        raise AdapterError(
            f"{folder} is a run folder without a result: the run is not finished.",
            way_on(folder, folder / "recipe.yaml"),
        )
    what = "does not exist" if not folder.exists() else f"holds no {FILE}"
    raise AdapterError(f"{folder} {what}; a run folder, or an adapter/ or model/ folder in it, is expected.")


def refuse_damaged(result: Path) -> None:
    """Raise AdapterError where a file of a run's result is not what the run wrote: run.json beside it has the hashes.

    A result by itself has none; what comes from the Hub was held to the Hub's own when it was fetched.
    """
    record = result.parent / "run.json"
    if not record.is_file():
        return
    try:
        files = read_json(record, most_bytes=LARGEST)["files"]
        damaged = [name for name, digest in files.items() if name not in _TOLD and _sha256(result / name) != digest]
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        logger.warning("%s cannot be read, so that its result is not checked: %s", record, error)
        return
    if damaged:
        more = f" and {len(damaged) - 3} more" if len(damaged) > 3 else ""
        raise AdapterError(
            f"{result} is damaged: not as the run wrote it (by its hash in {record.name}): "
            f"{', '.join(damaged[:3])}{more}.",
            _WAYS_BACK,
        )


def _sha256(path: Path) -> str:
    return sha256_of(path) if path.is_file() else ""


def _fetched(folder: Path, repo: str, revision: str | None) -> Path:
    """The Hub repo's files; where that fails and a folder of its first name is here, a path was meant."""
    try:
        return fetch_result(repo, revision)
    except AdapterError as error:
        if not folder.parent.is_dir():
            raise
        close = missing_path_hint(folder)
        raise AdapterError(error.message, f"{close}{'' if close.endswith('?') else '.'} Else {error.hint}") from error


def load_result(
    folder: Path,
    manifest: Manifest,
    dtype: torch.dtype,
    device: str,
    *,
    base: str | None = None,
    compute: Compute = "llm_int8",
    cache_dir: str | None = None,
) -> nn.Module:
    """The folder's model on `device`, in eval mode, its frozen weights in `dtype`, int8 ones multiplied as `compute`
    says. On a CPU this process keeps from now on what a batch frees (`machine/process.py`).

    They are streamed where the run's were, from files below `cache_dir` if the base's own are of another type; loaded
    whole, with a warning, where no such file can be written.
    """
    if device == "cpu":
        keep_freed_memory()
    try:
        return _loaded(folder, manifest, dtype, device, base, compute, cache_dir)
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        # Of a result that came from elsewhere: modules that the base does not have, types that no result has.
        raise AdapterError(
            f"{folder} cannot be used: {type(error).__name__}: {first_line(error)}.",
            f"Its files do not belong together, or to {base or manifest.base}: copy or train it again.",
        ) from error


def _loaded(
    folder: Path,
    manifest: Manifest,
    dtype: torch.dtype,
    device: str,
    base: str | None,
    compute: Compute,
    cache_dir: str | None,
) -> nn.Module:
    if manifest.whole:
        return _load_whole(folder, dtype).to(device).eval()
    from pydantic import TypeAdapter

    from hf_finetune.adapters.attach import attach
    from hf_finetune.backbones.anatomy import find_blocks
    from hf_finetune.backbones.load import load_backbone, short_sequence
    from hf_finetune.backbones.streaming.place import place_model
    from hf_finetune.quantizers import Quantizer
    from hf_finetune.result.frozen_files import files_for

    source = base_of(folder, manifest, base)
    check_base(source, manifest)
    quantizer = TypeAdapter(Quantizer).validate_python({"kind": manifest.quantization})
    quantization = quantizer.config(manifest.head, manifest.unquantized)
    extra: dict[str, Any] = {}
    if quantization is not None:
        extra = {"quantization_config": quantization, "device_map": {"": device}}
    plain = device == "cpu" and short_sequence(manifest.preprocess)
    try:
        extra["frozen_files"] = files_for(manifest.stream, device, source, dtype, cache_dir)
    except MachineError as error:  # a recipe could be changed; a result is what it is
        logger.warning("%s The weights are loaded whole.", error.message)
    backbone = load_backbone(source, Labels(manifest.labels), dtype=dtype, seed=0, plain_attention=plain, **extra)
    blocks = find_blocks(backbone, manifest.head) if manifest.stream != "off" else ()
    if manifest.quantization == "int8":
        from hf_finetune.backbones.quantized import compute_in

        compute_in(backbone, compute)
    attached = attach(backbone, folder).eval()
    if quantization is None:
        place_model(attached, blocks, device, manifest.stream)
    return attached


def _load_whole(folder: Path, dtype: torch.dtype) -> nn.Module:
    """A result of full fine-tuning. transformers only logs which weights it did not find, and makes random ones."""
    from safetensors import SafetensorError
    from transformers import AutoModelForImageClassification

    from hf_finetune.backbones.load import quiet

    try:
        with quiet():
            model, report = AutoModelForImageClassification.from_pretrained(
                folder, dtype=dtype, output_loading_info=True, trust_remote_code=False
            )
    except (OSError, SafetensorError, RuntimeError) as error:
        reason = first_line(error)
        raise AdapterError(f"The weights in {folder} cannot be read: {reason}.", "Copy the folder again.") from error
    lost = sorted(map(str, report["missing_keys"]))
    if lost:
        raise AdapterError(f"{folder} lacks {len(lost)} weights: {', '.join(lost[:5])}.", "Copy the folder again.")
    return model


def base_of(folder: Path, manifest: Manifest, base: str | None = None) -> Model:
    """Where the base model of the result in `folder` is; `base` names it where it has moved."""
    from hf_finetune.backbones.config import Model

    location = base or (str(folder / "base") if manifest.brings_base else manifest.base)
    return Model(name=location, revision=manifest.revision if base is None else None)


def check_base(base: Model, manifest: Manifest) -> None:
    """Raise AdapterError unless `base` holds the weights that the manifest's result was trained on."""
    from hf_finetune.backbones.fingerprint import fingerprint

    found = fingerprint(base)
    if found != manifest.fingerprint:
        raise AdapterError(
            f"The result was trained on other weights than {base.name} holds (fingerprint {manifest.fingerprint[:12]}, "
            f"found {found[:12]}).",
            "Give the right base model with `--base`, or restore those weights.",
        )


def torch_dtype(name: str) -> torch.dtype:
    """fp32, bf16 or fp16 as torch's type."""
    import torch

    return {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[name]
