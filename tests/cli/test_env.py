"""`env`: what is pasted in public says nothing private, and names one command."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

Cli = Callable[..., tuple[int, str, str]]


def test_env_names_machine_versions_and_what_is_next_and_no_path_or_token(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_notARealTokenAtAll")
    monkeypatch.chdir(tmp_path)
    code, out, _ = cli("env")
    assert code == 0
    assert all(name in out for name in ("torch", "transformers", "cores", "bf16", "cache", "there, not tried"))
    assert str(Path.home()) not in out and "hf_notARealTokenAtAll" not in out
    assert out.splitlines()[-1].split(maxsplit=1) == ["next", "hf-finetune train quickstart"]
    (tmp_path / "runs").mkdir()
    assert cli("env")[1].splitlines()[-1].split(maxsplit=1) == ["next", "hf-finetune train photos/"]
