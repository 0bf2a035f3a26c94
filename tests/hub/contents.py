"""Folders to upload: a result's files, small, with content of one's own."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from hf_finetune.report.card_mark import marked

CARD = "---\nlicense: mit\nlibrary_name: peft\n---\n\n# A result, number {}\n"


def write_result(folder: Path, number: int = 0, *, base: bool = False) -> Path:
    """The files of result `number`: no two numbers share a card, a manifest or weights."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "README.md").write_text(marked(CARD.format(number)), encoding="utf-8")
    (folder / "hf_finetune.json").write_text(json.dumps({"number": number}), encoding="utf-8")
    (folder / "config.json").write_text('{"the same": "in all"}', encoding="utf-8")
    weights = {"weight": np.random.default_rng(number).normal(size=2000).astype(np.float32)}
    save_file(weights, folder / "adapter_model.safetensors")
    if base:
        (folder / "base").mkdir(exist_ok=True)
        save_file({"b": np.zeros(10, np.float32)}, folder / "base" / "model.safetensors")
    return folder


def content(folder: Path) -> dict[str, bytes]:
    """Path → bytes of every file in a folder."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
