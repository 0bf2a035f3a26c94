"""Training: whole updates, replayed when memory lacks, stopped when not finite, resumed exactly."""

from __future__ import annotations

import itertools
import json
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from hf_finetune.errors import MachineError, TrainingError
from hf_finetune.run.checkpoints import newest_whole
from hf_finetune.training.config import Train
from hf_finetune.training.optimizers import optimizer_of
from hf_finetune.training.pace import Pace
from hf_finetune.training.pieces import forward_in_pieces
from hf_finetune.types import Decision
from tests.training.rows import SIDE, MemoryRows, adapted, save_tiny_vit, tiny_plan, tiny_recipe
from tests.training.runs import assert_same, run, trained

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_vit(tmp_path_factory.mktemp("tiny"))


@pytest.mark.parametrize("weights", ["none", "auto"])
def test_micro_batches_of_any_size_give_the_same_weights(tiny: Path, tmp_path: Path, weights: str) -> None:
    recipe = tiny_recipe(tiny, task={"class_weights": weights, "label_smoothing": 0.1})
    rows = MemoryRows(100, SIDE + 2)
    rows.labels[:40] = 0  # unequal classes, so that class weights matter
    results = [trained(run(recipe, tiny_plan(micro=micro), tmp_path / str(micro), train=rows)[0]) for micro in (32, 4)]
    assert_same(*results, atol=2e-6)


def test_a_micro_batch_that_does_not_divide_the_batch_leaves_it_as_it_is(tiny: Path, tmp_path: Path) -> None:
    recipe, steps = tiny_recipe(tiny), []
    results = []
    for micro in (32, 24):
        model, fitted = run(recipe, tiny_plan(micro=micro), tmp_path / str(micro))
        results.append(trained(model))
        steps.append(fitted.step)
    assert steps == [6, 6]
    assert_same(*results, atol=2e-6)


class FailsOnce(nn.Module):
    """A layer that runs out of memory, as torch would, whenever more than `limit` images come at once in training."""

    def __init__(self, inner: nn.Module, limit: int, when_training: bool = True) -> None:
        super().__init__()
        self.inner, self.limit, self.when_training = inner, limit, when_training
        self.failures = 0

    def forward(self, *args: object, **kwargs: object) -> object:
        out = self.inner(*args, **kwargs)
        tensor = out[0] if isinstance(out, tuple) else out
        if torch.is_grad_enabled() == self.when_training and len(tensor) > self.limit:
            if self.when_training:
                tensor.register_hook(self._fail)  # in backward, after later layers already have their gradients
            else:
                self._fail(tensor)
        return out

    def _fail(self, _: torch.Tensor) -> None:
        self.failures += 1
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 1.00 GiB")


def limited(model: nn.Module, limit: int, when_training: bool = True) -> FailsOnce:
    base = model.get_base_model()  # pyright: ignore[reportCallIssue]
    wrapper = FailsOnce(base.vit.layers[0], limit, when_training)
    base.vit.layers[0] = wrapper
    return wrapper


def test_out_of_memory_in_backward_replays_the_whole_update(tiny: Path, tmp_path: Path) -> None:
    recipe = tiny_recipe(tiny)
    smooth, _ = run(recipe, tiny_plan(micro=8), tmp_path / "smooth")
    model, _ = adapted(recipe)
    wrapper = limited(model, 8)
    rough, fitted = run(recipe, tiny_plan(micro=32), tmp_path / "rough", model=model)
    assert (fitted.micro_batch, fitted.replays, wrapper.failures) == (8, 2, 2)
    assert_same(trained(smooth), {name.replace("inner.", ""): p for name, p in trained(rough).items()}, atol=2e-6)


class Normed(nn.Module):
    """A layer and a BatchNorm over its features, which trains."""

    def __init__(self, inner: nn.Module, width: int) -> None:
        super().__init__()
        self.inner, self.norm = inner, nn.BatchNorm1d(width)

    def forward(self, hidden: torch.Tensor, *args: object, **kwargs: object) -> torch.Tensor:
        return self.norm(self.inner(hidden, *args, **kwargs).transpose(1, 2)).transpose(1, 2)


