"""A processor that brings code of its own is refused; nobody is asked, and nothing of it runs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

CODE = """
from pathlib import Path
from transformers import ViTImageProcessor
Path({marker!r}).touch()
class Mine(ViTImageProcessor): pass
"""


@pytest.mark.e2e
@pytest.mark.skipif(os.name == "nt", reason="a pseudo terminal is POSIX's")
def test_a_processor_with_code_of_its_own_is_refused_at_a_terminal_too(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(CODE.format(marker=str(tmp_path / "ran")))  # transformers would copy it
    about = {"image_processor_type": "Mine", "auto_map": {"AutoImageProcessor": "mine.Mine"}}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(about))
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "vit"}))
    program = (
        "import sys\nfrom hf_finetune.preprocess.stock import stock_processor\n"
        "from hf_finetune.errors import ModelError\n"
        "try: stock_processor(sys.argv[1], None)\nexcept ModelError as error: print(error)"
    )
    ours, theirs = os.openpty()
    os.write(ours, b"y\n" * 3)  # whoever asks is told yes
    found = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)], stdin=theirs, capture_output=True, text=True, timeout=120
    )
    os.close(ours)
    os.close(theirs)
    assert "needs code from its own repository, which is never run here" in found.stdout, found.stderr
    assert "[y/N]" not in found.stdout + found.stderr
    assert not (tmp_path / "ran").exists()
