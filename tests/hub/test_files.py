"""The allowlist, and the hashes by which the Hub knows a file."""

from __future__ import annotations

import hashlib
import subprocess
from fnmatch import fnmatch
from pathlib import Path

import pytest

from hf_finetune.recipe.recipe import load_recipe
from hf_finetune.result.files import PATTERNS, is_published, local_files

LISTED = [
    "README.md",
    "hf_finetune.json",
    "recipe.yaml",
    "metrics.json",
    "adapter_config.json",
    "adapter_model.safetensors",
    "config.json",
    "preprocessor_config.json",
    "model.safetensors",
    "model-00001-of-00002.safetensors",
    "model.safetensors.index.json",
    "base/config.json",
    "base/model.safetensors",
    "base/preprocessor_config.json",
]


@pytest.mark.parametrize("path", LISTED)
def test_what_belongs_to_a_result_is_published_and_downloaded(path: str) -> None:
    assert is_published(path)
    assert any(fnmatch(path, pattern) for pattern in PATTERNS)


@pytest.mark.parametrize(
    "path",
    [
        "training_args.bin",
        "optimizer.pt",
        "pytorch_model.bin",
        "adapter_model.bin",
        "model.safetensors.bak",
        ".env",
        "held.npz",
        "splits.json",
        "base/README.md",
        "base/base/config.json",
        "checkpoints/config.json",
        "run.json",
        "predictions.csv",
        "report.html",
        "xconfig.json",
        "config.json\n",
    ],
)
def test_nothing_else_is(path: str) -> None:
    assert not is_published(path)


@pytest.mark.e2e
def test_a_files_hashes_are_those_of_git_and_of_lfs(tmp_path: Path) -> None:
    (tmp_path / "base").mkdir()
    (tmp_path / "base" / "config.json").write_bytes(b'{"a": 1}\n')
    (tmp_path / "secret.txt").write_bytes(b"x")
    files = local_files(tmp_path)
    assert list(files) == ["base/config.json"]
    file = files["base/config.json"]
    known = subprocess.run(
        ["git", "hash-object", file.path], capture_output=True, text=True, check=True, cwd=tmp_path
    ).stdout.strip()
    assert (file.size, file.git_oid) == (9, known)
    assert file.sha256 == hashlib.sha256(b'{"a": 1}\n').hexdigest()


@pytest.mark.parametrize("name", ["anna/beans", "beans", "Anna-1/my_model.v2", "a/b"])
def test_a_repo_name_that_the_hub_takes(name: str) -> None:
    assert load_recipe({"hub": {"repo": name}}).hub.repo == name


@pytest.mark.parametrize("name", ["", "a/b/c", "-a/b", "a/b.", "a/b--c", "a/b..c", "a/b.git", "a b", "a/ü", "x" * 97])
def test_a_repo_name_that_it_does_not_take_is_an_error_of_the_recipe(name: str) -> None:
    from hf_finetune.errors import RecipeError

    with pytest.raises(RecipeError, match=r"hub\.repo: .*a Hub repo such as user/name is expected"):
        load_recipe({"hub": {"repo": name}})