def test_a_replayed_update_counts_once_in_running_statistics(tiny: Path, tmp_path: Path) -> None:
    recipe, statistics = tiny_recipe(tiny), []
    for name, micro, limit in (("smooth", 8, 100), ("rough", 32, 8)):
        model, _ = adapted(recipe)
        layers = model.get_base_model().vit.layers  # pyright: ignore[reportCallIssue]
        layers[1] = Normed(layers[1], 64)
        wrapper = limited(model, limit)
        run(recipe, tiny_plan(micro=micro), tmp_path / name, model=model)
        statistics.append(dict(layers[1].norm.named_buffers()))
    assert wrapper.failures > 0
    assert statistics[0]["num_batches_tracked"] == statistics[1]["num_batches_tracked"] > 0
    torch.testing.assert_close(statistics[0]["running_mean"], statistics[1]["running_mean"], atol=2e-6, rtol=0)


def test_every_update_is_in_train_mode_and_every_evaluation_is_not(tiny: Path, tmp_path: Path) -> None:
    model, _ = adapted(tiny_recipe(tiny))
    seen: list[tuple[bool, bool]] = []
    block = model.get_base_model().vit.layers[0]  # pyright: ignore[reportCallIssue]
    block.register_forward_pre_hook(lambda module, _: seen.append((torch.is_grad_enabled(), module.training)))
    run(tiny_recipe(tiny), tiny_plan(steps=6), tmp_path / "run", model=model)
    assert all(gradients == training for gradients, training in seen)
    changes = sum(one != other for one, other in itertools.pairwise(seen))
    assert changes >= 3  # an update after an evaluation, too


def test_out_of_memory_with_one_image_says_what_to_do(tiny: Path, tmp_path: Path) -> None:
    recipe = tiny_recipe(tiny)
    model, _ = adapted(recipe)
    limited(model, 0)
    with pytest.raises(MachineError, match="Out of memory with one image at a time"):
        run(recipe, tiny_plan(), tmp_path / "run", model=model)


def test_out_of_memory_in_evaluation_goes_on_with_fewer_images(tiny: Path, tmp_path: Path) -> None:
    recipe = tiny_recipe(tiny)
    expected = run(recipe, tiny_plan(), tmp_path / "a")[1].log
    model, _ = adapted(recipe)
    wrapper = limited(model, 5, when_training=False)
    found = run(recipe, tiny_plan(), tmp_path / "b", model=model)[1].log
    scores = [[entry for entry in log if "eval_accuracy" in entry] for log in (expected, found)]
    assert wrapper.failures > 0
    # Batches of another size are added up in another order: losses of about 1 differ by some 1e-7, and of the 23 rows
    # one whose classes are that close may fall to the other one.
    for one, other in zip(*scores, strict=True):
        assert other["eval_loss"] == pytest.approx(one["eval_loss"], abs=1e-5)
        assert other["eval_accuracy"] == pytest.approx(one["eval_accuracy"], abs=1.01 / 23)


def test_a_non_finite_loss_stops_with_step_and_row_and_saves_nothing_bad(tiny: Path, tmp_path: Path) -> None:
    recipe = tiny_recipe(tiny, augment={"crop_scale": [1, 1], "flip": 0})
    model, _ = adapted(recipe)
    poison = MemoryRows(64, SIDE + 2)
    poison.pixels[17] = 255  # the only all-white image: the model below turns it into NaN
    base = model.get_base_model()  # pyright: ignore[reportCallIssue]

    def burst(_: nn.Module, args: tuple[object, ...], kwargs: dict[str, torch.Tensor]) -> object:
        pixels = kwargs["pixel_values"]
        white = pixels.mean(dim=(1, 2, 3)) > 0.99
        return args, {**kwargs, "pixel_values": torch.where(white[:, None, None, None], torch.nan, pixels)}

    base.register_forward_pre_hook(burst, with_kwargs=True)
    with pytest.raises(TrainingError) as caught:
        run(recipe, tiny_plan(micro=16, steps=8), tmp_path / "run", model=model, train=poison)
    assert "is not finite at step" in str(caught.value)
    assert "rows whose loss is not finite: row17.png." in str(caught.value)
    assert all(torch.isfinite(value).all() for value in trained(model).values())


