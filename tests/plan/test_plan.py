"""The plan is arithmetic with reasons, and refuses what cannot fit."""

from __future__ import annotations

import math
import re
import subprocess
import sys
from dataclasses import replace

import pytest

from hf_finetune.backbones.counting.step_bytes import StepBytes
from hf_finetune.errors import MachineError, ModelError
from hf_finetune.labels import Labels
from hf_finetune.plan.counted import Setting
from hf_finetune.plan.plan import make_plan
from hf_finetune.recipe.recipe import load_recipe
from hf_finetune.types import BackboneFacts, Decision, Index, Machine, Plan, Preprocess, Resize, Row

PREPROCESS = Preprocess((Resize(224, 224, 3),), 224, 224, (0.5,) * 3, (0.5,) * 3, 1 / 255, 0.0, False, 3, "test")
QKV = tuple(f"layer.{number}.qkv" for number in range(12))
FACTS = BackboneFacts(
    name="vit",
    library="transformers",
    architecture="ViT",
    commit=None,
    licence=None,
    parameters=86_000_000,
    parameters_by_type={"Linear": 85_000_000},
    head=("classifier",),
    head_in_features=768,
    blocks=tuple(f"layer.{number}" for number in range(12)),
    preprocess=PREPROCESS,
    supports_checkpointing=True,
    targets={"attention": QKV},
    excluded={},
    module_shapes=dict.fromkeys(QKV, (768, 2304)),
    linears=dict.fromkeys((f"layer.{number}" for number in range(48)), (768, 2304)),
    fixed_linears={},
    mapped_linears=frozenset(),
)
CPU = Machine("cpu", "some CPU", 16 * 10**9, 16 * 10**9, 4, False, 1, 0, 0, "Linux")
GPU = replace(CPU, device="cuda", device_name="some GPU", device_memory_bytes=8 * 10**9, bf16=True)


class NoReader:
    def read(self, locator: str | int) -> bytes:
        raise AssertionError(f"planning must decode nothing, asked for {locator}")


def index_of(rows: int) -> Index:
    row = Row("a.jpg", 0, "a.jpg")
    splits = {"train": (row,) * rows, "validation": (row,) * 10}
    return Index("d", "r", None, None, Labels(("a", "b")), splits, (), (), (), NoReader())


