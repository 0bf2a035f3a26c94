"""Writes small repos into a Hub's folder: models with random weights, Parquet and image-folder datasets.

Owns the files' formats. What the shipped recipes need is in `recipe_repos`. Each function returns the repo's folder;
`root` is the Hub's DIR, `name` is `namespace/name`.
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from tests.hub_server.store import SETTINGS


def restrict(repo: Path, access: str) -> None:
    """Make a repo `gated` or `private`."""
    (repo / SETTINGS).write_text(json.dumps({"access": access}))


def jpeg(number: int, label: int, width: int = 40, height: int = 30) -> bytes:
    """A photo-like JPEG: noise around a colour that the label sets, so that classes can be told apart."""
    rng = np.random.default_rng((number, label))
    colour = np.array([label * 67 % 200, label * 131 % 200, label * 29 % 200])
    pixels = colour + rng.integers(0, 56, (height, width, 3))
    buffer = io.BytesIO()
    Image.fromarray(pixels.astype(np.uint8)).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


# --------------------------------------------------------------------------------------------------------------- models


def model_config(root: Path, name: str, config: Mapping[str, Any], preprocessor: Mapping[str, Any] | None) -> Path:
    """A model repo without weights: enough to plan with."""
    repo = root / "models" / name
    repo.mkdir(parents=True)
    (repo / "config.json").write_text(json.dumps(config, indent=2))
    if preprocessor is not None:
        (repo / "preprocessor_config.json").write_text(json.dumps(preprocessor, indent=2))
    (repo / "README.md").write_text("---\nlicense: apache-2.0\n---\n")
    return repo


def transformers_vit(root: Path, name: str, *, classes: int = 3, image_size: int = 32, seed: int = 0) -> Path:
    """A ViT of transformers with random weights: width 32, two blocks, patches of 8 pixels."""
    import torch
    from transformers import ViTConfig, ViTForImageClassification, ViTImageProcessor

    torch.manual_seed(seed)
    names = {number: f"class_{number}" for number in range(classes)}
    config = ViTConfig(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64,
        image_size=image_size, patch_size=8, id2label=names, label2id={name: number for number, name in names.items()},
    )  # fmt: skip
    repo = root / "models" / name
    ViTForImageClassification(config).save_pretrained(repo)
    ViTImageProcessor(size={"height": image_size, "width": image_size}).save_pretrained(repo)
    return repo


def timm_model(root: Path, name: str, *, architecture: str = "test_vit", classes: int = 3, seed: int = 0) -> Path:
    """A timm model with random weights, in the layout of the Hub's `timm/…` repos."""
    import timm
    import torch
    from safetensors.torch import save_file

    torch.manual_seed(seed)
    model = timm.create_model(architecture, num_classes=classes)
    repo = root / "models" / name
    repo.mkdir(parents=True)
    save_file(model.state_dict(), repo / "model.safetensors", metadata={"format": "pt"})
    (repo / "config.json").write_text(json.dumps(timm_config(architecture, classes), indent=2))
    (repo / "README.md").write_text("---\nlicense: apache-2.0\nlibrary_name: timm\n---\n")
    return repo


# What timm keeps in its registry and leaves out of a repo's config.json.
_NOT_IN_REPO = ("architecture", "url", "hf_hub_id", "file", "state_dict")


def timm_config(architecture: str, classes: int | None = None) -> dict[str, Any]:
    """The config.json of a `timm/…` repo, from timm's own registry; `architecture` may carry a tag."""
    import timm

    pretrained = timm.get_pretrained_cfg(architecture)
    if pretrained is None:
        raise ValueError(f"timm knows no {architecture}")
    config = pretrained.to_dict()
    described = {key: value for key, value in config.items() if key not in _NOT_IN_REPO}
    classes = pretrained.num_classes if classes is None else classes
    return {
        "architecture": architecture.split(".")[0],
        "num_classes": classes,
        "pretrained_cfg": described | {"num_classes": classes},
    }


# ------------------------------------------------------------------------------------------------------------- datasets


def _rows(labels: Sequence[str], per_class: int) -> Iterator[tuple[int, int]]:
    """(number of the image, label) in the order of the rows: classes take turns."""
    for turn in range(per_class):
        for label in range(len(labels)):
            yield turn * len(labels) + label, label


def parquet_dataset(
    root: Path,
    name: str,
    splits: Mapping[str, int],
    labels: Sequence[str],
    *,
    image_column: str = "image",
    label_columns: Mapping[str, Sequence[str]] | None = None,
    text_columns: Sequence[str] = (),
) -> Path:
    """A dataset as `datasets.push_to_hub` lays it out. `splits`: images per class of each split.

    `label_columns` adds or replaces class columns by name; the default is `{"label": labels}`. A column with fewer
    classes than `labels` gets the label modulo its number of classes.
    """
    repo = root / "datasets" / name
    (repo / "data").mkdir(parents=True)
    columns = dict(label_columns or {"label": labels})
    features: dict[str, Any] = {column: {"dtype": "string", "_type": "Value"} for column in text_columns}
    features[image_column] = {"_type": "Image"}
    features |= {column: {"names": list(names), "_type": "ClassLabel"} for column, names in columns.items()}
    for place, (split, per_class) in enumerate(splits.items()):
        rows = list(_rows(labels, per_class))
        data: dict[str, Any] = {column: [f"{split}_{number}" for number, _ in rows] for column in text_columns}
        data[image_column] = [
            {"bytes": jpeg(10_000 * place + number, label), "path": f"{split}_{number}.jpg"} for number, label in rows
        ]
        data |= {column: [label % len(names) for _, label in rows] for column, names in columns.items()}
        table = pa.table(data)
        info = json.dumps({"info": {"features": features}})
        table = table.replace_schema_metadata({"huggingface": info})
        pq.write_table(table, repo / "data" / f"{split}-00000-of-00001.parquet")
    files = "".join(f"  - split: {split}\n    path: data/{split}-*\n" for split in splits)
    (repo / "README.md").write_text(
        f"---\nlicense: mit\nconfigs:\n- config_name: default\n  data_files:\n{files}---\n# {name}\n"
    )
    return repo


def class_folders(folder: Path, labels: Sequence[str], per_class: int, first: int = 0) -> None:
    """Image files `class/number.jpg` below `folder`, numbered from `first`; other numbers, other photos."""
    for number, label in _rows(labels, per_class):
        file = folder / labels[label] / f"{first + number}.jpg"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(jpeg(first + number, label))


def folder_dataset(root: Path, name: str, splits: Mapping[str, int], labels: Sequence[str], below: str = "") -> Path:
    """A dataset of image files: `[below/]split/class/number.jpg`. `splits`: images per class of each split."""
    repo = root / "datasets" / name
    for place, (split, per_class) in enumerate(splits.items()):
        class_folders(repo / below / split, labels, per_class, first=10_000 * place)
    (repo / "README.md").write_text(f"# {name}\n")
    return repo


def zipped_dataset(
    root: Path, name: str, archives: Mapping[str, tuple[int, int]], labels: Sequence[str], per_class: int
) -> Path:
    """A dataset of zips without splits; every archive holds the same photos at its own (width, height)."""
    repo = root / "datasets" / name
    repo.mkdir(parents=True)
    for archive, (width, height) in archives.items():
        with zipfile.ZipFile(repo / f"{archive}.zip", "w") as file:
            for number, label in _rows(labels, per_class):
                path = f"{archive}/{labels[label]}/{labels[label]}{number}.jpg"
                file.writestr(path, jpeg(number, label, width, height))
    (repo / "README.md").write_text("---\nlicense: mit\n---\n")
    return repo
