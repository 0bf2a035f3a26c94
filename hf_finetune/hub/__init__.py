"""The Hub: what leaves this machine, how it gets there, and how it is found again."""

from hf_finetune.hub.config import Hub

__all__ = ["Hub"]
