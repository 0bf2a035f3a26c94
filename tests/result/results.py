"""Small results on disk, staged with the functions that a run uses; and stock transformers alone, in a process."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from peft import PeftModel
from pydantic import TypeAdapter

from hf_finetune.adapters import Full, HeadOnly, Lora
from hf_finetune.backbones.config import Model
from hf_finetune.backbones.facts import read_facts
from hf_finetune.backbones.fingerprint import fingerprint
from hf_finetune.backbones.load import load_backbone
from hf_finetune.labels import Labels
from hf_finetune.quantizers import Quantizer
from hf_finetune.result.manifest import Manifest
from hf_finetune.result.save import stage

# Names that careless code parses, sorts, or cannot write.
LABELS = ("n/a", "1", "True", "null", "ü/\u2044", "日本", 'a "b", c', "LABEL_0")


def save_result(
    base: str | Path,
    adapter: Lora | HeadOnly | Full,
    folder: Path,
    *,
    labels: tuple[str, ...] = LABELS,
    quantization: str = "none",
) -> Path:
    """The base with an adapter whose every trained weight has moved."""
    model = Model(name=str(base))
    facts = read_facts(model, num_labels=len(labels))
    config = TypeAdapter(Quantizer).validate_python({"kind": quantization}).config(facts.head)
    extra: dict[str, Any] = {} if config is None else {"quantization_config": config, "device_map": {"": "cpu"}}
    adapted = adapter.apply(load_backbone(model, Labels(labels), dtype=torch.float32, seed=0, **extra), facts)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for weight in adapted.parameters():
            if weight.requires_grad:
                weight.add_(0.05 * torch.randn(weight.shape, generator=generator))
    assert isinstance(adapted, PeftModel) == (adapter.kind != "full")
    manifest = Manifest(
        base=str(base),
        revision=None,
        fingerprint=fingerprint(model),
        adapter=adapter.model_dump(mode="json"),
        quantization=quantization,
        dtype="fp32",
        head=facts.head,
        labels=labels,
        preprocess=facts.preprocess,
    )
    stage(adapted, folder, manifest, "")
    return folder


_STOCK = """
import json, sys
sys.modules["hf_finetune"] = None
import numpy as np, torch
from PIL import Image
from transformers import AutoImageProcessor, AutoModelForImageClassification, pipeline

photos, folders = json.loads(sys.argv[1])
answers = {}
for folder in folders:
    processor = AutoImageProcessor.from_pretrained(folder, backend="pil")
    model = AutoModelForImageClassification.from_pretrained(folder).eval()
    ask = pipeline("image-classification", model=folder)
    answers[folder] = []
    for photo in map(Image.open, photos):
        pixels = processor(photo, return_tensors="pt")["pixel_values"]
        with torch.no_grad():
            logits = model(pixel_values=pixels).logits[0]
        answers[folder].append({
            "pixels": pixels.numpy().tobytes().hex(),
            "logits": logits.tolist(),
            "dtypes": sorted({str(weight.dtype) for weight in model.parameters()}),
            "id2label": {str(number): name for number, name in model.config.id2label.items()},
            "pipeline": {entry["label"]: entry["score"] for entry in ask(photo, top_k=10_000)},
        })
print(json.dumps(answers))
"""


def stock_answers(photos: list[Path], folders: list[Path], cwd: Path) -> dict[str, list[dict[str, Any]]]:
    """What stock transformers says of each photo, by folder: in a process that cannot import hf_finetune."""
    question = json.dumps([[str(photo) for photo in photos], [str(folder) for folder in folders]])
    done = subprocess.run([sys.executable, "-I", "-c", _STOCK, question], capture_output=True, text=True, cwd=cwd)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


def noise_photo(path: Path) -> Path:
    """A colourful PNG of 57 × 43 px."""
    from PIL import Image

    random = np.random.default_rng(0)
    Image.fromarray(random.integers(0, 256, (43, 57, 3), dtype=np.uint8)).save(path)
    return path