def test_a_rate_that_diverges_is_stopped_before_a_weight_is_lost(tiny: Path, tmp_path: Path) -> None:
    recipe = tiny_recipe(tiny, train={"precision": "fp32", "optimizer": "sgd", "max_grad_norm": 0})
    with pytest.raises(TrainingError, match=r"Lower train\.learning_rate"):
        run(recipe, tiny_plan(rate=1e30, steps=20), tmp_path / "run")
    for file in (tmp_path / "run").rglob("*.safetensors"):
        from safetensors.torch import load_file

        assert all(torch.isfinite(value).all() for value in load_file(file).values())


def test_an_update_goes_no_further_than_the_clipped_gradient(tiny: Path, tmp_path: Path) -> None:
    train = {"precision": "fp32", "optimizer": "sgd", "momentum": 0, "weight_decay": 0, "schedule": "constant"}
    recipe = tiny_recipe(tiny, train={**train, "max_grad_norm": 1e-3, "effective_batch_size": 32})
    model, _ = adapted(recipe)
    before = trained(model)
    _, fitted = run(recipe, tiny_plan(steps=1, rate=0.5), tmp_path / "run", model=model)
    norm = next(entry["grad_norm"] for entry in fitted.log if "grad_norm" in entry)
    moved = torch.cat([(value - before[name]).flatten() for name, value in trained(model).items()]).norm()
    assert norm > 0.01  # or nothing would have been clipped
    torch.testing.assert_close(moved, torch.tensor(0.5 * 1e-3), rtol=1e-2, atol=0)


def test_after_training_the_model_has_no_gradients_and_is_torchs_own_again(tiny: Path, tmp_path: Path) -> None:
    model, _ = run(tiny_recipe(tiny), tiny_plan(steps=2), tmp_path / "run")
    assert all(weight.grad is None for weight in model.parameters())
    assert "zero_grad" not in vars(model)


def test_before_fewer_images_at_a_time_a_graphs_memory_is_given_back() -> None:
    held, seen = [True], []

    def model(pixel_values: torch.Tensor) -> SimpleNamespace:
        if held[0] and len(pixel_values) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        seen.append(len(pixel_values))
        return SimpleNamespace(logits=pixel_values)

    def release() -> bool:
        had, held[0] = held[0], False
        return had

    batch = {"pixel_values": torch.zeros(8, 3), "labels": torch.zeros(8)}
    _, size = forward_in_pieces(model, lambda piece: piece["pixel_values"], batch, 4, release)  # pyright: ignore[reportArgumentType]
    assert (size, seen) == (4, [4, 4])


def test_a_resumed_run_ends_with_the_same_weights(tiny: Path, tmp_path: Path) -> None:
    recipe = tiny_recipe(tiny)
    whole, fitted = run(recipe, tiny_plan(steps=8), tmp_path / "whole")
    assert fitted.step == 8
    # The process was killed while it wrote the newest checkpoint: the one before is whole, the newest is not.
    shutil.copytree(tmp_path / "whole" / "checkpoints", tmp_path / "cut" / "checkpoints")
    newest = newest_whole(tmp_path / "cut" / "checkpoints")
    assert newest is not None and newest.name == "checkpoint-8"
    (newest / "trainer_state.json").write_text("{")
    earlier = newest_whole(tmp_path / "cut" / "checkpoints")
    assert earlier is not None and earlier.name != "checkpoint-8"
    again, _ = run(recipe, tiny_plan(steps=8), tmp_path / "cut", resume=earlier)
    assert_same(trained(whole), trained(again), atol=1e-6)


