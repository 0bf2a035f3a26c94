"""Accuracy of a saved adapter by stock libraries alone: transformers, peft, Pillow, torch; nothing of hf_finetune.

    python benchmarks/stock_accuracy.py ADAPTER FOLDER_OF_CLASS_FOLDERS [--base PATH] [--int8 | --nf4]

It reads the image files itself, so it also checks that the preprocessing travels with the adapter. Prints one line of
JSON: rows, accuracy, and the predicted label of each file.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch
from peft import PeftModel
from PIL import Image, ImageOps
from transformers import AutoConfig, AutoImageProcessor, AutoModelForImageClassification, BitsAndBytesConfig


def quantization_of(options: argparse.Namespace, adapter: Path) -> BitsAndBytesConfig | None:
    config = json.loads((adapter / "adapter_config.json").read_text())
    head = config["modules_to_save"] or config["target_modules"]  # a head-only adapter names the head there
    if options.int8:
        return BitsAndBytesConfig(load_in_8bit=True, llm_int8_skip_modules=head)
    if options.nf4:
        return BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", llm_int8_skip_modules=head)
    return None


def load_with_stock(options: argparse.Namespace) -> tuple[torch.nn.Module, object, dict[int, str]]:
    adapter = Path(options.adapter)
    if not (adapter / "adapter_config.json").is_file():  # a whole model
        model = AutoModelForImageClassification.from_pretrained(adapter, dtype="float32").eval()
        return model, AutoImageProcessor.from_pretrained(adapter, backend=options.backend), model.config.id2label
    named = json.loads((adapter / "adapter_config.json").read_text())["base_model_name_or_path"]
    base_path = options.base or (str(adapter / "base") if named == "base" else named)
    config = AutoConfig.from_pretrained(adapter)
    extra = {}
    quantization = quantization_of(options, adapter)
    if quantization is not None:
        extra["quantization_config"] = quantization
    base = AutoModelForImageClassification.from_pretrained(
        base_path, config=config, ignore_mismatched_sizes=True, dtype="float32", **extra
    )
    model = PeftModel.from_pretrained(base, adapter).eval()
    return model, AutoImageProcessor.from_pretrained(adapter, backend=options.backend), config.id2label


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("adapter")
    parser.add_argument("images")
    parser.add_argument("--base")
    parser.add_argument("--backend", default="pil", choices=("pil", "torchvision"))
    kind = parser.add_mutually_exclusive_group()
    kind.add_argument("--int8", action="store_true")
    kind.add_argument("--nf4", action="store_true")
    options = parser.parse_args()
    model, processor, names = load_with_stock(options)
    predicted: dict[str, str] = {}
    files = sorted(path for path in Path(options.images).glob("*/*") if path.is_file())
    for start in range(0, len(files), 32):
        images, kept = [], []
        for path in files[start : start + 32]:
            try:
                with Image.open(path) as image:
                    images.append(ImageOps.exif_transpose(image).convert("RGB"))
                kept.append(path)
            except OSError:
                continue  # the product skips and names it; here it just does not count
        with torch.no_grad():
            inputs = processor(images, return_tensors="pt").to(model.device)
            logits = model(pixel_values=inputs["pixel_values"]).logits
        for path, answer in zip(kept, logits.argmax(-1).tolist(), strict=True):
            predicted[f"{path.parent.name}/{path.name}"] = names[answer]
    right = sum(name.split("/")[0] == label for name, label in predicted.items())
    print(json.dumps({"rows": len(predicted), "accuracy": right / len(predicted), "predicted": predicted}))


if __name__ == "__main__":
    main()
