"""Recipe files for whole runs that take seconds."""

from __future__ import annotations

from pathlib import Path


def write_recipe(folder: Path, *, model: Path, data: Path, epochs: int, learning_rate: float) -> Path:
    """folder/recipe.yaml: `model` on `data`, in batches of 16, scored twice; the run goes to folder/run."""
    path = folder / "recipe.yaml"
    path.write_text(
        f"model: {{name: {model}}}\ndata: {{name: {data}, validation_share: 0.2}}\n"
        f"train: {{epochs: {epochs}, effective_batch_size: 16, learning_rate: {learning_rate}, evaluations: 2, "
        "decode_workers: 1}\n"
        f"output: {{dir: {folder / 'run'}}}\n",
        encoding="utf-8",
    )
    return path
