"""The probe alone beside the bare forward pass over the same photos: how much a usable model costs beyond arithmetic.

    python benchmarks/probe_vs_forward.py DATA_FOLDER OUT_FOLDER [--repeats 3]

Bare: ViT-Tiny by timm in bfloat16, batches of 32 of all 2,527 TrashNet photos, decoded and normalised before. Ours:
whole processes with `budget.time=0`, from process start to exit: decoding, the pass, the head, a verified save and the
scored test; caches empty, then warm. Medians of `repeats`. Writes OUT_FOLDER/probe.json.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
RECIPE = ROOT / "benchmarks" / "recipes" / "shipped.yaml"
BARE = """
import sys, time, numpy, timm, torch
from PIL import Image
from pathlib import Path
weights, data = sys.argv[1:3]
model = timm.create_model("local-dir:" + weights, num_classes=0).to(torch.bfloat16).eval()
photos = [p for p in sorted(Path(data).glob("*/*/*")) if p.suffix.lower() in (".jpg", ".jpeg", ".png")]
pixels = [numpy.asarray(Image.open(p).convert("RGB").resize((224, 224))) for p in photos]
batch = lambda s: ((torch.from_numpy(numpy.stack(pixels[s:s + 32])).permute(0, 3, 1, 2) / 127.5) - 1).to(torch.bfloat16)
batches = [batch(start) for start in range(0, len(pixels), 32)]
with torch.inference_mode():
    model(batches[0])
    started = time.perf_counter()
    for each in batches:
        model(each)
print(len(photos), time.perf_counter() - started)
"""


def bare(weights: Path, data: Path) -> tuple[int, float]:
    command = [sys.executable, "-c", BARE, str(weights), str(data)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    count, seconds = done.stdout.split()
    return int(count), float(seconds)


def probe(weights: Path, data: Path, out: Path, *, warm: bool) -> float:
    if not warm:
        shutil.rmtree(out / "cache", ignore_errors=True)
    shutil.rmtree(out / "run", ignore_errors=True)
    command = [sys.executable, "-m", "hf_finetune", "train", str(RECIPE), f"model.name={weights}", f"data.name={data}"]
    command += [f"data.cache_dir={out / 'cache'}", f"output.dir={out / 'run'}", "budget.time=0"]
    started = time.monotonic()
    subprocess.run(command, check=True, capture_output=True)
    return time.monotonic() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    weights = (options.data / "weights" / "vit_tiny_timm").resolve()
    data = (options.data / "datasets" / "trashnet").resolve()
    options.out.mkdir(parents=True, exist_ok=True)
    rows = []
    for _ in range(options.repeats):
        images, forward = bare(weights, data)
        cold, warm = (probe(weights, data, options.out.resolve(), warm=each) for each in (False, True))
        rows.append({"images": images, "bare_forward": forward, "cold": cold, "warm": warm})
        print(json.dumps(rows[-1]), flush=True)
    (options.out / "probe.json").write_text(json.dumps(rows, indent=1), encoding="utf-8")
    middle = {name: statistics.median(row[name] for row in rows) for name in ("bare_forward", "cold", "warm")}
    allowed = 1.6 * middle["bare_forward"] + 6
    print(f"bare {middle['bare_forward']:.1f} s, allowed {allowed:.1f} s", end="; ")
    print(f"cold {middle['cold']:.1f} s, warm {middle['warm']:.1f} s")


if __name__ == "__main__":
    main()
