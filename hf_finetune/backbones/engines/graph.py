"""A frozen network as an OpenVINO graph on the CPU (pip extra `graph`).

The network is traced as it stands, with whatever was changed in its forward pass, and its weights are shared with the
torch model; what OpenVINO lays out anew for its kernels is a second copy of the matrices. OpenVINO is imported without
its reports to its makers.
"""

from __future__ import annotations

import importlib
import sys
import warnings
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from hf_finetune.backbones.engines.eager import Eager
from hf_finetune.backbones.engines.engine import EngineRefusedError, Outputs, reason_of

_HINTS = {"bf16": "bf16", "fp32": "f32"}
_EXAMPLES = 2  # images to trace with; a batch of one would let a network leave its first dimension out


def identity(precision: str) -> str:
    """The engine's part in the name of kept features, at a precision of the plan (bf16, fp32)."""
    try:
        return f"openvino {version('openvino')} {precision}"
    except PackageNotFoundError:
        return f"openvino {precision}"


class Graph:
    """The network of an `Eager`, traced and compiled; gives what that one gives.

    `precision` (bf16, fp32) is what its kernels compute in. Raises EngineRefusedError where it cannot be traced,
    converted or compiled.
    """

    device = torch.device("cpu")

    def __init__(self, eager: Eager, size: tuple[int, int], precision: str) -> None:
        self.name, self.identity = f"OpenVINO in {precision}", identity(precision)
        if precision not in _HINTS:
            raise EngineRefusedError(f"it computes in {' or '.join(_HINTS)}, not in {precision}")
        traced = _Traced(eager)
        try:
            self._run = _compiled(traced, size, _HINTS[precision])
        except Exception as error:
            raise EngineRefusedError(f"the conversion failed ({reason_of(error)})") from error
        self._watches, self._hidden = eager.watch is not None, traced.gives_hidden

    def __call__(self, inputs: Tensor) -> Outputs:
        """float32 [B, 3, H, W] on the CPU."""
        found = self._run([inputs.contiguous().numpy()], share_inputs=True)
        parts = [torch.from_numpy(np.array(found[number])) for number in range(1 + self._watches + self._hidden)]
        return Outputs(parts[0], parts[1] if self._watches else None, parts[2] if self._hidden else None)


class _Traced(nn.Module):
    """The network as a function of pixels alone: logits, features and hidden state side by side."""

    def __init__(self, eager: Eager) -> None:
        super().__init__()
        self.network, self._eager = eager.model, [eager]
        self.gives_hidden = False

    def forward(self, pixels: Tensor) -> tuple[Tensor, ...]:
        (eager,) = self._eager
        found = eager(pixels)
        outputs = [found.logits]
        if found.features is not None:
            outputs.append(found.features)
        if found.hidden is not None:
            outputs.append(found.hidden.float())
        self.gives_hidden = found.hidden is not None
        return tuple(outputs)


def import_openvino() -> Any:
    """The package. Importing version 2026.4 as it stands sends an event with a lasting number of this user to an
    analytics service; without its package for that, of which it has a stand-in, it sends nothing. A program that has
    imported OpenVINO before has decided for itself."""
    reports = "openvino_telemetry"
    hidden = "openvino" not in sys.modules and reports not in sys.modules
    if hidden:
        sys.modules[reports] = None  # pyright: ignore[reportArgumentType]  Python's own mark for "not to be imported"
    try:
        return importlib.import_module("openvino")
    finally:
        if hidden:
            del sys.modules[reports]


def _compiled(traced: _Traced, size: tuple[int, int], hint: str) -> Any:
    """The compiled model; the batch stays open."""
    openvino = import_openvino()
    from openvino.frontend import FrontEndManager  # pyright: ignore[reportMissingImports]
    from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder  # pyright: ignore[reportMissingImports]

    eager = traced._eager[0]
    computed_in, eager.autocast = eager.autocast, None  # the hint says it; a traced autocast would be casts
    try:
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # tracing is deprecated, and shapes that it takes for constants are checked
            decoder = TorchScriptPythonDecoder(
                traced.eval(), example_input=torch.zeros(_EXAMPLES, 3, *size), trace_kwargs={"check_trace": False}
            )
            frontend = FrontEndManager().load_by_framework("pytorch")
            network = frontend.convert(frontend.load(decoder))
    finally:
        eager.autocast = computed_in
    network.reshape([-1, 3, *size])
    settings = {
        "INFERENCE_PRECISION_HINT": hint,
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
    }
    return openvino.Core().compile_model(network, "CPU", settings)
