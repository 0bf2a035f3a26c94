"""Memory against the number of images in tar shards: whole runs of ladder=[probe], and the index alone.

    python benchmarks/shards.py OUT [--images 10000 100000] [--classes 10] [--model builtin:starter]

Every size is a fresh set of synthetic photos (synthetic.py) in shards of 2,000, a fresh cache, and one whole process of
the product, watched from outside (process_tree.py); then a process that only makes the index, whose bytes are counted
by tracemalloc. Shards and cache are deleted when a size is done. Prints a markdown table and writes OUT/shards.json.
"""

from __future__ import annotations

import argparse
import io
import json
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from process_tree import watch
from synthetic import class_name, photos

ROOT = Path(__file__).resolve().parents[1]
A_SHARD = 2000
INDEX = """
import gc, json, sys, time, tracemalloc
from hf_finetune.data.config import Data
from hf_finetune.data.index.scan import scan
started = time.perf_counter()
scan(Data(name=sys.argv[1]), seed=0)
seconds = time.perf_counter() - started
tracemalloc.start()
index = scan(Data(name=sys.argv[1]), seed=0)
peak = tracemalloc.get_traced_memory()[1]
gc.collect()
print(json.dumps({"index_s": seconds, "index_bytes": tracemalloc.get_traced_memory()[0], "index_peak_bytes": peak}))
"""


def write_shards(folder: Path, images: int, classes: int, seed: int = 0) -> int:
    """`images` samples of .jpg and .cls in train-NNNNNN.tar, classes in turn; gives the bytes of all shards."""
    folder.mkdir(parents=True)
    tar: tarfile.TarFile | None = None
    for number, (label, photo) in enumerate(photos(images, classes, seed)):
        if number % A_SHARD == 0:
            if tar is not None:
                tar.close()
            tar = tarfile.open(folder / f"train-{number // A_SHARD:06d}.tar", "w")  # noqa: SIM115 - the next one closes it
        for ending, data in (("jpg", photo), ("cls", b"%d" % label)):
            member = tarfile.TarInfo(f"{number:08d}.{ending}")
            member.size = len(data)
            if tar is not None:
                tar.addfile(member, io.BytesIO(data))
    if tar is not None:
        tar.close()
    (folder / "classnames.txt").write_text("".join(f"{class_name(label)}\n" for label in range(classes)))
    return sum(path.stat().st_size for path in folder.iterdir())


def run_one(images: int, classes: int, model: str, out: Path) -> dict[str, Any]:
    """One whole run of the product on so many images, and the index alone."""
    shards, cache, run = (out / f"{images}.{part}" for part in ("shards", "cache", "run"))
    for old in (shards, cache, run):
        shutil.rmtree(old, ignore_errors=True)
    shard_bytes = write_shards(shards, images, classes)
    content = {
        "model": {"name": model},
        "data": {"name": str(shards), "cache_dir": str(cache)},
        "ladder": ["probe"],
        "output": {"dir": str(run)},
    }
    recipe, log = out / f"{images}.yaml", out / f"{images}.log"
    recipe.write_text(json.dumps(content, indent=1), encoding="utf-8")  # JSON is YAML
    used = watch([sys.executable, "-m", "hf_finetune", "train", str(recipe)], log, {"PYTHONPATH": str(ROOT)})
    if used.code != 0:
        raise SystemExit(f"{images} images: the run ended with {used.code}; see {log}")
    report = json.loads((run / "run.json").read_text(encoding="utf-8"))
    index = subprocess.run(
        [sys.executable, "-c", INDEX, str(shards)], capture_output=True, text=True, check=True, cwd=ROOT
    )
    found = {
        "images": images,
        "shard_bytes": shard_bytes,
        "cache_bytes": sum(file.stat().st_size for file in cache.rglob("*") if file.is_file()),
        "seconds": used.seconds,
        "stages": report["seconds"],
        "anonymous_bytes": used.anonymous_bytes,
        "mapped_bytes": used.mapped_bytes,
        "test_accuracy": report["test"]["accuracy"],
        **json.loads(index.stdout),
    }
    for old in (shards, cache):
        shutil.rmtree(old)
    return found


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Markdown; of each size after the first what one more image took."""
    lines = [
        "| images | run | peak of anonymous memory | a further image | index | its peak | index in | test accuracy |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for before, row in zip([None, *rows], rows, strict=False):
        more = "" if before is None else (
            f"{(row['anonymous_bytes'] - before['anonymous_bytes']) / (row['images'] - before['images']):,.0f} B"
        )  # fmt: skip
        lines.append(
            f"| {row['images']:,} | {row['seconds']:.0f} s | {row['anonymous_bytes'] / 1e6:,.0f} MB | {more} "
            f"| {row['index_bytes'] / row['images']:.0f} B an image | {row['index_peak_bytes'] / row['images']:.0f} B "
            f"an image | {row['index_s']:.1f} s | {row['test_accuracy']:.3f} |"
        )
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--images", type=int, nargs="+", default=[10_000, 100_000])
    parser.add_argument("--classes", type=int, default=10)
    parser.add_argument("--model", default="builtin:starter")
    options = parser.parse_args(arguments)
    options.out.mkdir(parents=True, exist_ok=True)
    rows: list[dict[str, Any]] = []
    for images in options.images:
        rows.append(run_one(images, options.classes, options.model, options.out))
        (options.out / "shards.json").write_text(json.dumps(rows, indent=1), encoding="utf-8")
        print(table(rows), flush=True)


if __name__ == "__main__":
    main()
