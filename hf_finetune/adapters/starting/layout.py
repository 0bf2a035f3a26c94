"""Where each tensor of a saved LoRA adapter belongs on this backbone, and that none is missing or left over.

Former names of modules are translated by a table that is given. What the files hold is saved.py's, whether a recipe
fits start.py's.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from hf_finetune.adapters.starting.fetch import Fetched
from hf_finetune.adapters.starting.saved import incomplete, read_config, read_shapes
from hf_finetune.errors import AdapterError
from hf_finetune.types import BackboneFacts

if TYPE_CHECKING:
    from peft import LoraConfig

PREFIX = "base_model.model."
_PARTS = re.compile(r"(?P<module>.+)\.(?P<part>lora_A\.weight|lora_B\.weight|lora_magnitude_vector(\.weight)?)$")


class Names(Protocol):
    """Translates full names of modules from and to those of former versions."""

    def now(self, former: str, /) -> str: ...
    def formerly(self, name: str, /) -> str: ...


@dataclass(frozen=True)
class Layout:
    """`targets`: exact names in the network's order; `low_rank` and `head`: key in the file → key on this backbone.

    Keys are as `get_peft_model_state_dict` writes them; `head_parameters` counts the head's numbers; `base` is what the
    adapter calls its base.
    """

    rank: int
    alpha: float
    rslora: bool
    dora: bool
    targets: tuple[str, ...]
    low_rank: Mapping[str, str]
    head: Mapping[str, str]
    head_parameters: int
    base: str | None


def read_layout(fetched: Fetched, facts: BackboneFacts, names: Names) -> Layout:
    """Raises AdapterError for what is no plain LoRA, is incomplete, or has no place in the backbone."""
    config = read_config(fetched)
    shapes = read_shapes(fetched)
    here = _Here(fetched.name, facts, names)
    low_rank: dict[str, str] = {}
    head: dict[str, str] = {}
    found: dict[str, dict[str, tuple[int, ...]]] = {}
    unknown = []
    for key, shape in shapes.items():
        match = _PARTS.match(key.removeprefix(PREFIX))
        if match is not None and (module := here.module(match["module"])) is not None:
            low_rank[key] = f"{PREFIX}{module}.{match['part']}"
            found.setdefault(module, {})[match["part"].removesuffix(".weight")] = shape
        elif match is None and (name := here.of_head(key.removeprefix(PREFIX))) is not None:
            head[key] = f"{PREFIX}{name}"
        else:
            unknown.append(key)
    if unknown:
        raise incomplete(fetched.name, "holds, with no place here,", unknown)
    here.check(config, found)
    return Layout(
        rank=config.r,
        alpha=config.lora_alpha,
        rslora=config.use_rslora,
        dora=config.use_dora,
        targets=tuple(name for name in facts.module_shapes if name in found),
        low_rank=low_rank,
        head=head,
        head_parameters=sum(math.prod(shapes[key]) for key in head),
        base=config.base_model_name_or_path,
    )


class _Here:
    """The backbone's side: which of its modules a name in the file means, and whether all of them are there."""

    def __init__(self, adapter: str, facts: BackboneFacts, names: Names) -> None:
        self._adapter, self._facts, self._names = adapter, facts, names
        self._renamed = False

    def module(self, written: str) -> str | None:
        """The module that a low-rank factor belongs to; AdapterError for one that is not adapted here."""
        facts = self._facts
        for name in (written, self._names.now(written)):
            if name in facts.module_shapes:
                self._renamed |= name != written
                return name
            reason = facts.excluded.get(name)
            if any(name == each or name.startswith(f"{each}.") for each in facts.head):
                reason = "it is the head, which is always trained in full"
            if reason is not None:
                raise AdapterError(
                    f"adapter.from: {self._adapter!r} adapts {name} of {facts.name!r}, which cannot be adapted: "
                    f"{reason}",
                    "give an adapter without it",
                )
        return None

    def of_head(self, written: str) -> str | None:
        """The head's weight that a tensor in full stands for."""
        module, _, leaf = written.rpartition(".")
        for name in (module, self._names.now(module)):
            if any(name == each or name.startswith(f"{each}.") for each in self._facts.head):
                return f"{name}.{leaf}"
        return None

    def check(self, config: LoraConfig, found: Mapping[str, Mapping[str, tuple[int, ...]]]) -> None:
        """Raise AdapterError unless every module that the config names has all of its factors, of the right shape."""
        named = {name for name in self._facts.module_shapes if self._is_named(config, name)}
        parts = ["lora_A", "lora_B", *(["lora_magnitude_vector"] if config.use_dora else [])]
        missing = [
            f"{name}.{part}" for name in named | found.keys() for part in parts if part not in found.get(name, {})
        ]
        if missing:
            raise incomplete(self._adapter, "lacks", missing)
        if more := [f"{name}.lora_A" for name in found if name not in named]:
            raise incomplete(self._adapter, "holds, although its target_modules do not name them,", more)
        if not found:
            raise incomplete(self._adapter, "lacks", ["all low-rank factors"])
        for name, (wide, out) in self._facts.module_shapes.items():
            if name not in found:
                continue
            a, b = found[name]["lora_A"], found[name]["lora_B"]
            if (a[0], math.prod(a[1:]), b[0], math.prod(b[1:])) != (config.r, wide, out, config.r):
                raise AdapterError(
                    f"adapter.from: {self._adapter!r} has factors {list(a)} and {list(b)} for {name}, but rank "
                    f"{config.r} on {self._facts.name!r} takes [{config.r}, {wide}] and [{out}, {config.r}]",
                    "it belongs to another base model: give the one that it was trained on as model.name",
                )

    def _is_named(self, config: LoraConfig, name: str) -> bool:
        """Whether the config's target_modules mean this module, by the names that the adapter's file uses."""
        from peft.tuners.tuners_utils import check_target_module_exists

        former = self._names.formerly(name) if self._renamed else name
        return config.target_modules is not None and bool(check_target_module_exists(config, former))
