"""Backbones: which pretrained model, what is known of it, how it is loaded."""

from hf_finetune.backbones.config import Model

__all__ = ["Model"]
