"""The recipe's `model` section."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from hf_finetune.section import Section

# YAML reads a bare `off` as false.
Stream = Annotated[
    Literal["auto", "off", "host", "disk"], BeforeValidator(lambda told: "off" if told is False else told)
]


class Model(Section):
    """Which pretrained backbone to start from, and what runs it while it is frozen."""

    name: str = Field(
        default="builtin:starter",
        min_length=1,
        description="Hub id (timm/… or any transformers image classifier), a local folder, or builtin:starter",
    )
    revision: str | None = Field(default=None, description="Hub branch, tag or commit; null is the default branch")
    stream: Stream = Field(
        default="auto",
        description="where frozen weights stay until their block is used: host (the host's memory, for a GPU), disk "
        "(mapped files), off (the training device's memory); auto: off, unless they would fill half of that",
    )
    engine: Literal["auto", "eager", "graph", "int8"] = Field(
        default="auto",
        description="What runs the frozen backbone: eager is the torch model, graph OpenVINO (pip extra graph; on CPUs,"
        " without quantization), int8 the quantized layers' own integer arithmetic (quantization.kind int8); auto the"
        " faster one that gives the same features, measured on the run's images",
    )
