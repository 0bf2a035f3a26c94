"""The lines that load a result with only transformers and peft: printed in card and README, executed by tests."""

from __future__ import annotations

import re
from collections.abc import Mapping
from importlib.metadata import requires
from typing import Any

from hf_finetune.report.fields import RunReport
from hf_finetune.report.references import is_hub_model, last_component
from hf_finetune.report.value_range import convert_lines
from hf_finetune.types import ValueRange

PLACE = "ADAPTER_PATH_OR_HUB_ID"
BASE_PLACE = "PATH_OF_THE_BASE_MODEL"
_BOUND = re.compile(r"([\w.-]+)(>=[\w.]+)")
_QUANTIZATION_ARGUMENTS = (
    "load_in_8bit",
    "load_in_4bit",
    "llm_int8_skip_modules",
    "bnb_4bit_quant_type",
    "bnb_4bit_compute_dtype",
    "bnb_4bit_use_double_quant",
)
# bitsandbytes 0.50.2 takes [N, C] and [B, N, C] into an 8-bit layer: others raise, or end in another shape.
_FLATTENING = (
    "for layer in base.modules():  # of this network get [B, H, W, C]; 8 bits take rows",
    "    if isinstance(layer, Linear8bitLt):",
    "        layer.forward = lambda x, of=layer.forward: of(x.flatten(0, -2)).unflatten(0, x.shape[:-1])",
)


def stock_snippet(report: RunReport, *, repo: str | None = None, merged: bool = False) -> str:
    """Python that defines `model` (eval mode) and `processor`.

    `repo` is where it was published; without one the reader fills in `adapter`, and `base_path` where that is local.
    `merged`: for the whole model that the adapter was merged into.

    Weights are read as float32: a base saved in half precision would not fit the float32 head. `backend="pil"`: the
    preprocessing that the model was trained and measured with.
    """
    if merged or report.whole:
        return _whole_model(repo or PLACE.replace("ADAPTER", "MODEL"))
    quantized = _quantization(report)
    imports = ["AutoConfig", "AutoImageProcessor", "AutoModelForImageClassification"]
    mapped = bool(quantized and report.model.get("quantized_maps"))
    lines = [
        *["from bitsandbytes.nn import Linear8bitLt"] * mapped,
        f"from transformers import {', '.join(imports + ['BitsAndBytesConfig'] * bool(quantized))}",
        "from peft import PeftModel",
        "",
        f'adapter = "{repo or PLACE}"',
    ]
    base, options = _base(report)
    if report.model["builtin"]:
        # An id with a folder behind it is no id, and with `subfolder` transformers 5.23 takes the base for the adapter.
        if repo:
            lines[1 + mapped :] = ["from huggingface_hub import snapshot_download", *lines[1 + mapped : -1]]
            lines.append(f'adapter = snapshot_download("{repo}")')
        else:
            lines[-1] += '  # a folder; of the Hub: huggingface_hub.snapshot_download("USER/NAME")'
    if base == "base_path":
        lines.append(f'base_path = "{BASE_PLACE}"  # {last_component(report.model["name"])!r}, not on the Hub')
    lines.append("config = AutoConfig.from_pretrained(adapter)  # labels travel here")
    options += ["config=config", "ignore_mismatched_sizes=True", 'dtype="float32"']
    if quantized:
        lines.append(f"quantization = BitsAndBytesConfig({quantized})")
        options.append("quantization_config=quantization")
    lines += [
        "base = AutoModelForImageClassification.from_pretrained(",
        *(f"    {argument}," for argument in [base, *options]),
        ")",
        *_FLATTENING * mapped,
        "model = PeftModel.from_pretrained(base, adapter).eval()",
        'processor = AutoImageProcessor.from_pretrained(adapter, backend="pil")',
    ]
    return "\n".join(lines) + "\n"


def _base(report: RunReport) -> tuple[str, list[str]]:
    """The expression for where the base is, and options that go with it."""
    if report.model["builtin"]:
        return 'f"{adapter}/base"', []
    if is_hub_model(report):
        return f'"{report.model["name"]}"', [f'revision="{report.model["commit"]}"']
    return "base_path", []


def _quantization(report: RunReport) -> str:
    """Arguments of BitsAndBytesConfig as source text; empty where nothing is quantized."""
    if report.recipe["quantization"]["kind"] == "none":
        return ""
    config: Mapping[str, Any] | None = report.model.get("quantization_config")
    if not config:
        raise ValueError("a report of a quantized base is expected to hold model.quantization_config")
    given = {name: config.get(name) for name in _QUANTIZATION_ARGUMENTS}
    return ", ".join(f"{name}={value!r}" for name, value in given.items() if value not in (None, False))


def _whole_model(place: str) -> str:
    return (
        "from transformers import AutoImageProcessor, AutoModelForImageClassification\n"
        "\n"
        f'model_dir = "{place}"\n'
        'model = AutoModelForImageClassification.from_pretrained(model_dir, dtype="float32").eval()\n'
        'processor = AutoImageProcessor.from_pretrained(model_dir, backend="pil")\n'
    )


def needed_packages(report: RunReport, *, merged: bool = False) -> list[str]:
    """What both snippets import, directly or not, with this package's own lower bounds: `transformers>=5.23`."""
    names = ["transformers", "torch", "pillow"]
    whole = merged or report.whole
    names += ["peft"] * (not whole) + ["timm"] * (report.model["library"] == "timm")
    if not whole and _quantization(report):
        names += ["bitsandbytes", "accelerate"]
    bounds = {found[1]: found[2] for text in requires("hf_finetune") or () if (found := _BOUND.match(text))}
    return [f"{name}{bounds.get(name, '')}" for name in names]


def predict_snippet(answer_lines: str, value_range: ValueRange | None = None) -> str:
    """Python that goes on after `stock_snippet` and predicts for one photo; `answer_lines`: as the task has them.

    `to(model.device)`: a quantized base goes to the GPU by itself where there is one. `value_range`: the run's, by
    which a high-bit grey picture becomes 8-bit as in training.
    """
    imports, lines = convert_lines(value_range)
    return (
        f"{imports}"
        "import torch\n"
        "from PIL import Image, ImageOps\n"
        "\n"
        f"{lines}"
        'inputs = processor(image, return_tensors="pt").to(model.device)\n'
        "with torch.inference_mode():\n"
        "    logits = model(**inputs).logits\n"
        f"{answer_lines}"
    )
