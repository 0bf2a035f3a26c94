"""One cell of eight_bits.py, by this checkout's code or that of the reference, whichever is on the path."""

from __future__ import annotations

import json
import sys
import time
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch

from hf_finetune.adapters import Lora
from hf_finetune.backbones.config import Model
from hf_finetune.backbones.facts import read_facts
from hf_finetune.backbones.load import load_backbone
from hf_finetune.labels import Labels
from hf_finetune.quantizers import Int8, Nf4

LABELS = Labels(tuple("abcdef"))
TYPES = {"bf16": torch.bfloat16, "fp32": torch.float32}


def build(cell: dict[str, Any], checkpoint: Path) -> tuple[Any, int]:
    """The model, with LoRA where it steps, and the number of its blocks."""
    named = Model(name=str(checkpoint))
    facts = read_facts(named)
    quantizer = {"int8": Int8, "nf4": Nf4}.get(cell["kind"])
    extra = {"quantization_config": quantizer().config(facts.head), "device_map": {"": "cpu"}} if quantizer else {}
    model: Any = load_backbone(named, LABELS, dtype=TYPES[cell["precision"]], seed=0, plain_attention=True, **extra)
    if cell["kind"] == "int8" and not cell["old"]:
        from hf_finetune.backbones.quantized import compute_in

        compute_in(model, cell["compute"])
    if cell["work"] == "step":
        model = Lora().apply(model, facts)
    return model, len(facts.blocks)


def training_form(model: Any, cell: dict[str, Any]) -> AbstractContextManager[object]:
    """LoRA layers as the product trains them."""
    if cell["old"]:
        from hf_finetune.adapters.low_memory import low_memory_lora

        return low_memory_lora(model)
    from hf_finetune.adapters.low_memory import training_forms

    kept = "made again" if cell["lean"] else "kept"
    settings = {"device": "cpu", "precision": cell["precision"], "activations": kept}
    plan: Any = SimpleNamespace(**{key: SimpleNamespace(value=value) for key, value in settings.items()})
    return training_forms(model, plan)


def kept_bytes(run: Any, model: Any) -> int:
    """Of tensors that autograd keeps for one call."""
    own = {weight.untyped_storage().data_ptr() for weight in model.parameters()}
    kept: dict[int, torch.Tensor] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept.setdefault(storage.data_ptr(), tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        run()
    return sum(tensor.untyped_storage().nbytes() for tensor in kept.values())


def main() -> None:
    cell, checkpoint, batch = json.loads(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
    if cell["old"]:
        from hf_finetune.allocator import keep_freed_memory
        from hf_finetune.peak import PeakMemory
    else:
        from hf_finetune.machine.peak import PeakMemory
        from hf_finetune.machine.process import keep_freed_memory

    keep_freed_memory()
    pixels, labels = torch.randn(batch, 3, 224, 224), torch.arange(batch) % len(LABELS.names)
    with PeakMemory() as peak, ExitStack() as forms:
        model, blocks = build(cell, checkpoint)
        steps = cell["work"] == "step"
        model.train(steps)
        autocast = cell["way"] == "peft" and cell["precision"] == "bf16"
        if steps and cell["way"] == "ours":
            forms.enter_context(training_form(model, cell))

        def loss() -> torch.Tensor:
            with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
                logits = model(pixel_values=pixels).logits
            return torch.nn.functional.cross_entropy(logits.float(), labels)

        def call() -> None:
            if not steps:
                with torch.no_grad():
                    model(pixel_values=pixels)
                return
            model.zero_grad()
            loss().backward()

        call()
        about: dict[str, Any] = {}
        if steps:
            width = model.get_base_model().timm_model.num_features
            about["maps"] = kept_bytes(loss, model) / blocks / (batch * 197 * width * 2)
        print(json.dumps(about), flush=True)
        for line in sys.stdin:
            if line.strip() == "end":
                break
            started = time.perf_counter()
            call()
            print(json.dumps({"seconds": time.perf_counter() - started}), flush=True)
    print(json.dumps({"peak": peak.anonymous_bytes - peak.baseline_bytes}), flush=True)


if __name__ == "__main__":
    main()