def test_the_best_weights_on_validation_are_kept(tiny: Path, tmp_path: Path) -> None:
    recipe = tiny_recipe(tiny, train={"precision": "fp32", "best_by": "loss", "effective_batch_size": 32})
    _, fitted = run(recipe, tiny_plan(steps=12, rate=0.05), tmp_path / "run")
    losses = {entry["step"]: entry["eval_loss"] for entry in fitted.log if "eval_loss" in entry}
    assert fitted.best_step == min(losses, key=lambda step: losses[step])


def test_by_the_clock_the_best_of_the_evaluations_on_the_way_is_kept_in_memory(tiny: Path, tmp_path: Path) -> None:
    recipe = tiny_recipe(tiny, train={"precision": "fp32", "best_by": "loss", "effective_batch_size": 32})
    model, fitted = run(recipe, tiny_plan(rate=0.05), tmp_path / "run", pace=Pace(12, seconds=600, evaluations=3))
    losses = {entry["step"]: entry["eval_loss"] for entry in fitted.log if "eval_loss" in entry}
    assert list(losses) == [4, 8, 12]
    assert fitted.best_step == min(losses, key=lambda step: losses[step])
    rows = MemoryRows(23, SIDE, seed=1)
    with torch.no_grad():
        logits = model.eval()(pixel_values=torch.from_numpy(rows.pixels).float() / 127.5 - 1).logits
    loss = nn.functional.cross_entropy(logits, torch.from_numpy(rows.labels))
    assert float(loss) == pytest.approx(losses[fitted.best_step], abs=1e-5)
    assert not list((tmp_path / "run" / "checkpoints").iterdir())


def test_early_stopping_ends_before_the_last_step(tiny: Path, tmp_path: Path) -> None:
    train = {"precision": "fp32", "best_by": "loss", "early_stopping": 1, "evaluations": 30}
    recipe = tiny_recipe(tiny, train=train)
    _, fitted = run(recipe, tiny_plan(steps=30, rate=1.0), tmp_path / "run")
    assert fitted.step < 30


def test_every_log_is_a_line_of_json(tiny: Path, tmp_path: Path) -> None:
    run(tiny_recipe(tiny), tiny_plan(steps=4), tmp_path / "run")
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert {"loss", "grad_norm", "learning_rate", "step", "seconds"} <= lines[0].keys()
    assert any("eval_macro_f1" in line for line in lines)


@pytest.mark.parametrize(
    ("optimizer", "schedule"),
    [("adamw", "cosine"), ("adam", "linear"), ("sgd", "constant"), ("lion", "cosine"), ("adamw_8bit", "linear")],
)
def test_every_optimizer_and_schedule_lowers_the_loss(
    tiny: Path, tmp_path: Path, optimizer: str, schedule: str
) -> None:
    train = {"precision": "fp32", "optimizer": optimizer, "schedule": schedule, "effective_batch_size": 32}
    recipe = tiny_recipe(tiny, train=train, augment={"crop_scale": [1, 1], "flip": 0.5})
    rate = {"sgd": 0.1, "lion": 0.001}.get(optimizer, 0.003)
    plan = replace(tiny_plan(steps=10, rate=rate), warmup_steps=Decision(2, "test"))
    _, fitted = run(recipe, plan, tmp_path / "run")
    losses = [entry["loss"] for entry in fitted.log if "loss" in entry]
    assert np.mean(losses[-2:]) < losses[0]


def test_eight_bit_adamw_is_refused_where_bitsandbytes_has_no_backend() -> None:
    with pytest.raises(MachineError, match="bitsandbytes, which has no backend for mps"):
        optimizer_of(Train(optimizer="adamw_8bit"), 0.001, "mps", "fp32")


def test_bf16_training_lowers_the_loss(tiny: Path, tmp_path: Path) -> None:
    recipe = tiny_recipe(tiny, augment={"crop_scale": [1, 1]})
    plan = replace(tiny_plan(steps=10), precision=Decision("bf16", "test"))
    _, fitted = run(recipe, plan, tmp_path / "run")
    losses = [entry["loss"] for entry in fitted.log if "loss" in entry]
    assert np.mean(losses[-2:]) < losses[0]
