"""The built-in backbone `builtin:starter`: where its files lie, and how it was made. Light to import."""

from __future__ import annotations

from pathlib import Path


def starter_dir() -> Path:
    """The folder with config.json, model.safetensors, preprocessor_config.json and SETTINGS.json."""
    return Path(__file__).parent / "weights"
