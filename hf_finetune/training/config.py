"""The recipe's `train` and `budget` sections."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from hf_finetune.section import Bytes, Seconds, Section

Auto = Literal["auto"]
Positive = Annotated[int, Field(ge=1)]
Size = Annotated[Bytes, Field(gt=0)]
Rate = Annotated[float, Field(gt=0, le=10)]


class Train(Section):
    """How the weights are fitted. What is `auto` is planned from the machine and the data, with a printed reason."""

    effective_batch_size: Auto | Positive = Field(default="auto", description="images per update, over all processes")
    epochs: Auto | Annotated[float, Field(gt=0)] = Field(
        default="auto", description="passes over the training rows, of the full rung"
    )
    optimizer: Literal["adamw", "adam", "sgd", "adamw_8bit", "lion"] = Field(
        default="adamw", description="adamw_8bit keeps its state in 8 bit (bitsandbytes)"
    )
    learning_rate: Auto | Rate = Field(default="auto", description="the highest of the schedule; lr-find measures one")
    weight_decay: float = Field(default=0.01, ge=0, description="not applied to biases and norms")
    momentum: float = Field(default=0.9, ge=0, lt=1, description="of sgd only")
    sampler: Literal["shuffle", "balanced"] = Field(
        default="shuffle",
        description="shuffle: every row once an epoch; balanced: as many of each class, rare ones repeated (the probe "
        "weighs rows instead)",
    )
    schedule: Literal["auto", "cosine", "linear", "constant"] = Field(
        default="auto",
        description="how the learning rate falls after the warmup; auto: not at all where a rung goes by the clock, "
        "whose result is the average of its weights, else cosine",
    )
    warmup_share: float = Field(default=0.1, ge=0, lt=1, description="share of the steps with rising learning rate")
    max_grad_norm: float = Field(default=1.0, ge=0, description="0: no clipping")
    early_stopping: int = Field(default=0, ge=0, description="evaluations without improvement until it stops; 0: never")
    best_by: str = Field(
        default="auto",
        description="metric of validation; auto: accuracy of classes (balanced_accuracy where they are balanced), map "
        "of labels, kappa of grades, r2 of numbers; where accuracy tells models apart by chance alone, the "
        "calibrated loss does",
    )
    refit: bool = Field(
        default=True,
        description="fit the probe's final head on training and validation rows; it is scored on rows it has not seen",
    )
    evaluations: Positive = Field(default=10, description="evaluations (and checkpoints) of the full rung, at most")
    seed: int = Field(default=0, ge=0, lt=2**32, description="of cuts, order, augmentation and fresh weights")
    precision: Literal["auto", "fp32", "bf16", "fp16"] = Field(
        default="auto", description="what is multiplied in; auto: bf16 where the machine has it in hardware"
    )
    micro_batch: Auto | Positive = Field(default="auto", description="images per forward pass and process")
    eval_batch: Auto | Positive = Field(default="auto", description="images per forward pass in evaluation")
    checkpointing: Auto | bool | Positive = Field(
        default="auto",
        description="recompute blocks in backward: less memory, slower; a number: so many of them, from the front",
    )
    cuda_graphs: bool = Field(default=True, description="on one GPU: ask for an update's kernels all at once; faster")
    patches_kept: Auto | Annotated[float, Field(gt=0, le=1)] = Field(
        default="auto",
        description="share of an image's patches seen in training, where a ViT allows it; less is faster",
    )
    decode_workers: Auto | Positive = Field(default="auto", description="processes that decode images")
    peer_timeout: Annotated[Seconds, Field(ge=1)] = Field(  # pyright: ignore[reportAssignmentType] - it is parsed
        default="5m",
        description="of several processes one that gives no sign of life for so long ends the others; waiting counts "
        "for nothing",
    )


class Budget(Section):
    """What the run may take."""

    time: Seconds | None = Field(
        default=None, description="wall clock from start to exit, such as 2m; 0: the probe alone"
    )
    memory: Size | None = Field(default=None, description="of the device that trains, such as 4GB; null: what is free")
