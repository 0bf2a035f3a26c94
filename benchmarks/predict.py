"""`hf-finetune predict` on many photos beside a bare loop of decoding and forward passes over the same photos.

    python benchmarks/predict.py DATA_FOLDER OUT_FOLDER [--images 1000] [--repeats 3] [--batch 32]

The loop is what one would write: Pillow and torchvision in a torch DataLoader with two workers, then timm's ViT-Tiny in
float32. Ours is the command itself with a probe on the same backbone, writing a CSV; it also says how far each photo is
from those of training. Both are processes of their own, in turns, and count from the first file on, with the model
loaded; whole processes and their processor seconds stand beside it. The photos are TrashNet's, each a file of its own.
Medians of the turns' ratios. Writes OUT_FOLDER/predict.json.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path

RATIO = 1.3  # of the loop's seconds that ours may take
LOOP = """
import sys, time, timm, torch
from pathlib import Path
from PIL import Image
from torchvision import transforms

class Photos(torch.utils.data.Dataset):
    def __init__(self, files, transform):
        self.files, self.transform = files, transform
    def __len__(self):
        return len(self.files)
    def __getitem__(self, place):
        return self.transform(Image.open(self.files[place]).convert("RGB"))

if __name__ == "__main__":
    weights, listed, batch = sys.argv[1:]
    model = timm.create_model("local-dir:" + weights, num_classes=6).eval()
    transform = transforms.Compose([
        transforms.Resize(248, transforms.InterpolationMode.BICUBIC), transforms.CenterCrop(224),
        transforms.ToTensor(), transforms.Normalize((0.5,) * 3, (0.5,) * 3)])
    photos = Photos(Path(listed).read_text("utf-8").splitlines(), transform)
    model(torch.zeros(int(batch), 3, 224, 224))
    started = time.perf_counter()
    answers = []
    with torch.inference_mode():
        for pixels in torch.utils.data.DataLoader(photos, batch_size=int(batch), num_workers=2):
            answers += model(pixels).softmax(1).max(1).indices.tolist()
    print(len(answers), time.perf_counter() - started)
"""


def loop(weights: Path, listed: Path, batch: int) -> tuple[int, float]:
    """Photos and seconds from the first file on."""
    done = subprocess.run(
        [sys.executable, "-c", LOOP, str(weights), str(listed), str(batch)], check=True, capture_output=True, text=True
    )
    count, seconds = done.stdout.split()
    return int(count), float(seconds)


def ours(run: Path, listed: Path, batch: int, out: Path) -> tuple[int, float]:
    """The same, as the command says at its end."""
    command = [sys.executable, "-m", "hf_finetune", "predict", str(run), "-", "--out", str(out), "--overwrite"]
    with listed.open("rb") as names:
        done = subprocess.run(
            [*command, "--batch", str(batch)], check=True, capture_output=True, text=True, stdin=names
        )
    said = re.search(r"([\d,]+) of [\d,]+ images answered in (?:(\d+) min )?([\d.]+) s", done.stderr)
    assert said is not None, done.stderr
    return int(said[1].replace(",", "")), 60 * int(said[2] or 0) + float(said[3])


def _cpu_s() -> float:
    """Seconds of processor that ended children took, their own workers among them."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--batch", type=int, default=32)
    options = parser.parse_args()
    out = options.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    weights = (options.data / "weights" / "vit_tiny_timm").resolve()
    photos = (options.data / "datasets" / "trashnet").resolve()
    files = sorted(photos.glob("*/*/*.jpg"))
    listed = out / "photos.txt"
    listed.write_text("\n".join(map(str, files[:: max(1, len(files) // options.images)][: options.images])), "utf-8")
    if not (out / "run" / "run.json").is_file():
        command = [sys.executable, "-m", "hf_finetune", "train", f"model.name={weights}", f"data.name={photos}"]
        subprocess.run([*command, "budget.time=0", f"output.dir={out / 'run'}"], check=True, capture_output=True)
    os.environ.pop("OMP_NUM_THREADS", None)  # both take the cores that there are
    turns = []
    for _ in range(options.repeats):
        turn: dict[str, float] = {}
        for name in ("loop", "ours"):
            started, worked = time.perf_counter(), _cpu_s()
            if name == "loop":
                count, turn[name] = loop(weights, listed, options.batch)
            else:
                count, turn[name] = ours(out / "run", listed, options.batch, out / "answers.csv")
            turn |= {f"{name}_process": time.perf_counter() - started, f"{name}_cpu": _cpu_s() - worked}
            assert count == len(listed.read_text("utf-8").splitlines())
        turns.append(turn)
        print(json.dumps({key: round(seconds, 1) for key, seconds in turn.items()}), flush=True)
    (out / "predict.json").write_text(json.dumps({"images": count, "turns": turns}, indent=1), encoding="utf-8")
    ratio = statistics.median(turn["ours"] / turn["loop"] for turn in turns)
    middle = {name: statistics.median(turn[name] for turn in turns) for name in ("loop", "ours")}
    print(f"{count:,} photos: the loop {middle['loop']:.1f} s, ours {middle['ours']:.1f} s; ratio {ratio:.2f}", end=" ")
    print(f"(at most {RATIO} is wanted)")


if __name__ == "__main__":
    main()
