"""Whether frozen weights are streamed: kept outside of the training device's memory, and brought in block by block."""

from __future__ import annotations

from hf_finetune.errors import MachineError
from hf_finetune.recipe.recipe import Recipe
from hf_finetune.types import BackboneFacts, Decision, Machine
from hf_finetune.units import format_bytes

# Share of the room above which the weights alone leave too little for activations (assumption).
LARGEST_SHARE = 0.5


def plan_stream(recipe: Recipe, machine: Machine, facts: BackboneFacts, frozen: int, room: int) -> Decision[str]:
    """off, host or disk; `frozen` bytes of weights do not train, and `room` bytes of the device may be filled.

    Raises MachineError where the recipe asks for what cannot be.
    """
    wanted = recipe.model.stream
    obstacle = _obstacle(recipe, machine, facts)
    if wanted == "off":
        return Decision("off", "as the recipe says")
    if wanted == "auto":
        text = f"{format_bytes(frozen)} of frozen weights, {format_bytes(room)} of {machine.device} memory usable"
        if frozen <= LARGEST_SHARE * room:
            return Decision("off", "frozen weights fit" if frozen else "no frozen weights")
        if obstacle is not None:
            return Decision("off", f"{text}, but {obstacle[0]}")
        return Decision("disk" if machine.device == "cpu" else "host", text)
    if obstacle is not None:
        raise MachineError(f"model.stream is {wanted}: {obstacle[0]}.", obstacle[1])
    if wanted == "host" and machine.device == "cpu":
        raise MachineError(
            "model.stream is host: a device with memory of its own is expected, and the CPU's is the host's.",
            "Set it to disk, or to off.",
        )
    return Decision(wanted, "as the recipe says")


def streamed_bytes(facts: BackboneFacts, frozen: int, device: str) -> int:
    """Of `frozen` bytes, what is in the device's memory at a time: on a CPU none that the system could not drop, else
    two blocks of about one size."""
    return 0 if device == "cpu" else 2 * frozen // max(2, len(facts.blocks))


def _obstacle(recipe: Recipe, machine: Machine, facts: BackboneFacts) -> tuple[str, str] | None:
    """What forbids it, as a clause, and the remedy."""
    if recipe.adapter.whole:
        return (
            f"frozen weights are expected, and adapter.kind {recipe.adapter.kind} trains all of them",
            "Set adapter.kind to lora or head_only, or model.stream to off.",
        )
    if recipe.quantization.kind != "none":
        return (
            f"weights in floating point are expected, and quantization.kind is {recipe.quantization.kind}",
            "Set quantization.kind to none, or model.stream to off.",
        )
    if not facts.blocks:
        return (
            f"repeated blocks are expected, which could be brought in one by one, and {facts.architecture} has none",
            "Set model.stream to off.",
        )
    if machine.device not in ("cpu", "cuda"):
        return f"a CPU or a CUDA device is expected, found {machine.device}", "Set model.stream to off."
    if machine.device == "cuda" and machine.world_size > 1:
        return (
            f"one process is expected on CUDA devices, found {machine.world_size}",
            "Start one process, or set model.stream to off.",
        )
    return None
