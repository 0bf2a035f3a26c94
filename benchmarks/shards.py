"""Memory against the number of images in tar shards: whole runs of ladder=[probe], and the index alone.

    python benchmarks/shards.py OUT [--images 10000 100000] [--classes 10] [--model builtin:starter] [--streamed 50MB]

Every size is a fresh set of synthetic photos (synthetic.py) in shards of 2,000, a fresh cache, and one whole process of
the product, watched from outside (process_tree.py); then a process that only makes the index, whose bytes are counted
by tracemalloc. Shards and cache are deleted when a size is done. Prints a markdown table and writes OUT/shards.json.

With --streamed the shards are a dataset of a Hub on loopback, of which that many bytes may lie on the disk at a time
(data.download_limit); a second whole run on the same shards, all of them at hand, is the reference. The bytes of shards
in the cache are looked at ten times a second.
"""

from __future__ import annotations

import argparse
import io
import json
import shutil
import subprocess
import sys
import tarfile
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from hashlib import sha256
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


def run_one(images: int, classes: int, model: str, out: Path, streamed: str | None) -> list[dict[str, Any]]:
    """One whole run of the product on so many images, streamed before, and the index alone."""
    hub = out / f"{images}.hub"
    shards = hub / "datasets" / "bench" / "shards"
    shutil.rmtree(hub, ignore_errors=True)
    shard_bytes = write_shards(shards, images, classes)
    found: list[dict[str, Any]] = []
    if streamed is not None:
        sys.path.insert(0, str(ROOT))
        from tests.hub_server.server import running

        with running(hub) as server:
            home = out / f"{images}.home"
            environment = {"HF_ENDPOINT": server.url, "HF_HOME": str(home), "HF_HUB_DISABLE_XET": "1"}
            data = {"name": "bench/shards", "download_limit": streamed}
            found.append({"images": images, **_watched(data, model, out / f"{images}.streamed", environment)})
        shutil.rmtree(home)
        if not found[-1]["streamed_bytes"]:
            raise SystemExit(f"{images} images: all {shard_bytes:,} bytes of shards fit in {streamed}; give less")
    watched = _watched({"name": str(shards)}, model, out / str(images), {})
    index = subprocess.run(
        [sys.executable, "-c", INDEX, str(shards)], capture_output=True, text=True, check=True, cwd=ROOT
    )
    found.append({"images": images, "shard_bytes": shard_bytes, **watched, **json.loads(index.stdout)})
    shutil.rmtree(hub)
    return found


def _watched(data: Mapping[str, Any], model: str, place: Path, environment: Mapping[str, str]) -> dict[str, Any]:
    """What one whole run took."""
    cache, run = (place.with_name(f"{place.name}.{part}") for part in ("cache", "run"))
    for old in (cache, run):
        shutil.rmtree(old, ignore_errors=True)
    content = {
        "model": {"name": model},
        "data": {**data, "cache_dir": str(cache)},
        "ladder": ["probe"],
        "output": {"dir": str(run)},
    }
    recipe, log = place.with_name(f"{place.name}.yaml"), place.with_name(f"{place.name}.log")
    recipe.write_text(json.dumps(content, indent=1), encoding="utf-8")  # JSON is YAML
    with _ShardsOnDisk(cache) as on_disk:
        command = [sys.executable, "-m", "hf_finetune", "train", str(recipe)]
        used = watch(command, log, {"PYTHONPATH": str(ROOT), **environment})
    if used.code != 0:
        raise SystemExit(f"{place.name}: the run ended with {used.code}; see {log}")
    report = json.loads((run / "run.json").read_text(encoding="utf-8"))
    found = {
        "streamed_bytes": on_disk.most,
        "cache_bytes": sum(file.stat().st_size for file in cache.rglob("*") if file.is_file()),
        "seconds": used.seconds,
        "stages": report["seconds"],
        "anonymous_bytes": used.anonymous_bytes,
        "mapped_bytes": used.mapped_bytes,
        "test_accuracy": report["test"]["accuracy"],
        "weights": sha256((run / "adapter" / "adapter_model.safetensors").read_bytes()).hexdigest(),
    }
    shutil.rmtree(cache)
    return found


class _ShardsOnDisk:
    """The most bytes that files of a dataset, whole or half fetched, took at a time below a folder."""

    def __init__(self, folder: Path) -> None:
        self.most = 0
        self._folder, self._ended = folder, threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> _ShardsOnDisk:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._ended.wait(0.1):
            total = 0
            for path in self._folder.glob("store/*/files/**/*"):
                with suppress(OSError):  # it may go meanwhile
                    total += path.stat().st_size if path.is_file() else 0
            self.most = max(self.most, total)


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Markdown; of each size after the first what one more image took."""
    lines = [
        "| images | run | peak of anonymous memory | a further image | index | its peak | index in | test accuracy |",
        "|---|---|---|---|---|---|---|---|",
    ]
    streamed = [row for row in rows if "index_s" not in row]
    rows = [row for row in rows if "index_s" in row]
    for before, row in zip([None, *rows], rows, strict=False):
        more = "" if before is None else (
            f"{(row['anonymous_bytes'] - before['anonymous_bytes']) / (row['images'] - before['images']):,.0f} B"
        )  # fmt: skip
        lines.append(
            f"| {row['images']:,} | {row['seconds']:.0f} s | {row['anonymous_bytes'] / 1e6:,.0f} MB | {more} "
            f"| {row['index_bytes'] / row['images']:.0f} B an image | {row['index_peak_bytes'] / row['images']:.0f} B "
            f"an image | {row['index_s']:.1f} s | {row['test_accuracy']:.3f} |"
        )
    for row in streamed:
        whole = next(each for each in rows if each["images"] == row["images"])
        lines.append(
            f"\n{row['images']:,} streamed: {row['seconds']:.0f} s, {row['anonymous_bytes'] / 1e6:,.0f} MB, shards on "
            f"the disk at most {row['streamed_bytes'] / 1e6:,.0f} MB of {whole['shard_bytes'] / 1e6:,.0f}, the same "
            f"weights: {row['weights'] == whole['weights']}"
        )
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--images", type=int, nargs="+", default=[10_000, 100_000])
    parser.add_argument("--classes", type=int, default=10)
    parser.add_argument("--model", default="builtin:starter")
    parser.add_argument("--streamed", metavar="BYTES", help="the limit of a run that fetches its shards one by one")
    options = parser.parse_args(arguments)
    options.out.mkdir(parents=True, exist_ok=True)
    rows: list[dict[str, Any]] = []
    for images in options.images:
        rows += run_one(images, options.classes, options.model, options.out, options.streamed)
        (options.out / "shards.json").write_text(json.dumps(rows, indent=1), encoding="utf-8")
        print(table(rows), flush=True)


if __name__ == "__main__":
    main()
