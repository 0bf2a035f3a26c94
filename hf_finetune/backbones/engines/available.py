"""Whether a graph engine can be had for a run. Light: imports neither torch nor the engine."""

from __future__ import annotations

from importlib.util import find_spec

EXTRA = "pip install 'hf_finetune[graph]'"


def unavailable(device: str, processes: int, quantization: str) -> str | None:
    """Why no graph can be had for such a run, before anything is loaded; None where it may."""
    if device != "cpu":
        return f"OpenVINO runs on the CPU here, and this run is on {device}"
    if processes > 1:
        return f"{processes} processes share the images, and a graph takes all cores"
    if quantization != "none":
        return f"the kernels of {quantization} layers cannot be put into a graph"
    if find_spec("openvino") is None:
        return f"OpenVINO is not installed ({EXTRA})"
    return None