def count(setting: Setting) -> StepBytes:
    """A ViT-B as it is counted: 150 MB an image in float32 where everything trains, a twelfth of it a block."""
    adapter, four = setting.recipe.adapter, setting.precision == "fp32"
    if not setting.backward or adapter.kind == "head_only":
        return StepBytes(((0, 10_000_000, 0),), (0, 0))
    image = 150_000_000 if four else 75_000_000
    gradients = 4 * adapter.trainable_parameters(FACTS, 2)
    kept = image // 12 + 12 * 600_000 if setting.recomputed else image
    return StepBytes(((0, kept, 0), (0, 0, gradients)), (0, kept), ((0, image // 12 - 600_000),) * 12, gradients)


def plan_of(recipe: dict[str, object], machine: Machine = CPU, facts: BackboneFacts = FACTS, rows: int = 1000) -> Plan:
    return make_plan(load_recipe(recipe), machine, facts, index_of(rows), count)


@pytest.mark.parametrize(
    ("machine", "precision"),
    [(CPU, "fp32"), (replace(CPU, bf16=True), "bf16"), (GPU, "bf16"), (replace(GPU, bf16=False), "fp16")],
)
def test_precision_follows_the_hardware(machine: Machine, precision: str) -> None:
    assert plan_of({}, machine).precision.value == precision


@pytest.mark.parametrize("memory", [2, 4, 8, 24, 80])
@pytest.mark.parametrize("world_size", [1, 2, 8])
def test_micro_batches_times_accumulation_times_processes_is_the_effective_batch(memory: int, world_size: int) -> None:
    machine = replace(GPU, device_memory_bytes=memory * 10**9, world_size=world_size)
    plan = plan_of({"train": {"effective_batch_size": 64}}, machine)
    assert plan.micro_batch.value * plan.accumulation.value * world_size == 64
    assert sum(plan.memory_bytes.values()) <= memory * 10**9


def test_less_memory_means_a_smaller_micro_batch_and_then_checkpointing() -> None:
    sizes = (80 * 10**9, 2 * 10**9, 580 * 10**6, 520 * 10**6, 450 * 10**6)
    plans = [plan_of({}, replace(GPU, device_memory_bytes=size)) for size in sizes]
    assert [plan.micro_batch.value for plan in plans] == [32, 16, 4, 4, 2]
    blocks = [plan.checkpointing.value for plan in plans]
    assert blocks[:2] == [0, 0] and 0 < blocks[2] < blocks[3] < 12  # as few as let four images fit
    assert blocks[4] == 12
    fewer = {"train": {"checkpointing": blocks[3] - 1, "micro_batch": 4}}
    room = int(0.9 * 520 * 10**6)
    assert sum(plans[3].memory_bytes.values()) <= room < sum(plan_of(fewer, GPU).memory_bytes.values())


def test_a_micro_batch_asked_for_may_pass_what_is_free_and_not_the_memory_asked_for() -> None:
    small, asked = replace(GPU, device_memory_bytes=520 * 10**6), {"train": {"micro_batch": 32}}
    assert "more than the 468 MB usable" in plan_of(asked, small).micro_batch.reason
    with pytest.raises(MachineError, match=r"train\.micro_batch 32 needs .* 90% of budget\.memory") as refused:
        plan_of({**asked, "budget": {"memory": "520MB"}}, small)
    assert "train.micro_batch=auto  saves" in str(refused.value)


def test_an_update_smaller_than_the_micro_batch_asked_for_is_said() -> None:
    found = plan_of({"train": {"micro_batch": 64, "effective_batch_size": 16}}, GPU).micro_batch
    assert (found.value, found.reason) == (16, "all of an update; the recipe allows 64")


@pytest.mark.parametrize("text", ["300MB", "650MB", "900MB"])
def test_the_budget_that_is_named_is_enough(text: str) -> None:
    recipe: dict[str, object] = {"train": {"checkpointing": False}, "model": {"stream": "off"}}
    budget = load_recipe({"budget": {"memory": text}}).budget.memory
    assert budget is not None
    with pytest.raises(MachineError) as refused:
        plan_of({**recipe, "budget": {"memory": text}}, replace(CPU, device_memory_bytes=budget))
    message = str(refused.value)
    assert "90% of budget.memory" in message
    assert ("Python and its libraries take" in message) == (budget < 720 * 10**6)
    named = re.search(r"budget\.memory=(\d+)MB", message)
    assert named is not None
    plan_of({**recipe, "budget": {"memory": f"{named[1]}MB"}}, replace(CPU, device_memory_bytes=int(named[1]) * 10**6))


def test_a_budget_above_what_is_free_is_no_remedy() -> None:
    with pytest.raises(MachineError) as refused:
        plan_of({"budget": {"memory": "10GB"}}, replace(CPU, device_memory_bytes=650 * 10**6))
    assert "budget.memory" not in str(refused.value)


@pytest.mark.parametrize(("micro_batch", "planned"), [(1, 4), (8, 8)])
def test_a_cpu_never_evaluates_one_image_at_a_time(micro_batch: int, planned: int) -> None:
    assert plan_of({"train": {"micro_batch": micro_batch}}).eval_batch.value == planned


@pytest.mark.parametrize(("wanted", "blocks"), [(True, 12), (False, 0), (5, 5), (1, 1), ("auto", 0)])
def test_checkpointing_is_a_number_of_blocks(wanted: bool | int | str, blocks: int) -> None:
    assert plan_of({"train": {"checkpointing": wanted}}, GPU).checkpointing.value == blocks
    if blocks == 5:
        with pytest.raises(MachineError, match=r"train\.checkpointing is 13, and ViT has 12 blocks to recompute"):
            plan_of({"train": {"checkpointing": 13}}, GPU)


def test_what_cannot_fit_is_refused_with_remedies() -> None:
    small = replace(GPU, device_memory_bytes=260 * 10**6)
    with pytest.raises(MachineError) as caught:
        plan_of({"train": {"checkpointing": False}, "model": {"stream": "off"}}, small)
    assert "Even one image at a time needs about" in str(caught.value)
    lines = [line for line in str(caught.value).splitlines() if " saves " in line]
    fitting = [line for line in lines if "not enough alone" not in line]
    assert 0 < len(fitting) < len(lines) and lines[: len(fitting)] == fitting
    for line in fitting:  # each works when it is followed
        changes = line.strip().split("  ")[0].split(" ")
        recipe = load_recipe({"train": {"checkpointing": False}, "model": {"stream": "off"}}, changes)
        make_plan(recipe, small, FACTS, index_of(1000), count)
    with pytest.raises(MachineError, match="No other change of the recipe makes it fit"):
        plan_of({}, replace(GPU, device_memory_bytes=10**6))


def test_dora_on_int8_is_refused_on_cpus_alone() -> None:
    recipe = {"adapter": {"dora": True}, "quantization": {"kind": "int8"}}
    with pytest.raises(MachineError) as caught:
        plan_of(recipe)
    assert "cannot compute DoRA on int8 layers a second time" in str(caught.value)
    plan_of(recipe, GPU)
    for other in ({"quantization": {"kind": "nf4"}}, {"adapter": {"dora": False}}):
        plan_of({**recipe, **other})


def test_quantized_weights_count_less() -> None:
    frozen = [
        plan_of({"quantization": {"kind": kind}}, GPU).memory_bytes["frozen weights"]
        for kind in ("none", "int8", "nf4")
    ]
    assert frozen[0] > 1.9 * frozen[1]
    assert frozen[1] > 1.7 * frozen[2]  # and a scale for every 64 weights


def test_the_average_of_the_weights_takes_as_much_as_they_do() -> None:
    def part(**recipe: object) -> int:
        parts = plan_of(recipe, GPU).memory_bytes
        return parts.get("averaged weights", 0) // parts["trained weights"]

    limited: dict[str, object] = {"budget": {"time": "60s"}, "ladder": ["full"]}
    assert (part(), part(**limited)) == (1, 1)
    assert part(ladder=["full"]) == 0  # without a clock the rate falls, and nothing is averaged
    assert part(**limited, train={"schedule": "cosine"}) == 0
    parts = plan_of({"adapter": {"kind": "full"}}, GPU, replace(FACTS, batch_norms=12)).memory_bytes
    assert "averaged weights" not in parts  # whose statistics would be of other weights


def test_a_batch_larger_than_the_data_becomes_the_data() -> None:
    plan = plan_of({"train": {"effective_batch_size": 64}}, rows=40)
    assert plan.effective_batch.value == 40
    assert plan.effective_batch.reason == "an update of 64 is wanted, but there are only 40 training rows"
    assert plan.steps.value == math.ceil(plan.epochs.value)


def test_the_batch_grows_with_the_data_and_is_shared_by_all_processes() -> None:
    assert [plan_of({}, rows=rows).effective_batch.value for rows in (4_999, 5_000)] == [32, 64]
    planned = plan_of({}, replace(GPU, world_size=3)).effective_batch
    assert planned.value == 33
    assert planned.reason == "over all processes; 32 below 5,000 training rows, else 64"


def test_processes_that_cannot_share_the_batch_are_refused() -> None:
    with pytest.raises(MachineError) as caught:
        plan_of({"train": {"effective_batch_size": 50}}, replace(GPU, world_size=4))
    assert str(caught.value) == (
        "train.effective_batch_size is 50, which 4 processes cannot share equally.\n  Set it to 48 or 52."
    )


def test_epochs_shrink_as_data_grow() -> None:
    assert [plan_of({}, rows=rows).epochs.value for rows in (100, 2_000, 100_000)] == [30, 10, 3]


def test_a_fraction_of_an_epoch_is_some_steps() -> None:
    assert plan_of({"train": {"epochs": 0.5}}, rows=6400).steps.value == 50


@pytest.mark.parametrize(
    ("recipe", "rate"),
    [
        ({}, 7.07e-4),
        ({"train": {"effective_batch_size": 64}}, 1e-3),
        ({"train": {"effective_batch_size": 256}}, 2e-3),
        ({"train": {"effective_batch_size": 256, "optimizer": "sgd"}}, 0.4),
        ({"adapter": {"kind": "full"}, "train": {"effective_batch_size": 64}}, 1e-4),
        ({"train": {"learning_rate": 0.007}}, 0.007),
    ],
)
def test_the_learning_rate_follows_adapter_optimizer_and_batch(recipe: dict[str, object], rate: float) -> None:
    assert plan_of(recipe).learning_rate.value == pytest.approx(rate)


def test_the_auto_rate_names_its_source() -> None:
    for batch, rate in ((16, 2e-3), (64, 2e-3), (256, 4e-3)):
        assert plan_of({"train": {"effective_batch_size": batch}}).suffix_learning_rate.value == pytest.approx(rate)
    assert [plan_of({}, rows=rows).suffix_learning_rate.value for rows in (399, 400)] == [1e-3, 2e-3]
    assert plan_of({"train": {"schedule": "cosine"}}).suffix_learning_rate.value == 4e-3
    assert plan_of({"train": {"learning_rate": 0.007}}).suffix_learning_rate.value == 0.007
    assert plan_of({}).learning_rate.reason == "0.001 for lora with adamw × √(batch/64), Malladi et al. 2022"


def test_every_decision_has_a_reason() -> None:
    plan = plan_of({})
    decisions = [value for value in vars(plan).values() if isinstance(value, Decision)]
    assert len(decisions) > 15 and all(decision.reason for decision in decisions)
    assert "where the head needs all patches" not in plan.memory_note  # the same bytes here
    assert "coarse" in make_plan(load_recipe({}), CPU, FACTS, index_of(10)).memory_note  # nothing counted


def test_fp16_without_cuda_and_checkpointing_without_support_are_refused() -> None:
    with pytest.raises(MachineError, match=r"train\.precision: fp16 needs a CUDA device"):
        plan_of({"train": {"precision": "fp16"}})
    with pytest.raises(MachineError, match=r"train\.checkpointing: ViT cannot recompute its blocks"):
        plan_of({"train": {"checkpointing": True}}, facts=replace(FACTS, supports_checkpointing=False))


@pytest.mark.e2e
def test_planning_imports_no_torch() -> None:
    code = "import sys, hf_finetune.plan.plan; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


@pytest.mark.parametrize(("rows", "micro", "pieces"), [(47, 24, 2), (31, 31, 1), (33, 17, 2), (60, 30, 2), (53, 27, 2)])
def test_pieces_need_not_divide_the_update(rows: int, micro: int, pieces: int) -> None:
    plan = plan_of({"train": {"effective_batch_size": 64}}, rows=rows)
    assert (plan.effective_batch.value, plan.micro_batch.value, plan.accumulation.value) == (rows, micro, pieces)


@pytest.mark.parametrize("rows", [32, 47, 48, 64])
def test_every_memory_gives_pieces_that_fit(rows: int) -> None:
    for megabytes in range(400, 16_000, 300):
        machine = replace(GPU, device_memory_bytes=megabytes * 10**6)
        plan = plan_of({"train": {"effective_batch_size": 64, "checkpointing": False}}, machine, rows=rows)
        assert sum(plan.memory_bytes.values()) <= megabytes * 10**6
        assert (plan.accumulation.value - 1) * plan.micro_batch.value < rows
        if rows in (32, 64):  # all alike
            assert rows % plan.micro_batch.value == 0


def test_batch_norms_that_train_never_see_one_image() -> None:
    facts = replace(FACTS, batch_norms=12)
    full: dict[str, object] = {"adapter": {"kind": "full"}}
    tight = replace(GPU, device_memory_bytes=int(2.3e9))
    sizes = [plan_of(full, tight, each, rows=47).micro_batch.value for each in (FACTS, facts)]
    assert sizes[0] >= 1 and sizes[1] >= 2
    with pytest.raises(MachineError, match="Even 2 images at a time, for its batch norms, need about"):
        plan_of(full, replace(GPU, device_memory_bytes=10**9), facts)
    few: list[dict[str, object]] = [{"train": {"micro_batch": 1}}, {"train": {"effective_batch_size": 1}}]
    for recipe in few:
        with pytest.raises(MachineError, match=r"adapter\.kind full trains the 12 batch norms of ViT"):
            plan_of({**full, **recipe}, GPU, facts)
        assert plan_of(recipe, GPU, facts).micro_batch.value == 1  # LoRA leaves them as they are


def test_what_may_run_the_frozen_pass_is_planned_and_a_graph_that_cannot_be_had_refused() -> None:
    assert plan_of({"model": {"engine": "eager"}}).engine == Decision("torch", "as the recipe says")
    assert "on cuda" in plan_of({}, GPU).engine.reason
    assert "2 processes" in plan_of({}, replace(CPU, world_size=2)).engine.reason
    with pytest.raises(ModelError, match=r"model\.engine: graph is expected .* but OpenVINO runs on the CPU"):
        plan_of({"model": {"engine": "graph"}}, GPU)


def test_many_classes_and_rows_take_memory() -> None:
    def little(_: Setting) -> StepBytes:
        return StepBytes(((0, 100_000, 0),), (0, 100_000))

    def parts(classes: int, rows: int, **recipe: object) -> dict[str, int]:
        index = replace(index_of(rows), labels=Labels(tuple(map(str, range(classes)))))
        return dict(make_plan(load_recipe(recipe), CPU, FACTS, index, little).memory_bytes)

    few, many = parts(10, 1000), parts(20_000, 1000)
    assert few["rows"] == 1_010_000 and parts(10, 100_000)["rows"] > 99 * few["rows"]
    heads = 8 * (5 * 4_000_000 + 6 * 768 * 20_000)  # pieces of rows × classes, matrices of features × classes
    held = sum(many.get(part, 0) for part in ("gradients", "activations", "working set", "allocator"))
    assert many["heads"] == heads - held and "heads" not in few
    assert "heads" not in parts(20_000, 1000, ladder=["full"])  # no head is fitted in closed form
