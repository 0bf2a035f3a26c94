"""What every section of a recipe is made of: the strict base class and the types of values that carry units.

Light: standard library and pydantic only.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, PlainSerializer, WithJsonSchema

from hf_finetune.units import parse_bytes, parse_seconds


class Section(BaseModel):
    """A section of the recipe: frozen, and a key it does not know is an error."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        protected_namespaces=(),
        allow_inf_nan=False,
        validate_default=True,
        serialize_by_alias=True,  # a dumped section reads back: `from` is a key, but no name in Python
    )


# A dumped value carries its unit again, so that a resolved recipe can be read back.
Bytes = Annotated[
    int,
    BeforeValidator(parse_bytes),
    PlainSerializer(lambda count: f"{count}B", when_used="unless-none"),
    WithJsonSchema({"type": ["string", "integer"], "examples": ["4GB", "512MiB"]}),
]
Seconds = Annotated[
    float,
    BeforeValidator(parse_seconds),
    PlainSerializer(lambda seconds: f"{seconds:g}s", when_used="unless-none"),
    WithJsonSchema({"type": ["string", "integer"], "examples": ["150s", "2m"]}),
]
