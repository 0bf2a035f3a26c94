"""The loss against torch's own, and its parts against the whole."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from torch.nn import functional

from hf_finetune.tasks.loss import CrossEntropy, mean_loss, row_weights

ROWS, CLASSES = 64, 7


def batch(dtype: torch.dtype = torch.float32) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    logits = (4 * torch.randn(ROWS, CLASSES, generator=generator)).to(dtype)
    labels = torch.randint(CLASSES, (ROWS,), generator=generator)
    partners = torch.randint(CLASSES, (ROWS,), generator=generator)
    return logits, labels, partners, torch.rand(ROWS, generator=generator)


def classification_loss(
    logits: torch.Tensor,
    labels: torch.Tensor,
    *,
    label_smoothing: float = 0.0,
    class_weights: torch.Tensor | None = None,
    **options: Any,
) -> torch.Tensor:
    return mean_loss(CrossEntropy(label_smoothing, class_weights), logits, labels, **options)


WEIGHTS = torch.tensor([0.1, 0.5, 1.0, 2.0, 3.0, 0.7, 9.0])
SMOOTHING_AND_WEIGHTS = list(itertools.product([0.0, 0.1, 0.7], [None, WEIGHTS]))


@pytest.mark.parametrize(("smoothing", "weights"), SMOOTHING_AND_WEIGHTS)
def test_one_chunk_equals_torchs_mean(smoothing: float, weights: torch.Tensor | None) -> None:
    logits, labels, _, _ = batch()
    normaliser = row_weights(labels, None, None, weights).sum()
    ours = classification_loss(logits, labels, normaliser=normaliser, label_smoothing=smoothing, class_weights=weights)
    torchs = functional.cross_entropy(logits, labels, weight=weights, label_smoothing=smoothing)
    torch.testing.assert_close(ours, torchs, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(("smoothing", "weights"), SMOOTHING_AND_WEIGHTS)
def test_mixing_equals_the_weighted_sum_of_torchs_two_losses(smoothing: float, weights: torch.Tensor | None) -> None:
    logits, labels, partners, mix = batch()

    def by_row(targets: torch.Tensor) -> torch.Tensor:
        return functional.cross_entropy(logits, targets, weight=weights, label_smoothing=smoothing, reduction="none")

    ours = classification_loss(
        logits,
        labels,
        partner_labels=partners,
        mix=mix,
        label_smoothing=smoothing,
        class_weights=weights,
        normaliser=float(ROWS),
    )
    expected = (mix * by_row(labels) + (1 - mix) * by_row(partners)).sum() / ROWS
    torch.testing.assert_close(ours, expected, rtol=1e-6, atol=1e-6)


def test_mixing_without_weights_equals_torchs_loss_on_soft_targets() -> None:
    logits, labels, partners, mix = batch()
    soft = mix[:, None] * functional.one_hot(labels, CLASSES) + (1 - mix)[:, None] * functional.one_hot(
        partners, CLASSES
    )
    ours = classification_loss(
        logits, labels, partner_labels=partners, mix=mix, label_smoothing=0.1, normaliser=float(ROWS)
    )
    torch.testing.assert_close(ours, functional.cross_entropy(logits, soft, label_smoothing=0.1), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("mixed", [False, True])
@pytest.mark.parametrize("chunk", [1, 8, 24])
@pytest.mark.parametrize(("smoothing", "weights"), SMOOTHING_AND_WEIGHTS)
def test_chunks_of_an_update_add_up_to_the_whole_and_so_do_their_gradients(
    smoothing: float, weights: torch.Tensor | None, chunk: int, mixed: bool
) -> None:
    logits, labels, partners, mix = batch()
    whole = logits.clone().requires_grad_()
    parts = logits.clone().requires_grad_()

    def rows(part: slice) -> dict[str, torch.Tensor | None]:
        return {"partner_labels": partners[part] if mixed else None, "mix": mix[part] if mixed else None}

    slices = [slice(start, start + chunk) for start in range(0, ROWS, chunk)]
    normaliser = torch.stack(
        [row_weights(labels[part], class_weights=weights, **rows(part)).sum() for part in slices]
    ).sum()
    options = {"normaliser": normaliser, "label_smoothing": smoothing, "class_weights": weights}
    one = classification_loss(whole, labels, **rows(slice(None)), **options)
    one.backward()
    total = 0.0
    for part in slices:
        loss = classification_loss(parts[part], labels[part], **rows(part), **options)
        loss.backward()
        total += loss.item()
    assert total == pytest.approx(one.item(), rel=1e-5)
    # A gradient is the difference of two shares, each rounded to 6e-8 and then weighted by up to 9 / 64.
    torch.testing.assert_close(parts.grad, whole.grad, rtol=1e-5, atol=1e-7)


def test_mixing_a_row_with_its_own_class_changes_neither_loss_nor_weight() -> None:
    logits, labels, _, mix = batch()
    alone = row_weights(labels, None, None, WEIGHTS)
    torch.testing.assert_close(row_weights(labels, labels, mix, WEIGHTS), alone)
    torch.testing.assert_close(
        classification_loss(
            logits, labels, partner_labels=labels, mix=mix, class_weights=WEIGHTS, normaliser=alone.sum()
        ),
        classification_loss(logits, labels, class_weights=WEIGHTS, normaliser=alone.sum()),
    )


def test_a_mixed_row_counts_as_its_two_classes_do_in_their_shares() -> None:
    labels, partners, mix = torch.tensor([0, 6]), torch.tensor([3, 1]), torch.tensor([0.25, 1.0])
    weights = row_weights(labels, partners, mix, WEIGHTS)
    torch.testing.assert_close(weights, torch.tensor([0.25 * 0.1 + 0.75 * 2.0, 9.0]))


def test_row_weights_count_rows_when_classes_count_alike() -> None:
    _, labels, partners, mix = batch()
    assert row_weights(labels, partners, mix, None).tolist() == [1.0] * ROWS


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_logits_are_summed_in_float32(dtype: torch.dtype) -> None:
    logits, labels, _, _ = batch(dtype)
    ours = classification_loss(logits, labels, normaliser=float(ROWS))
    assert ours.dtype == torch.float32
    torch.testing.assert_close(ours, functional.cross_entropy(logits.float(), labels), rtol=1e-6, atol=1e-6)


def test_partners_without_their_shares_are_refused() -> None:
    logits, labels, partners, _ = batch()
    with pytest.raises(ValueError, match="partner_labels and mix are expected together"):
        classification_loss(logits, labels, partner_labels=partners, normaliser=1.0)
