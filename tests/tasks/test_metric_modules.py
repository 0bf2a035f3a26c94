"""The metric modules through `evaluate` itself, in processes of their own."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from hf_finetune.tasks.metrics import METRICS, load, path_of

pytestmark = pytest.mark.e2e

REPO = Path(__file__).resolve().parents[2]

THROUGH_EVALUATE = """
import warnings
warnings.simplefilter("error")
import evaluate
from hf_finetune.tasks.metrics import path_of

predictions, references = [0, 2, 1, 1], [0, 1, 1, 2]
rows = {"predictions": predictions, "references": references}
print(evaluate.load(str(path_of("accuracy"))).compute(**rows))
print(evaluate.load(str(path_of("macro_f1"))).compute(**rows))
print(evaluate.load(str(path_of("per_class"))).compute(**rows, num_classes=4)["support"])
print(evaluate.load(str(path_of("confusion_matrix"))).compute(**rows, num_classes=3))
print(evaluate.load(str(path_of("calibration_error"))).compute(**rows, confidences=[1.0, 1.0, 1.0, 1.0]))
top = evaluate.load(str(path_of("top_k")))
top.add_batch(predictions=[[0, 1], [2, 1]], references=[0, 1])
top.add_batch(predictions=[[1, 2], [1, 0]], references=[1, 2])
print(top.compute(k=2))
"""

DIRECTLY = """
import os, warnings
warnings.simplefilter("error")
from hf_finetune.tasks.metrics import load
for _ in range(20):
    print(load("accuracy").compute(predictions=[0, 1, int(os.environ["WRONG"])], references=[0, 1, 1]))
"""


def start(code: str, home: Path, **variables: str) -> subprocess.Popen[str]:
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HOME": str(home), "HF_HOME": str(home), **variables}
    return subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=REPO,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_evaluate_loads_every_module_by_path_offline(tmp_path: Path) -> None:
    process = start(THROUGH_EVALUATE, tmp_path)
    output, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors
    assert output.splitlines() == [
        "{'accuracy': 0.5}",
        "{'macro_f1': 0.5}",
        "[1, 2, 1, 0]",
        "{'confusion_matrix': [[1, 0, 0], [0, 1, 1], [0, 1, 0]]}",
        "{'calibration_error': 0.5}",
        "{'top_k': 0.75}",
    ]


def test_two_processes_at_once_do_not_collide_and_leave_nothing_in_a_shared_home(tmp_path: Path) -> None:
    tmp_path.chmod(stat.S_IRUSR | stat.S_IXUSR)  # root may write all the same: hence the look at what is left
    processes = [start(DIRECTLY, tmp_path, WRONG=str(label)) for label in (0, 1)]
    outputs = [process.communicate(timeout=300) for process in processes]
    tmp_path.chmod(stat.S_IRWXU)
    for (output, errors), process, accuracy in zip(outputs, processes, (2 / 3, 1.0), strict=True):
        assert process.returncode == 0, errors
        assert output.splitlines() == [str({"accuracy": accuracy})] * 20
    assert list(tmp_path.rglob("*")) == []


def test_the_folders_modules_and_the_table_of_metrics_are_the_same_set() -> None:
    folder = path_of("accuracy").parent
    assert {path.stem for path in folder.glob("*.py")} - {"__init__"} == set(METRICS)
    assert all(load(name).name == name for name in METRICS)


def test_top_k_refuses_a_k_beyond_the_given_predictions() -> None:
    with pytest.raises(ValueError, match="k from 1 to the 2 predictions of a row is expected, got 3"):
        load("top_k").compute(predictions=[[0, 1]], references=[1], k=3)


def test_confidences_keep_double_precision_through_evaluate() -> None:
    confidence = 1 / 3 + 1e-12
    result = load("calibration_error").compute(predictions=[0], references=[0], confidences=np.array([confidence]))
    assert result == {"calibration_error": 1 - confidence}


def test_importing_the_task_section_and_the_table_of_metrics_imports_nothing_heavy() -> None:
    code = (
        "import sys, hf_finetune.tasks, hf_finetune.tasks.metrics, hf_finetune.tasks.scoring; "
        "print({'torch', 'transformers', 'evaluate', 'datasets', 'sklearn'} & set(sys.modules))"
    )
    result = subprocess.run([sys.executable, "-c", code], cwd=REPO, capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "set()"
