"""What the shipped recipes name on the Hub, small: every model's config and every dataset's columns and splits.

Facts only: the sizes are those of each repo's own config.json and preprocessor_config.json on the Hub (looked up
2026-11-23), timm's come from timm's registry, and the columns, splits and numbers of classes are those of the
datasets' cards. Weights are absent, images are tiny, and where a dataset has many classes their names are numbered.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.hub_server.repos import (
    class_folders,
    folder_dataset,
    model_config,
    parquet_dataset,
    timm_config,
    zipped_dataset,
)

_IMAGENET = {"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]}


def _vit(width: int, depth: int, heads: int) -> dict[str, Any]:
    return {
        "architectures": ["ViTModel"], "model_type": "vit", "hidden_size": width, "num_hidden_layers": depth,
        "num_attention_heads": heads, "intermediate_size": 4 * width, "hidden_act": "gelu", "image_size": 224,
        "patch_size": 16, "num_channels": 3, "qkv_bias": True, "layer_norm_eps": 1e-12,
    }  # fmt: skip


def _dinov2(width: int, depth: int, heads: int) -> dict[str, Any]:
    return {
        "architectures": ["Dinov2Model"], "model_type": "dinov2", "hidden_size": width, "num_hidden_layers": depth,
        "num_attention_heads": heads, "mlp_ratio": 4, "hidden_act": "gelu", "image_size": 518, "patch_size": 14,
        "num_channels": 3, "qkv_bias": True, "layer_norm_eps": 1e-6, "layerscale_value": 1.0, "use_swiglu_ffn": False,
    }  # fmt: skip


def _classes(count: int) -> dict[str, Any]:
    names = {str(number): f"LABEL_{number}" for number in range(count)}
    return {"id2label": names, "label2id": {name: int(number) for number, name in names.items()}}


_RESNET_50 = {
    "architectures": ["ResNetForImageClassification"], "model_type": "resnet", "depths": [3, 4, 6, 3],
    "hidden_sizes": [256, 512, 1024, 2048], "embedding_size": 64, "layer_type": "bottleneck", "hidden_act": "relu",
    "downsample_in_first_stage": False, "num_channels": 3, **_classes(1000),
}  # fmt: skip
_CONVNEXTV2_TINY = {
    "architectures": ["ConvNextV2ForImageClassification"], "model_type": "convnextv2", "depths": [3, 3, 9, 3],
    "hidden_sizes": [96, 192, 384, 768], "num_stages": 4, "patch_size": 4, "image_size": 224, "hidden_act": "gelu",
    "drop_path_rate": 0.0, "layer_norm_eps": 1e-12, "num_channels": 3, **_classes(1000),
}  # fmt: skip

# As the repos have them: the older files give the size as one number and name no processor, or one by its old name.
_VIT_PIXELS = {
    "do_normalize": True, "do_resize": True, "image_mean": [0.5] * 3, "image_std": [0.5] * 3, "resample": 2,
    "size": 224,
}  # fmt: skip
_RESNET_PIXELS = {
    "feature_extractor_type": "ConvNextFeatureExtractor", "do_resize": True, "size": 224, "crop_pct": 0.875,
    "resample": 3, "do_normalize": True, **_IMAGENET,
}  # fmt: skip
_DINOV2_PIXELS = {
    "image_processor_type": "BitImageProcessor", "do_resize": True, "size": {"shortest_edge": 256}, "resample": 3,
    "do_center_crop": True, "crop_size": {"height": 224, "width": 224}, "do_rescale": True,
    "rescale_factor": 0.00392156862745098, "do_normalize": True, "do_convert_rgb": True, **_IMAGENET,
}  # fmt: skip
_CONVNEXT_PIXELS = {
    "image_processor_type": "ConvNextImageProcessor", "do_resize": True, "size": {"shortest_edge": 224},
    "crop_pct": 0.875, "resample": 3, "do_rescale": True, "rescale_factor": 0.00392156862745098, "do_normalize": True,
    **_IMAGENET,
}  # fmt: skip

MODELS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "google/vit-base-patch16-224-in21k": (_vit(768, 12, 12), _VIT_PIXELS),
    "google/vit-large-patch16-224-in21k": (_vit(1024, 24, 16), _VIT_PIXELS),
    "facebook/dinov2-small": (_dinov2(384, 12, 6), _DINOV2_PIXELS),
    "facebook/dinov2-base": (_dinov2(768, 12, 12), _DINOV2_PIXELS),
    "facebook/dinov2-large": (_dinov2(1024, 24, 16), _DINOV2_PIXELS),
    "facebook/convnextv2-tiny-22k-224": (_CONVNEXTV2_TINY, _CONVNEXT_PIXELS),
    "microsoft/resnet-50": (_RESNET_50, _RESNET_PIXELS),
}
TIMM_MODELS = ("convnext_tiny.in12k", "resnet18.tv_in1k", "vit_tiny_patch16_224.augreg_in21k_ft_in1k")

BEANS = ("angular_leaf_spot", "bean_rust", "healthy")
TRASH = ("cardboard", "glass", "metal", "paper", "plastic", "trash")


def _numbered(what: str, count: int) -> tuple[str, ...]:
    return tuple(f"{what}_{number:03}" for number in range(count))


def _shallow(config: dict[str, Any], depth: int) -> dict[str, Any]:
    """The config with at most so many blocks, in each stage where there are stages."""
    if "depths" in config:
        return {**config, "depths": [min(depth, blocks) for blocks in config["depths"]]}
    return {**config, "num_hidden_layers": min(depth, config["num_hidden_layers"])}


def seed_recipe_repos(root: Path, depth: int | None = None) -> None:
    """Create under `root` every model and dataset that a recipe in `recipes/` names on the Hub.

    `depth`: the most blocks of a model of transformers (the widths stay), for what need not count all of them.
    """
    for name, (config, preprocessor) in MODELS.items():
        model_config(root, name, config if depth is None else _shallow(config, depth), preprocessor)
    for architecture in TIMM_MODELS:
        model_config(root, f"timm/{architecture}", timm_config(architecture), None)
    parquet_dataset(
        root, "AI-Lab-Makerere/beans", {"train": 12, "validation": 4, "test": 4}, BEANS,
        label_columns={"labels": BEANS}, text_columns=("image_file_path",),
    )  # fmt: skip
    parquet_dataset(root, "ethz/food101", {"train": 4, "validation": 2}, _numbered("dish", 101))
    fine = _numbered("class", 100)
    parquet_dataset(
        root, "uoft-cs/cifar100", {"train": 4, "test": 2}, fine,
        image_column="img", label_columns={"fine_label": fine, "coarse_label": _numbered("group", 20)},
    )  # fmt: skip
    breeds = _numbered("breed", 37)
    parquet_dataset(
        root, "timm/oxford-iiit-pet", {"train": 4, "test": 2}, breeds,
        label_columns={"label": breeds, "label_cat_dog": ("cat", "dog")}, text_columns=("image_id",),
    )  # fmt: skip
    flowers = {"train": 3, "validation": 3, "test": 4}
    parquet_dataset(root, "dpdl-benchmark/oxford_flowers102", flowers, _numbered("flower", 102))
    archives = {"dataset-original": (80, 60), "dataset-resized": (40, 30)}
    zipped_dataset(root, "garythung/trashnet", archives, TRASH, per_class=8)
    folder_dataset(root, "delima87/beesvsants", {"train": 8, "val": 5}, ("ants", "bees"), below="imagefolder")


def seed_recipe_folders(folder: Path) -> None:
    """Create below `folder` the local data that three recipes name, as their downloads unpack: run from `folder`."""
    houses = folder / "Houses-dataset"
    class_folders(houses, ("Houses Dataset",), per_class=20)
    names = sorted(path.name for path in (houses / "Houses Dataset").iterdir())
    lines = ["image,price", *(f"{name},{150_000 + 12_345 * number}" for number, name in enumerate(names))]
    (houses / "houses.csv").write_text("\n".join(lines), encoding="utf-8")
    class_folders(folder / "trashnet" / "dataset-resized", TRASH, per_class=10)
    for split, per_class in (("train", 10), ("val", 5)):
        class_folders(folder / "hymenoptera_data" / split, ("ants", "bees"), per_class, first=100 * len(split))
