"""Tasks: what is predicted, its loss and its metrics."""

from hf_finetune.tasks.classification import Classification

Task = Classification

__all__ = ["Classification", "Task"]
