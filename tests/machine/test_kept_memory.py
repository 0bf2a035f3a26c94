"""What a batch frees on a CPU stays with the process, whichever way a model came into it."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.photos import train_probe, write_photos_and_table

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="a switch of glibc's allocator"),
]
# Page faults of writing 48 MB, which are freed and taken again, five times, before and after what the program says.
FAULTS = """
import resource, sys
import torch

def faults():
    torch.empty(12_000_000).fill_(1.0)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(5):
        torch.empty(12_000_000).fill_(1.0)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

before = faults()
{what}
print("faults", before, faults())
"""
WAYS = {
    "load": "import hf_finetune; hf_finetune.load(sys.argv[1])",
    "evaluate": "from hf_finetune.cli import main; "
    "assert main(['evaluate', sys.argv[1], '--split', 'validation']) == 0",
    "doctor": "from hf_finetune.cli import main; "
    "assert main(['doctor', sys.argv[2], 'model.name=builtin:starter', '--out', sys.argv[3]]) == 0",
}


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_photos_and_table(tmp_path_factory.mktemp("photos"))


@pytest.fixture(scope="module")
def trained(table: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train_probe(table, tmp_path_factory.mktemp("run") / "run")


@pytest.mark.parametrize("way", WAYS)
def test_the_next_batch_takes_no_new_pages(way: str, table: Path, trained: Path, tmp_path: Path) -> None:
    program = FAULTS.format(what=WAYS[way])
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "", "HF_FINETUNE_CACHE": str(tmp_path / "cache")}
    arguments = [str(trained), str(table), str(tmp_path / "out")]
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program, *arguments],
        check=True, capture_output=True, text=True, env=environment,
    )  # fmt: skip
    before, after = map(int, done.stdout.splitlines()[-1].split()[1:])
    assert before > 1_000 or "[always]" in Path("/sys/kernel/mm/transparent_hugepage/enabled").read_text("utf-8")
    assert after < before / 2  # the heap may have grown once more
