from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.utils.data import DataLoader
from transformers import Trainer, TrainerCallback, TrainingArguments
from transformers.trainer_utils import SaveStrategy

from hf_finetune.data.augment.augmenter import Augmenter
from hf_finetune.data.augment.dataset import EvalRows, TrainRows, prepare
from hf_finetune.data.config import Augment
from hf_finetune.training.order import as_batch

from .arrays import ArrayRows, assert_alike, make_preprocess, random_rows

ALL = Augment(rotate_degrees=15, color=0.4, randaugment=2, erasing=0.5, mixup=0.4, cutmix=1.0)


def train_rows(config: Augment = ALL, seed: int = 0, count: int = 24) -> TrainRows:
    return TrainRows(random_rows(count), Augmenter(config, make_preprocess(), 64), seed)


def test_a_batch_has_every_key_with_its_type_and_shape():
    dataset = train_rows()
    batch = dataset.__getitems__([5, 0, 23])
    expected = {
        "pixel_values": (torch.uint8, (3, 3, 64, 64)),
        "labels": (torch.int64, (3,)),
        "rows": (torch.int64, (3,)),
        "sizes": (torch.int64, (3, 2)),
        "draw_grid": (torch.float32, (3, 2, 3)),
        "draw_color": (torch.float32, (3, 3)),
        "draw_operations": (torch.float32, (3, 2)),
        "draw_parameters": (torch.float32, (3, 2)),
        "draw_erase": (torch.float32, (3, 4)),
        "mix": (torch.float32, (3,)),
        "box": (torch.float32, (3, 4)),
    }
    partner = ("pixel_values", "labels", "draw_grid", "draw_color", "draw_operations", "draw_parameters", "draw_erase")
    expected |= {f"partner_{name}": expected[name] for name in partner}
    assert {name: (values.dtype, tuple(values.shape)) for name, values in batch.items()} == expected
    assert batch["rows"].tolist() == [5, 0, 23] and batch["labels"].tolist() == [2, 0, 2]
    np.testing.assert_array_equal(batch["pixel_values"], dataset.rows.gather(np.array([5, 0, 23])))
    np.testing.assert_array_equal(batch["sizes"], dataset.rows.sizes[[5, 0, 23]])


def test_a_repeated_row_is_the_same_image_with_other_draws():
    dataset = train_rows()
    once, again = dataset.__getitems__([5, 0]), dataset.__getitems__([5 + 24, 0 + 2 * 24])
    for name in ("rows", "labels", "pixel_values", "sizes"):
        assert torch.equal(once[name], again[name])
    for name in ("draw_grid", "draw_color", "mix"):
        assert not torch.isclose(once[name], again[name]).flatten(1 if once[name].ndim > 1 else 0).all(-1).any(), name


def test_without_augmentation_or_mixing_a_batch_has_no_keys_for_them():
    batch = train_rows(Augment(crop_scale=(1, 1), flip=0)).__getitems__([1, 2])
    assert set(batch) == {"pixel_values", "labels", "rows", "sizes", "draw_grid"}


def test_evaluation_rows_are_what_is_stored():
    rows = random_rows(8)
    batch = EvalRows(rows).__getitems__([6, 1])
    assert set(batch) == {"pixel_values", "labels", "rows"}
    assert torch.equal(batch["pixel_values"], torch.from_numpy(rows.pixels[[6, 1]]))
    assert batch["labels"].tolist() == [0, 1] and batch["rows"].tolist() == [6, 1]


@pytest.mark.parametrize(
    "config", [Augment(), Augment(mixup=0.3), Augment(cutmix=1), ALL], ids=["crop", "mixup", "cutmix", "all"]
)
def test_preparing_slices_is_slicing_what_is_prepared(config: Augment):
    dataset = train_rows(config)
    dataset.set_epoch(3)
    batch = dataset.__getitems__(list(range(24)))
    dataset_of_pieces = [dataset.__getitems__(list(range(start, min(start + 7, 24)))) for start in range(0, 24, 7)]
    for name, values in batch.items():
        # Cosines and the like may be rounded otherwise for 24 rows than for 7.
        torch.testing.assert_close(torch.cat([piece[name] for piece in dataset_of_pieces]), values, msg=name)
    augmenter = dataset.augmenter
    whole = prepare(batch, augmenter)
    for size in (1, 5, 8):
        slices = [slice(start, start + size) for start in range(0, 24, size)]
        pieces = [prepare({name: values[part] for name, values in batch.items()}, augmenter) for part in slices]
        assert_alike(torch.cat([piece[0] for piece in pieces]), whole[0])
        for values, *parts in zip(whole[1:], *(piece[1:] for piece in pieces), strict=True):
            if values is None:
                assert all(part is None for part in parts)
            else:
                torch.testing.assert_close(torch.cat(parts), values)  # the shares may be rounded otherwise
    assert whole[0].shape == (24, 3, 56, 56) and torch.isfinite(whole[0]).all()
    assert (whole[2] is None) == (config.mixup == config.cutmix == 0)
    assert torch.equal(prepare(batch, augmenter, torch.bfloat16)[0], whole[0].bfloat16())


