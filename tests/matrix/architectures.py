"""The architectures of the matrix, each small enough to build in milliseconds, as folders of random weights.

Every image classifier of transformers' Auto mapping is in TRANSFORMERS or in LEFT_OUT; TIMM is a sample of families.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

# ruff: noqa: E501  one architecture a line
# model type -> (image side in pixels, config arguments)
_TOKENS = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
_SMALL = {"image_size": 32, "patch_size": 8}
TRANSFORMERS: dict[str, tuple[int, dict[str, Any]]] = {
    "beit": (32, {**_TOKENS, **_SMALL, "use_relative_position_bias": True, "out_indices": [0, 1]}),
    "clip": (32, {"vision_config": {**_TOKENS, **_SMALL}, "text_config": {**_TOKENS, "vocab_size": 64}}),
    "convnext": (64, {"hidden_sizes": [16, 32, 48, 64], "depths": [1, 1, 2, 1]}),
    "convnextv2": (64, {"hidden_sizes": [16, 32, 48, 64], "depths": [1, 1, 2, 1]}),
    "cvt": (64, {"embed_dim": [16, 32, 64], "num_heads": [1, 2, 4], "depth": [1, 2, 3]}),
    "data2vec-vision": (32, {**_TOKENS, **_SMALL, "out_indices": [0, 1]}),
    "deit": (32, {**_TOKENS, **_SMALL}),
    "dinov2": (32, {**_TOKENS, **_SMALL}),
    "dinov2_with_registers": (32, {**_TOKENS, **_SMALL}),
    "donut-swin": (64, {"image_size": 64, "patch_size": 4, "embed_dim": 16, "depths": [1, 2], "num_heads": [1, 2], "window_size": 4}),
    "efficientnet": (64, {"image_size": 64, "width_coefficient": 0.25, "depth_coefficient": 0.25, "hidden_dim": 320}),
    "focalnet": (64, {"image_size": 64, "embed_dim": 16, "depths": [1, 2], "hidden_sizes": [16, 32], "focal_levels": [2, 2], "focal_windows": [3, 3]}),
    "hgnet_v2": (64, {}),
    "hiera": (64, {"image_size": [64, 64], "embed_dim": 16, "depths": [1, 1, 2, 1], "num_heads": [1, 2, 4, 8]}),
    "ijepa": (32, {**_TOKENS, **_SMALL}),
    "levit": (64, {"image_size": 64, "hidden_sizes": [32, 48, 64], "num_attention_heads": [2, 2, 2], "depths": [1, 1, 1], "key_dim": [8, 8, 8]}),
    "metaclip_2": (32, {"vision_config": {**_TOKENS, **_SMALL}, "text_config": {**_TOKENS, "vocab_size": 64, "bos_token_id": 0, "eos_token_id": 1}}),
    "mobilenet_v1": (64, {"image_size": 64, "depth_multiplier": 0.25, "tf_padding": False}),
    "mobilenet_v2": (64, {"image_size": 64, "depth_multiplier": 0.25, "tf_padding": False}),
    "mobilevit": (128, {"image_size": 128, "hidden_sizes": [16, 24, 32], "neck_hidden_sizes": [8, 16, 16, 24, 32, 32, 64], "num_attention_heads": 2}),
    "mobilevitv2": (64, {"image_size": 64, "width_multiplier": 0.5}),
    "perceiver": (16, {"image_size": 16, "num_latents": 8, "d_latents": 32, "num_cross_attention_heads": 1, "num_self_attention_heads": 2, "num_self_attends_per_block": 2}),
    "poolformer": (64, {"hidden_sizes": [16, 24, 32, 48], "depths": [1, 1, 1, 1]}),
    "pvt": (64, {"image_size": 64, "hidden_sizes": [16, 32, 32, 64], "depths": [1, 1, 1, 1], "num_attention_heads": [1, 2, 2, 4]}),
    "pvt_v2": (64, {"image_size": 64, "hidden_sizes": [16, 32, 32, 64], "depths": [1, 1, 1, 1], "num_attention_heads": [1, 2, 2, 4]}),
    "regnet": (64, {"embedding_size": 16, "hidden_sizes": [16, 32, 32, 64], "depths": [1, 1, 2, 1], "groups_width": 8}),
    "resnet": (64, {"embedding_size": 16, "hidden_sizes": [16, 32, 32, 64], "depths": [1, 1, 2, 1]}),
    "segformer": (64, {"image_size": 64, "hidden_sizes": [16, 32, 32, 64], "depths": [1, 1, 1, 1], "num_attention_heads": [1, 2, 2, 4]}),
    "siglip": (32, {"vision_config": {**_TOKENS, **_SMALL}, "text_config": {**_TOKENS, "vocab_size": 64, "projection_size": 32}}),
    "swiftformer": (64, {"image_size": 64, "embed_dims": [16, 24, 32, 48], "depths": [1, 1, 1, 1]}),
    "swin": (64, {"image_size": 64, "patch_size": 4, "embed_dim": 16, "depths": [1, 2], "num_heads": [1, 2], "window_size": 4}),
    "swinv2": (64, {"image_size": 64, "patch_size": 4, "embed_dim": 16, "depths": [1, 2], "num_heads": [1, 2], "window_size": 4}),
    "textnet": (64, {}),
    "vit": (32, {**_TOKENS, **_SMALL}),
    "vit_msn": (32, {**_TOKENS, **_SMALL}),
}  # fmt: skip

# Members of the Auto mapping that are refused, or cannot be built here; tests/backbones pins the refusals.
# Refused for LoRA with the reason, adapted head-only.
HEAD_ONLY: dict[str, tuple[int, dict[str, Any], str]] = {
    "bit": (
        64,
        {"embedding_size": 32, "hidden_sizes": [32, 64], "depths": [1, 1], "num_groups": 8},
        "WeightStandardizedConv2d changes its weight or its input in forward",
    ),
    "mobilenet_v1": (
        64,
        {"image_size": 64, "depth_multiplier": 0.25, "tf_padding": True},
        "the network reads its kernel_size, stride, which PEFT's wrapper does not pass on",
    ),
    "mobilenet_v2": (
        64,
        {"image_size": 64, "depth_multiplier": 0.25, "tf_padding": True},
        "the network reads its dilation, kernel_size, stride, which PEFT's wrapper does not pass on",
    ),
}

LEFT_OUT = {
    "bit": "every convolution standardises its weight, so LoRA is refused: see HEAD_ONLY",
    "dinat": "needs the natten library, which is not installed with this project",
    "imagegpt": "takes input_ids (colour clusters), not pixel_values",
    "pp_lcnet": "returns its class probabilities as last_hidden_state, without logits",
    "shieldgemma2": "judges an image against policies written as text",
    "siglip2": "takes pixel_values as patches [B, N, 3·p²], with their mask and shapes",
    "timm_wrapper": "is timm, sampled below",
}

_VIT = {"img_size": 32, "patch_size": 8, "embed_dim": 32, "depth": 2, "num_heads": 2}
# name -> (image side in pixels, arguments of timm.create_model)
TIMM: dict[str, tuple[int, dict[str, Any]]] = {
    "test_vit": (160, {}),
    "test_resnet": (96, {}),
    "test_convnext": (96, {}),
    "test_efficientnet": (96, {}),
    "vit_tiny_patch16_224": (32, _VIT),
    "vit_base_patch16_siglip_224": (32, _VIT),
    "vit_base_patch16_clip_224": (32, _VIT),
    "vit_small_patch14_dinov2": (32, _VIT),
    "vit_small_patch16_dinov3": (32, _VIT),
    "deit_tiny_distilled_patch16_224": (32, _VIT),
    "deit3_small_patch16_224": (32, _VIT),
    "beit_base_patch16_224": (32, _VIT),
    "eva02_tiny_patch14_224": (32, _VIT),
    "swin_tiny_patch4_window7_224": (64, {"img_size": 64, "window_size": 4, "embed_dim": 16, "depths": (1, 2), "num_heads": (1, 2)}),
    "swinv2_tiny_window8_256": (64, {"img_size": 64, "window_size": 4, "embed_dim": 16, "depths": (1, 2), "num_heads": (1, 2)}),
    "convnext_atto": (64, {"dims": (16, 24, 32, 48), "depths": (1, 1, 2, 1)}),
    "convnextv2_atto": (64, {"dims": (16, 24, 32, 48), "depths": (1, 1, 2, 1)}),
    "resnet18": (64, {"channels": (8, 16, 32, 64)}),
    "resnext26ts": (64, {}),
    "seresnet18": (64, {"channels": (8, 16, 32, 64)}),
    "resnetv2_50": (64, {"channels": (32, 64, 64, 128), "layers": (1, 1, 1, 1)}),
    "regnetx_002": (64, {}),
    "regnety_002": (64, {}),
    "efficientnet_b0": (64, {}),
    "efficientnet_lite0": (64, {}),
    "tf_efficientnetv2_b0": (64, {}),
    "mobilenetv2_035": (64, {}),
    "mobilenetv3_small_050": (64, {}),
    "mobilenetv4_conv_small_035": (64, {}),
    "mobilevit_xxs": (64, {}),
    "mobilevitv2_050": (64, {}),
    "levit_128s": (64, {"img_size": 64, "embed_dim": (32, 48, 64), "num_heads": (2, 2, 2), "depth": (1, 1, 1), "key_dim": 8}),
    "efficientvit_b0": (64, {}),
    "efficientvit_m0": (128, {"img_size": 128}),
    "poolformer_s12": (64, {}),
    "poolformerv2_s12": (64, {}),
    "coatnet_pico_rw_224": (64, {"img_size": 64}),
    "maxvit_pico_rw_256": (64, {"img_size": 64}),
    "coat_lite_tiny": (64, {"img_size": 64}),
    "mixer_s32_224": (64, {"img_size": 64}),
    "resmlp_12_224": (64, {"img_size": 64}),
    "gmlp_ti16_224": (64, {"img_size": 64}),
    "xcit_nano_12_p16_224": (32, _VIT),
    "pvt_v2_b0": (64, {"depths": (1, 1, 1, 1)}),
    "cait_xxs24_224": (32, _VIT),
    "twins_svt_small": (64, {"img_size": 64, "embed_dims": (16, 32, 32, 64), "depths": (1, 1, 2, 1), "num_heads": (1, 2, 2, 4)}),
    "davit_tiny": (64, {"depths": (1, 1), "embed_dims": (16, 32), "num_heads": (1, 2)}),
    "fastvit_t8": (64, {}),
    "repvit_m0_9": (64, {"embed_dim": (16, 24, 32, 48), "depth": (1, 1, 2, 1)}),
    "repvgg_a0": (64, {}),
    "densenet121": (64, {"growth_rate": 8, "block_config": (2, 2, 2, 2)}),
    "vgg11_bn": (32, {"mlp_ratio": 0.01}),
    "inception_v3": (96, {}),
    "ghostnet_050": (64, {}),
    "hgnetv2_b0": (64, {}),
    "dla46x_c": (64, {}),
    "dpn48b": (64, {}),
    "edgenext_xx_small": (64, {"dims": (16, 24, 32, 48), "depths": (1, 1, 2, 1)}),
    "gcvit_xxtiny": (64, {"img_size": 64}),
    "hiera_tiny_224": (64, {"img_size": (64, 64), "embed_dim": 16, "stages": (1, 1, 2, 1)}),
    "nfnet_l0": (64, {}),
    "tiny_vit_5m_224": (64, {"embed_dims": (16, 32, 32, 64), "depths": (1, 1, 1, 1), "num_heads": (1, 1, 2, 2), "window_sizes": (7, 7, 14, 7)}),
    "starnet_s050": (64, {}),
    "visformer_tiny": (64, {"img_size": 64}),
}  # fmt: skip


def write_transformers(kind: str, folder: Path, num_labels: int, head_only: bool = False) -> torch.nn.Module:
    """Save a random checkpoint of one model type, with a preprocessor that squashes to its input size; gives the model."""
    from transformers import AutoConfig, AutoModelForImageClassification
    from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES as MAPPING

    side, arguments = HEAD_ONLY[kind][:2] if head_only else TRANSFORMERS[kind]
    config = AutoConfig.for_model(kind, **arguments)
    config.num_labels = num_labels
    classes = MAPPING[kind]
    if isinstance(classes, tuple):
        config.architectures = [classes[0]]
    torch.manual_seed(0)
    model = AutoModelForImageClassification.from_config(config)
    stir(model, side)
    model.save_pretrained(folder)
    about = {"image_processor_type": "ViTImageProcessor", "size": {"height": side, "width": side}, "do_resize": True}
    (folder / "preprocessor_config.json").write_text(json.dumps(about))
    return model


def write_timm(name: str, folder: Path, num_labels: int) -> torch.nn.Module:
    """Save a random checkpoint of one timm model as timm itself does; gives the model."""
    import timm
    from safetensors.torch import save_file

    side, arguments = TIMM[name]
    folder.mkdir()
    torch.manual_seed(0)
    model = timm.create_model(name, num_classes=num_labels, **arguments)
    stir(model, side)
    # By hand, not with save_for_hf: that refuses weights which two modules share (CoaT; Hub checkpoints hold them twice),
    # and repeats num_classes in model_args, which stock transformers 5.23 then passes twice.
    about = {
        "architecture": name,
        "num_classes": num_labels,
        "num_features": model.num_features,
        "pretrained_cfg": {"input_size": (3, side, side), "mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)},
        "model_args": arguments,
    }
    (folder / "config.json").write_text(json.dumps(about))
    tensors = {name: tensor.clone().contiguous() for name, tensor in model.state_dict().items()}
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    return model


def stir(model: torch.nn.Module, side: int) -> None:
    """Give every weight a value that gradients can be seen through, and running statistics that fit them."""
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, (torch.nn.Linear, torch.nn.Conv2d)):
                torch.nn.init.kaiming_normal_(module.weight)  # transformers' 0.02 fades away in a deep network
        for weight in model.parameters():
            if weight.ndim <= 1 or not weight.any():
                weight.add_(0.2 * torch.randn_like(weight))
        for module in model.modules():
            if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
                module.momentum = 0.7
        model.train()
        for _ in range(3):
            model(torch.randn(8, 3, side, side))
    model.eval()


# Not asked for at every change, but by `make test-slow`: relatives of those that are, and the rarely trained.
_RARE = """
cvt data2vec-vision donut-swin focalnet hgnet_v2 ijepa metaclip_2 mobilenet_v1 mobilevit mobilevitv2 perceiver
poolformer pvt swiftformer textnet vit_msn resnext26ts seresnet18 resnetv2_50 regnetx_002 efficientnet_lite0
tf_efficientnetv2_b0 mobilevit_xxs mobilevitv2_050 efficientvit_m0 poolformer_s12 poolformerv2_s12
coatnet_pico_rw_224 maxvit_pico_rw_256 coat_lite_tiny resmlp_12_224 gmlp_ti16_224 xcit_nano_12_p16_224
cait_xxs24_224 twins_svt_small davit_tiny fastvit_t8 repvit_m0_9 repvgg_a0 vgg11_bn inception_v3 ghostnet_050
hgnetv2_b0 dpn48b edgenext_xx_small gcvit_xxtiny nfnet_l0 tiny_vit_5m_224 starnet_s050 visformer_tiny
"""
RARE = frozenset(_RARE.split())
EVERY = [("transformers", kind) for kind in TRANSFORMERS] + [("timm", name) for name in TIMM]


def every_architecture() -> list[Any]:
    """(library, name) of each as a test's parameter, the rare ones marked slow."""
    marks = {True: [pytest.mark.slow], False: []}
    return [pytest.param((library, name), id=f"{library}-{name}", marks=marks[name in RARE]) for library, name in EVERY]
