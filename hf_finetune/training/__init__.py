"""Training: a Plan becomes TrainingArguments and runs through the HF Trainer."""

from hf_finetune.training.config import Budget, Train

__all__ = ["Budget", "Train"]
