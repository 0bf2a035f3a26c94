"""The private parts of libraries that we reach into are there, and docs/private-parts.md names each."""

from __future__ import annotations

import ast
import importlib.util
import inspect
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "private-parts.md").read_text(encoding="utf-8")
FILES = sorted((ROOT / "hf_finetune").rglob("*.py"))
# Of the language's own library; the second names a type only.
DOCUMENTED = {"_exit", "_Hash"}


def own_names() -> set[str]:
    """Every underscored name that a class of the package gives itself: methods, attributes and fields."""
    names = set()
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef):
                names |= {part.name for part in node.body if isinstance(part, ast.FunctionDef)}
                fields = [part.target for part in node.body if isinstance(part, ast.AnnAssign)]
                names |= {field.id for field in fields if isinstance(field, ast.Name)}
            elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store) and is_self(node.value):
                names.add(node.attr)
    return names


def is_self(node: ast.expr) -> bool:
    return isinstance(node, ast.Name) and node.id in ("self", "cls")


def reached() -> set[str]:
    """Underscored attributes and modules that are not the package's own, and methods that override such."""
    found, own = set(), own_names()
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Attribute) and (node.attr not in own or is_super(node.value)):
                found.add(node.attr)
            elif isinstance(node, ast.ImportFrom):
                found |= set((node.module or "").split("."))
    return {name for name in found if name.startswith("_") and not name.startswith("__")}


def is_super(node: ast.expr) -> bool:
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "super"


def test_the_page_names_every_private_part_that_the_code_reaches_for() -> None:
    names = reached() - DOCUMENTED
    assert {"_load_best_model", "_clip_grad_norm", "_http", "_n_gpu", "_fingerprint"} <= names
    assert [name for name in sorted(names) if name not in PAGE] == []


@pytest.mark.parametrize(
    "name",
    [
        "_clip_grad_norm",
        "_get_grad_norm",
        "_prepare_inputs",
        "_load_best_model",
        "_save",
        "_issue_warnings_after_load",
    ],
)
def test_the_trainer_has_its_private_methods_and_calls_those_that_are_overridden(name: str) -> None:
    from transformers import Trainer

    assert callable(getattr(Trainer, name))
    assert f"self.{name}(" in inspect.getsource(Trainer)


def test_training_arguments_keep_the_number_of_gpus_where_it_is_set(tmp_path: Path) -> None:
    from transformers import TrainingArguments

    arguments = TrainingArguments(output_dir=str(tmp_path), use_cpu=True)
    arguments._n_gpu = 7
    assert arguments.n_gpu == 7


def test_accelerate_marks_a_model_that_it_has_wrapped() -> None:
    from accelerate import Accelerator

    assert 'getattr(model, "_is_accelerate_prepared", False)' in inspect.getsource(Accelerator)


def test_the_hub_has_its_clients_factory() -> None:
    from huggingface_hub.utils._http import default_client_factory

    client = default_client_factory()
    assert hasattr(client, "timeout")
    client.close()


def test_a_dataset_has_a_fingerprint_and_says_whether_it_is_a_selection() -> None:
    from datasets import Dataset

    whole = Dataset.from_dict({"label": [0, 1, 2]})
    part = whole.select([2, 0])
    assert whole._fingerprint != part._fingerprint
    assert whole._indices is None and part._indices is not None


def test_torch_says_what_runs_in_a_backward_pass_and_what_it_would_save() -> None:
    import torch

    seen: list[int] = []
    weight = torch.ones((), requires_grad=True)
    assert torch._C._current_graph_task_id() == -1
    product = weight * 2
    product.register_hook(lambda _: seen.append(torch._C._current_graph_task_id()))
    product.backward()
    assert len(seen) == 1 and seen[0] >= 0
    assert torch._C._autograd._top_saved_tensors_default_hooks(False) is None
    with torch.autograd.graph.saved_tensors_hooks(lambda each: each, lambda each: each):
        assert torch._C._autograd._top_saved_tensors_default_hooks(False) is not None
    assert "weight" in torch.nn.Linear(1, 1)._parameters


def test_bitsandbytes_has_the_operators_that_are_taken_in_pieces() -> None:
    import bitsandbytes  # noqa: F401  registers them
    import torch
    from torch.utils._python_dispatch import TorchDispatchMode

    assert hasattr(TorchDispatchMode, "__torch_dispatch__")
    assert torch.ops.bitsandbytes.quantize_4bit.default and torch.ops.bitsandbytes.int8_vectorwise_quant.default


def test_bitsandbytes_has_the_module_whose_log_is_filtered() -> None:
    from importlib.metadata import files

    assert any(str(file).endswith("bitsandbytes/autograd/_functions.py") for file in files("bitsandbytes") or ())
    assert importlib.util.find_spec("bitsandbytes") is not None