def test_mixing_uses_the_partners_pixels_label_and_own_augmentation():
    dataset = train_rows(Augment(mixup=1.0))
    batch = dataset.__getitems__(list(range(24)))
    mixed, labels, partner_labels, share = prepare(batch, dataset.augmenter)
    assert partner_labels is not None and share is not None
    partners = [
        int(np.flatnonzero([np.array_equal(pixels, stored) for stored in dataset.rows.gather(np.arange(24))])[0])
        for pixels in batch["partner_pixel_values"].numpy()
    ]
    assert len(set(partners)) > 8
    assert partner_labels.tolist() == dataset.rows.labels[partners].tolist()
    assert torch.equal(labels, batch["labels"])
    own = dataset.augmenter.apply(batch["pixel_values"], {"grid": batch["draw_grid"]})
    other = dataset.augmenter.apply(batch["partner_pixel_values"], {"grid": batch["partner_draw_grid"]})
    weight = share.view(-1, 1, 1, 1)
    torch.testing.assert_close(mixed, weight * own + (1 - weight) * other)
    # A partner is placed by its own size: its crop lies inside its own photo.
    reach = batch["partner_draw_grid"][:, :, :2].abs().sum(2) + batch["partner_draw_grid"][:, :, 2].abs()
    assert (reach <= 1 + 1e-5).all() and not torch.equal(batch["draw_grid"], batch["partner_draw_grid"])


def test_two_rows_with_the_same_partner_see_it_augmented_differently():
    same = 0
    dataset = train_rows(Augment(mixup=1.0), count=2)
    for epoch in range(20):
        dataset.set_epoch(epoch)
        batch = dataset.__getitems__([0, 1])
        if torch.equal(batch["partner_pixel_values"][0], batch["partner_pixel_values"][1]):
            same += 1
            assert not torch.equal(batch["partner_draw_grid"][0], batch["partner_draw_grid"][1])
    assert same > 3


def test_the_loader_hands_whole_batches_over_untouched():
    dataset = train_rows()
    batch = next(iter(DataLoader(dataset, batch_size=6, collate_fn=as_batch)))
    expected = dataset.__getitems__(list(range(6)))
    assert all(torch.equal(values, expected[name]) for name, values in batch.items())
    dataset.set_epoch(1)
    assert not torch.allclose(dataset.__getitems__([1])["draw_grid"], expected["draw_grid"][1:2])


class Recorder(nn.Module):
    """A small head on mean colours that writes down what it was shown."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(3, 3)
        self.seen: list[tuple[list[int], list[float]]] = []

    def forward(
        self, pixel_values: torch.Tensor, labels: torch.Tensor, rows: torch.Tensor, draw_grid: torch.Tensor, **_: object
    ) -> dict[str, torch.Tensor]:
        self.seen.append((rows.tolist(), draw_grid.flatten().tolist()))
        logits = self.head(pixel_values.float().mean(dim=(2, 3)) / 255)
        return {"loss": functional.cross_entropy(logits, labels), "logits": logits}


class TellEpoch(TrainerCallback):
    def __init__(self, set_epoch: Callable[[int], None]) -> None:
        self.set_epoch = set_epoch

    def on_epoch_begin(self, args, state, control, **_) -> None:  # noqa: ARG002
        self.set_epoch(int(state.epoch or 0))


def fit(folder: Path, rows: ArrayRows, resume: str | None = None, callback: bool = True) -> Recorder:
    torch.manual_seed(0)
    model = Recorder()
    dataset = TrainRows(rows, Augmenter(Augment(), make_preprocess(), 64), seed=0)
    arguments = TrainingArguments(
        output_dir=str(folder),
        num_train_epochs=2,
        per_device_train_batch_size=4,
        save_strategy=SaveStrategy.STEPS,
        save_steps=3,
        report_to="none",
        remove_unused_columns=False,
        use_cpu=True,
        disable_tqdm=True,
        seed=0,
    )
    callbacks: list[TrainerCallback] = [TellEpoch(dataset.set_epoch)] if callback else []
    trainer = Trainer(model, arguments, train_dataset=dataset, data_collator=as_batch, callbacks=callbacks)
    trainer.train(resume_from_checkpoint=resume)
    return model


@pytest.mark.e2e
def test_trainer_moves_the_epoch_on_and_a_resumed_run_sees_what_the_whole_run_saw(tmp_path: Path):
    rows = random_rows(8)
    whole = fit(tmp_path / "run", rows).seen
    assert len(whole) == 4
    first, second = by_row(whole[:2]), by_row(whole[2:])
    assert sorted(first) == sorted(second) == list(range(8))
    assert all(first[row] != second[row] for row in range(8))
    # Without a callback accelerate tells the dataset too, as long as nothing was resumed.
    assert fit(tmp_path / "plain", rows, callback=False).seen == whole
    # The checkpoint of step 3 lies inside the second epoch.
    checkpoint = str(tmp_path / "run" / "checkpoint-3")
    assert fit(tmp_path / "run", rows, resume=checkpoint).seen == whole[3:]


def by_row(batches: list[tuple[list[int], list[float]]]) -> dict[int, list[float]]:
    """The grid that each row was shown with."""
    return {row: grid[6 * i : 6 * i + 6] for rows, grid in batches for i, row in enumerate(rows)}
