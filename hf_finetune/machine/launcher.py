"""What a launcher has asked of this process by its environment. Imports nothing heavy: it is read before all else."""

from __future__ import annotations

import os

from hf_finetune.errors import MachineError

# What `accelerate launch` sets, by the name that people know it by (accelerate 1.15, utils/launch.py).
_ENGINES = {
    "ACCELERATE_USE_FSDP": "FSDP",
    "ACCELERATE_USE_DEEPSPEED": "DeepSpeed",
    "ACCELERATE_USE_MEGATRON_LM": "Megatron-LM",
    "ACCELERATE_USE_PARALLELISM_CONFIG": "a parallelism_config",
}
# What schedulers set that start a job again (sbatch(1); "Environment variables" of a Kubernetes Service; SkyPilot,
# "Environment variables"; Ray sets its own in each worker).
_SCHEDULERS = ("SLURM_JOB_ID", "KUBERNETES_SERVICE_HOST", "SKYPILOT_TASK_ID", "RAY_JOB_ID")
_TRUE = ("1", "true", "yes", "y", "t", "on")


def refuse_engines() -> None:
    """Raise MachineError where the weights are to be cut up over the processes: each has a whole model here."""
    for variable, engine in _ENGINES.items():
        if os.environ.get(variable, "").strip().lower() in _TRUE:
            # Each of several processes has WORLD_SIZE from a launcher, which sets the variable by its configuration.
            by_hand = "" if "WORLD_SIZE" in os.environ else f"If no launcher is meant to set it: `unset {variable}`. "
            raise MachineError(
                f"{engine} was asked for ({variable}); each process trains a whole copy of the model here (DDP).",
                f"{by_hand}Launch with accelerate_configs/multi_gpu.yaml. What makes a large backbone fit on one GPU: "
                "adapter.kind lora with quantization.kind nf4 or int8, train.checkpointing=true, model.stream=host or "
                "disk (frozen blocks are kept elsewhere); `hf-finetune plan` says what each saves.",
            )


def under_scheduler() -> bool:
    """Whether something runs this process that starts it again, or another in its place."""
    return any(os.environ.get(variable) for variable in _SCHEDULERS)
