"""From the recipe's `adapter.targets` to exact module names; and the arithmetic of the head."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from hf_finetune.errors import ModelError
from hf_finetune.types import BackboneFacts

ROLES = ("attention", "mlp", "conv")


def resolve_targets(wanted: str | Iterable[str], facts: BackboneFacts) -> tuple[str, ...]:
    """Exact names of the modules to adapt, in the network's order.

    `wanted` is "all", or roles, full names, or endings of names at a dot. Raises ModelError for one that matches
    nothing, or only what cannot be adapted, and where the backbone has nothing to adapt.
    """
    adaptable = [name for names in facts.targets.values() for name in names]
    if not adaptable:
        reasons = sorted(set(facts.excluded.values()))
        raise ModelError(
            f"{facts.name!r} ({facts.architecture}) has nothing that LoRA can adapt: {_excluded(facts, reasons)}",
            "use adapter.kind=head_only or full, or another backbone (the timm version of this one, if there is one)",
        )
    if wanted == "all":
        return _in_order(adaptable, facts)
    chosen: set[str] = set()
    for each in wanted:
        matches = facts.targets.get(each) if each in ROLES else [name for name in adaptable if _matches(name, each)]
        if not matches:
            raise _no_match(each, adaptable, facts)
        chosen.update(matches)
    return _in_order(chosen, facts)


def _in_order(names: Iterable[str], facts: BackboneFacts) -> tuple[str, ...]:
    chosen = set(names)
    return tuple(name for name in facts.module_shapes if name in chosen)


def _matches(name: str, ending: str) -> bool:
    return name == ending or name.endswith(f".{ending}")


def _excluded(facts: BackboneFacts, reasons: list[str]) -> str:
    if not reasons:
        return "it holds no Linear and no convolution outside its head"
    return "; ".join(f"{sum(why == each for why in facts.excluded.values())} modules: {each}" for each in reasons)


def _no_match(wanted: str, adaptable: list[str], facts: BackboneFacts) -> ModelError:
    roles = [f"{role} ({len(names)})" for role, names in facts.targets.items()]
    endings = sorted({_ending(name) for name in adaptable})
    has = f"it has the roles {', '.join(roles)} and the endings {', '.join(endings[:20])}"
    if any(_matches(name, wanted) for name in facts.head):
        return ModelError(
            f"adapter.targets: {wanted!r} is the head of {facts.name!r}, which is always trained in full",
            "leave it out",
        )
    for name, reason in facts.excluded.items():
        if _matches(name, wanted):
            return ModelError(f"adapter.targets: {wanted!r} of {facts.name!r} cannot be adapted: {reason}", has)
    close = difflib.get_close_matches(wanted, [*ROLES, *endings, *adaptable], n=3)
    hint = f"did you mean {' or '.join(close)}? {has}" if close else has
    return ModelError(f"adapter.targets: {wanted!r} matches no module of {facts.name!r} ({facts.architecture})", hint)


def _ending(name: str) -> str:
    """The part after the last number: `blocks.0.attn.qkv` → `attn.qkv`, which names it in every block."""
    parts = name.split(".")
    last = max((place for place, part in enumerate(parts) if part.isdigit()), default=-1)
    return ".".join(parts[last + 1 :]) or name


def short_names(names: Iterable[str], facts: BackboneFacts) -> tuple[str, ...]:
    """The endings that mean exactly these modules, where there are such: `attention.q_proj` for that of each block."""
    exact = tuple(names)
    endings = tuple(dict.fromkeys(_ending(name) for name in exact))
    return endings if set(resolve_targets(endings, facts)) == set(exact) else exact


def head_parameters(facts: BackboneFacts, num_labels: int) -> int:
    """Weights and biases of a head of `num_labels`; where facts do not count them, in + 1 for each of its modules."""
    each = facts.head_parameters_per_label
    return num_labels * (len(facts.head) * (facts.head_in_features + 1) if each is None else each)
