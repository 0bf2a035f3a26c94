"""The frozen pass by each engine: images a second, how far features are apart, and what the probe makes of them.

    python benchmarks/frozen_pass.py DATA_FOLDER OUT_FOLDER [--turns 6] [--nets ViT-Tiny] [--accuracy trashnet]

Needs `pip install 'hf_finetune[graph]'`. Speed: 32 photos of TrashNet (16 for ViT-B) in one process, the engines in
turns, medians; the torch model in bfloat16 and float32 is the reference of each row. ViT-Tiny and MobileNetV2 have real
weights, the ViT of ViT-B's size random ones. Features are compared with torch's in the same precision and in float32.
Accuracy: whole runs of the product with the probe alone, by the torch model and by the graph, the test's predictions
paired. Writes OUT_FOLDER/frozen_pass.json after each part.
"""

from __future__ import annotations

import argparse
import csv
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import ViTConfig, ViTForImageClassification

from hf_finetune.backbones.config import Model
from hf_finetune.backbones.engines.eager import Eager
from hf_finetune.backbones.engines.engine import Engine
from hf_finetune.backbones.engines.graph import Graph
from hf_finetune.backbones.facts import read_facts
from hf_finetune.backbones.load import load_backbone
from hf_finetune.backbones.surgery.cut import Watch
from hf_finetune.labels import Labels

SIZE = (224, 224)
TYPES = {"bf16": torch.bfloat16, "fp32": torch.float32}


def photos(data: Path, count: int) -> torch.Tensor:
    """float32 [count, 3, 224, 224] of TrashNet's test, −1 to 1."""
    from PIL import Image

    files = sorted((data / "datasets" / "trashnet" / "test").glob("*/*.jpg"))[:: max(1, 431 // count)][:count]
    pixels = [np.asarray(Image.open(file).convert("RGB").resize(SIZE)) for file in files]
    return torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2).float().div(127.5).sub(1).contiguous()


def random_vit(folder: Path) -> Path:
    """A ViT of ViT-B's size with random weights, as a local checkpoint."""
    if not (folder / "config.json").is_file():
        torch.manual_seed(0)
        ViTForImageClassification(ViTConfig(num_labels=10)).save_pretrained(folder)
        (folder / "preprocessor_config.json").write_text(
            '{"image_processor_type": "ViTImageProcessor", "size": {"height": 224, "width": 224}, "resample": 2}'
        )
    return folder


def eager(name: str, precision: str) -> Eager:
    """The torch model with plain attention, its head watched."""
    model = load_backbone(
        Model(name=name), Labels(("a", "b")), dtype=TYPES[precision], seed=0, plain_attention=True
    ).eval()
    return Eager(model, Watch([model.get_submodule(head) for head in read_facts(Model(name=name), 2).head], None))


def speed(name: str, images: torch.Tensor, turns: int) -> dict[str, Any]:
    """Images a second by engine, what converting took, and relative differences of features."""
    engines: dict[str, Engine] = {}
    seconds_to_convert = {}
    for precision in TYPES:
        engines[f"torch {precision}"] = plain = eager(name, precision)
        started = time.perf_counter()
        engines[f"OpenVINO {precision}"] = Graph(plain, SIZE, precision)
        seconds_to_convert[precision] = time.perf_counter() - started
    spent: dict[str, list[float]] = {each: [] for each in engines}
    features = {each: engine(images).features for each, engine in engines.items()}
    for _ in range(turns):
        for each, engine in engines.items():
            started = time.perf_counter()
            engine(images)
            spent[each].append(time.perf_counter() - started)

    def apart(one: str, other: str) -> float:
        expected, found = features[one], features[other]
        assert expected is not None and found is not None
        return float((found - expected).norm() / expected.norm())

    return {
        "images_s": {each: len(images) / statistics.median(times) for each, times in spent.items()},
        "spread": {each: [len(images) / max(times), len(images) / min(times)] for each, times in spent.items()},
        "convert_s": seconds_to_convert,
        "to_torch_same": {each: apart(f"torch {each.split()[1]}", each) for each in engines},
        "to_torch_fp32": {each: apart("torch fp32", each) for each in engines},
    }


def accuracy(name: str, data: Path, out: Path) -> dict[str, Any]:
    """The probe's test by each engine: accuracy, and the paired predictions that differ."""
    found, answers = {}, {}
    for engine in ("eager", "graph"):
        run = out / f"run-{engine}"
        command = [sys.executable, "-m", "hf_finetune", "train", f"model.name={name}", f"data.name={data}"]
        command += [f"model.engine={engine}", "ladder=[probe]", f"data.cache_dir={out / 'cache'}", "--overwrite"]
        subprocess.run([*command, f"output.dir={run}"], check=True, capture_output=True)
        report = json.loads((run / "run.json").read_text(encoding="utf-8"))
        found[engine] = {"test": report["test"]["accuracy"], "rows": report["test"]["rows"], **report.get("engine", {})}
        with (run / "predictions.csv").open(encoding="utf-8", newline="") as file:
            answers[engine] = [row["predicted"] for row in csv.DictReader(file)]
    differ = sum(one != other for one, other in zip(answers["eager"], answers["graph"], strict=True))
    return {**found, "predictions_that_differ": differ}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--turns", type=int, default=6)
    parser.add_argument("--accuracy", nargs="*", default=["hymenoptera", "trashnet"], metavar="DATASET")
    parser.add_argument("--nets", nargs="*", default=["ViT-Tiny", "MobileNetV2", "ViT-B"], metavar="NET")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    weights = options.data / "weights"
    flags = Path("/proc/cpuinfo").read_text(encoding="utf-8") if sys.platform == "linux" else ""
    result: dict[str, Any] = {
        "cores": torch.get_num_threads(),
        "amx": "amx_bf16" in flags,
        "avx512_bf16": "avx512_bf16" in flags,
        "speed": {},
        "accuracy": {},
    }
    nets = {
        "ViT-Tiny": (str(weights / "vit_tiny_timm"), 32),
        "MobileNetV2": (str(weights / "mobilenetv2_timm"), 32),
        "ViT-B": (str(random_vit(options.out / "vit_b")), 16),
    }

    def kept(text: str) -> None:
        (options.out / "frozen_pass.json").write_text(json.dumps(result, indent=1), encoding="utf-8")
        print(text, flush=True)

    for net in options.nets:
        name, count = nets[net]
        result["speed"][net] = found = speed(name, photos(options.data, count), options.turns)
        for each, rate in found["images_s"].items():
            share = rate / found["images_s"]["torch bf16"]
            errors = f"{100 * found['to_torch_same'][each]:.2f} %, {100 * found['to_torch_fp32'][each]:.2f} %"
            kept(f"{net:14} {each:14} {rate:7.1f} images/s  {share:5.2f} × torch bf16  {errors}")
    for dataset in options.accuracy:
        for net in ("ViT-Tiny", "MobileNetV2"):
            folder = options.data / "datasets" / dataset
            result["accuracy"][f"{dataset}, {net}"] = found = accuracy(
                nets[net][0], folder, options.out / dataset / net
            )
            differ = f"{found['predictions_that_differ']} of {found['eager']['rows']} predictions differ"
            kept(f"{dataset}, {net}: torch {found['eager']['test']:.4f}, graph {found['graph']['test']:.4f}; {differ}")


if __name__ == "__main__":
    main()
