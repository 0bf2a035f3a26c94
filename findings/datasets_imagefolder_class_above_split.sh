#!/usr/bin/env bash
# datasets 5.2.0, load_dataset("imagefolder"), on a folder with the split inside each class (cats/train, cats/test,
# dogs/train, dogs/test): both splits are found, but the label of an image is the name of the folder that holds it. The
# label's classes are therefore "test" and "train", every test row is labelled "test", and every train row has no label
# at all (None) although its folder is one of the two names. Nothing is raised and no warning is given. With the split
# above the class (train/cats) the labels are cats and dogs.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install --quiet datasets==5.2.0 pillow==13.0.0
HF_HUB_OFFLINE=1 HF_HOME="$work/home" HF_DATASETS_DISABLE_PROGRESS_BARS=1 venv/bin/python - <<'PY'
from pathlib import Path

import datasets
from PIL import Image

shade = 0
for label in ("cats", "dogs"):
    for split, size in (("train", 4), ("test", 2)):
        for _ in range(size):
            shade += 1
            for path in (Path("inside", label, split), Path("above", split, label)):
                path.mkdir(parents=True, exist_ok=True)
                Image.new("RGB", (8, 8), (shade, shade, shade)).save(path / f"{shade}.png")

found = {}
for layout in ("inside", "above"):
    data = datasets.load_dataset("imagefolder", data_dir=layout, cache_dir="cache")
    found[layout] = {split: (rows.features["label"].names, list(rows["label"])) for split, rows in data.items()}
    print(datasets.__version__, layout, found[layout])

assert found["inside"] == {
    "train": (["test", "train"], [None] * 8),
    "test": (["test", "train"], [0] * 4),
}, "the behaviour has changed"
assert sorted(found["above"]["train"][1]) == [0] * 4 + [1] * 4, "the behaviour has changed"
print("seen as described")
PY
