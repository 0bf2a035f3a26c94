"""What computes: how int8 weights are multiplied on this machine, what is kept for the backward pass, and what
runs the frozen backbone."""

from __future__ import annotations

from collections import Counter

from hf_finetune.backbones.engines.available import unavailable
from hf_finetune.errors import ModelError
from hf_finetune.recipe.recipe import Recipe
from hf_finetune.types import BackboneFacts, Compute, Decision, Machine

KEPT, MADE_AGAIN = "kept", "made again"
_NAMES = {"integer": "as integers", "dequantized": "dequantized", "llm_int8": "as stock code does"}


def compute_of(recipe: Recipe, facts: BackboneFacts, device: str) -> Decision[str]:
    """`36 as integers, 12 dequantized`, of the layers that int8 converts, for a `device` that is this machine's."""
    quantization = recipe.quantization
    if quantization.kind != "int8":
        return Decision("floats", "weights are not in int8")
    from hf_finetune.arithmetic.integer import chosen, name_of

    left = quantization.left_out(facts)
    layers = [widths for name, widths in facts.linears.items() if name not in left]
    counts = Counter(chosen(recipe.compute, *widths, device) for widths in layers)
    value = ", ".join(f"{count} {_NAMES[kind]}" for kind, count in counts.most_common())
    return Decision(value, _reason(recipe.compute, counts, device, name_of(device)))


def _reason(asked: Compute, counts: Counter[str], device: str, instructions: str) -> str:
    if asked == "llm_int8":
        return "as the recipe says; auto is several times faster"
    if counts["integer"]:
        narrow = "; narrow layers would lose time to it" if counts["dequantized"] and asked == "auto" else ""
        return f"{instructions}, a scale a token{narrow}"
    if asked == "dequantized":
        return "as the recipe says"
    if asked == "integer" and device != "cpu":
        return "integers are asked for, but a GPU takes layers whose widths are multiples of 8"
    if device != "cpu":
        return "integers were not measured on GPUs; quantization.compute=integer asks for them"
    if instructions.startswith("no"):
        return f"this CPU has {instructions}: int8 saves memory here and no time; quantization.kind=none is as fast"
    return f"{instructions}: integers were not faster for layers of these widths; int8 saves memory here and no time"


def activations_of(recipe: Recipe, device: str) -> Decision[str]:
    """What activations and, on a CPU with short sequences, attention give: kept for the backward pass, or made again.
    What layer norms give is made again in any case, which takes no time that can be seen."""
    if device != "cpu":
        return Decision(MADE_AGAIN, "memory counts; the device's own attention decides of its weights")
    if recipe.quantization.kind != "none" or recipe.budget.memory is not None:
        return Decision(MADE_AGAIN, "memory counts: a ViT's block keeps 4/10 less, a step takes 10 to 20 % longer")
    return Decision(KEPT, "faster; with quantization or budget.memory they are made again in the backward pass")


def engine_of(recipe: Recipe, machine: Machine) -> Decision[str]:
    """What runs the pass over the frozen backbone. Raises ModelError where the recipe insists on a graph, and none can
    be had."""
    wanted = recipe.model.engine
    if wanted in ("eager", "int8"):
        return Decision("torch", "as the recipe says")
    reason = unavailable(machine.device, machine.world_size, recipe.quantization.kind)
    if wanted == "auto":
        choice = "torch or an OpenVINO graph, whichever a batch shows to be faster, where images are many"
        return Decision("torch", reason) if reason else Decision("measured", choice)
    if reason:
        raise ModelError(
            f"model.engine: graph is expected to run the frozen pass, but {reason}.",
            "Leave model.engine out (auto): the torch model then runs it.",
        )
    return Decision("OpenVINO", "as the recipe says")
