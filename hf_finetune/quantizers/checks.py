"""What int8 and nf4 share: the refusals, which layers stay as they are beside the head, and how they are named."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping

from hf_finetune.errors import MachineError, ModelError
from hf_finetune.types import BackboneFacts, Machine

_NUMBER = re.compile(r"(?<=\.)\d+(?=\\?\.|$)")


def check_quantizable(kind: str, facts: BackboneFacts, left_out: Mapping[str, str], machine: Machine) -> None:
    """Raise ModelError where bitsandbytes would convert nothing, MachineError on a device that it does not serve."""
    if not facts.linears:
        most = ", ".join(list(facts.parameters_by_type)[:3])
        raise ModelError(
            f"quantization.kind: {kind} converts Linear layers only, and {facts.name!r} ({facts.architecture}) "
            f"has none outside its head; its weights are in {most}",
            "set quantization.kind=none",
        )
    if not set(facts.linears) - set(left_out):
        raise ModelError(
            f"quantization.kind: {kind} can convert none of the {len(left_out)} Linear layers of {facts.name!r} "
            f"({facts.architecture}): {_reasons(left_out, facts)}",
            "set quantization.kind=none",
        )
    if machine.device == "mps":
        raise MachineError(f"quantization.kind: {kind} has no backend for mps", "set quantization.kind=none")


def converted_weights(facts: BackboneFacts, left_out: Collection[str]) -> int:
    """How many weights bitsandbytes converts."""
    return sum(wide * out for name, (wide, out) in facts.linears.items() if name not in left_out)


def describe_left_out(kind: str, facts: BackboneFacts, left_out: Mapping[str, str]) -> str | None:
    """What a person is told of the layers that stay in floating point; None where all are converted."""
    if not left_out:
        return None
    share = 1 - converted_weights(facts, left_out) / converted_weights(facts, ())
    return (
        f"quantization.kind: {kind} leaves {len(left_out)} of {len(facts.linears)} Linear layers ({share:.1%} of their "
        f"weights) in floating point: {_reasons(left_out, facts)}."
    )


def _reasons(left_out: Mapping[str, str], facts: BackboneFacts) -> str:
    """`24 (blocks.*.attn.qkv): the network reads its weight itself; …`"""
    texts = []
    for why, count in Counter(left_out.values()).items():
        patterns = skip_patterns([name for name, each in left_out.items() if each == why], facts.linears)
        shown = [pattern.replace(r"\d+", "*").replace("\\", "") for pattern in patterns]
        more = f" and {len(shown) - 5} more" if len(shown) > 5 else ""
        texts.append(f"{count} ({', '.join(shown[:5])}{more}): {why}")
    return "; ".join(texts)


def skip_patterns(names: Iterable[str], every: Collection[str] = ()) -> list[str]:
    """`names` as transformers matches them: as regular expressions from the start, or as endings.

    Where layers of several blocks share a name, and no other of `every` does, one expression stands for them.
    """
    wanted, patterns = set(names), {}
    for name in names:
        exact = re.escape(name)
        places = [match.span() for match in _NUMBER.finditer(exact)] if every else []
        for replaced in (places, places[-1:], []):
            pattern = exact
            for start, end in reversed(replaced):
                pattern = rf"{pattern[:start]}\d+{pattern[end:]}"
            matching = {each for each in every if re.fullmatch(pattern, each)}
            if matching <= wanted:
                break
        patterns[pattern] = None
    return list(patterns)
