"""What int8 and nf4 share: the refusals, and how the head is kept out of both."""

from __future__ import annotations

import re

from hf_finetune.errors import MachineError, ModelError
from hf_finetune.types import BackboneFacts, Machine


def check_quantizable(kind: str, facts: BackboneFacts, machine: Machine) -> None:
    """Raise ModelError where bitsandbytes would convert nothing, MachineError on a device that it does not serve."""
    if facts.quantizable_parameters == 0:
        most = ", ".join(list(facts.parameters_by_type)[:3])
        raise ModelError(
            f"quantization.kind: {kind} converts Linear layers only, and {facts.name!r} ({facts.architecture}) "
            f"has none outside its head; its weights are in {most}",
            "set quantization.kind=none",
        )
    if machine.device == "mps":
        raise MachineError(f"quantization.kind: {kind} has no backend for mps", "set quantization.kind=none")


def skip_patterns(head: tuple[str, ...]) -> list[str]:
    """The head's names as transformers matches them: as a regular expression from the start, or as an ending."""
    return [re.escape(name) for name in head]
