"""The closed-form head against brute force: leave one row out, solve again, predict it."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from hf_finetune.ladder.probe import links, ridge
from hf_finetune.ladder.probe.links import LINKS, SCALES
from hf_finetune.ladder.probe.ridge import Moments, Piece, choose, solve

torch.manual_seed(0)
ROWS, FEATURES, CLASSES = 40, 7, 3
SOFTMAX = LINKS["softmax"]


def data(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    y = torch.arange(ROWS) % CLASSES
    x = torch.randn(ROWS, FEATURES, generator=generator) * torch.logspace(-1, 2, FEATURES) + 50
    x[:, 0] += y
    weights = 0.5 + torch.rand(ROWS, generator=generator)
    return x, y, weights


def moments_of(x: torch.Tensor, y: torch.Tensor, weights: torch.Tensor, chunk: int = 9) -> Moments:
    moments = Moments(x.shape[1], CLASSES if y.ndim == 1 else y.shape[1])
    for start in range(0, len(x), chunk):
        part = slice(start, start + chunk)
        moments.add(x[part], y[part], weights[part])
    return moments


def brute_force(
    x: torch.Tensor, targets: torch.Tensor, weights: torch.Tensor, ridge: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Weighted least squares with an intercept and the penalty matrix `ridge`: coefficients and intercept."""
    ones = torch.ones(len(x), 1, dtype=torch.float64)
    design = torch.cat([x, ones], 1)
    penalty = torch.zeros(x.shape[1] + 1, x.shape[1] + 1, dtype=torch.float64)
    penalty[:-1, :-1] = ridge
    weighted = design * weights[:, None]
    solution = torch.linalg.solve(weighted.T @ design + penalty, weighted.T @ targets)
    return solution[:-1], solution[-1]


@pytest.mark.parametrize("penalty", [1e-4, 0.1, 10.0])
def test_streaming_equals_the_direct_solve(penalty: float) -> None:
    x, y, weights = data()
    solution = solve(moments_of(x, y, weights))
    standard = (x.double() - solution.mean) * solution.inverse_std
    targets = torch.nn.functional.one_hot(y, CLASSES).double()
    ridge = penalty * weights.double().sum() * torch.eye(FEATURES, dtype=torch.float64)
    coefficients, intercept = brute_force(standard, targets, weights.double(), ridge)
    torch.testing.assert_close(solution.predict(solution.project(x), penalty), standard @ coefficients + intercept)


@pytest.mark.parametrize("penalty", [1e-4, 0.1, 10.0])
def test_leave_one_out_is_exact(penalty: float) -> None:
    x, y, weights = data(1)
    solution = solve(moments_of(x, y, weights))
    quick = solution.leave_out(solution.project(x), y, weights, penalty)
    standard = (x.double() - solution.mean) * solution.inverse_std
    targets = torch.nn.functional.one_hot(y, CLASSES).double()
    ridge = penalty * weights.double().sum() * torch.eye(FEATURES, dtype=torch.float64)
    for row in range(ROWS):
        others = torch.arange(ROWS) != row
        coefficients, intercept = brute_force(standard[others], targets[others], weights[others].double(), ridge)
        torch.testing.assert_close(quick[row], standard[row] @ coefficients + intercept)


@pytest.mark.parametrize("size", [2, 5, 10])
@pytest.mark.parametrize("numbers", [False, True])
def test_leaving_groups_out_is_exact(size: int, numbers: bool) -> None:
    x, y, weights = data(6)
    weights[:size] = 0  # a group that counts for nothing
    wanted = torch.randn(ROWS, 2, dtype=torch.float64) if numbers else y
    solution = solve(moments_of(x, wanted, weights))
    quick = solution.leave_out(solution.project(x), wanted, weights, 0.1, size)
    standard = (x.double() - solution.mean) * solution.inverse_std
    targets = wanted if numbers else torch.nn.functional.one_hot(y, CLASSES).double()
    ridge = 0.1 * weights.double().sum() * torch.eye(FEATURES, dtype=torch.float64)
    for first in range(0, ROWS, size):
        group = (torch.arange(ROWS) >= first) & (torch.arange(ROWS) < first + size)
        own = brute_force(standard[~group], targets[~group], weights[~group].double(), ridge)
        torch.testing.assert_close(quick[group], standard[group] @ own[0] + own[1], rtol=1e-4, atol=1e-4)


def test_float_targets_are_the_same_solve() -> None:
    x, y, weights = data(2)
    by_class = solve(moments_of(x, y, weights))
    by_matrix = solve(moments_of(x, torch.nn.functional.one_hot(y, CLASSES).double(), weights))
    z = by_class.project(x)
    targets = torch.nn.functional.one_hot(y, CLASSES).double()
    torch.testing.assert_close(by_class.predict(z, 0.1), by_matrix.predict(by_matrix.project(x), 0.1))
    torch.testing.assert_close(
        by_class.leave_out(z, y, weights, 0.1), by_matrix.leave_out(by_matrix.project(x), targets, weights, 0.1)
    )


def test_the_folded_head_says_the_same_on_raw_features() -> None:
    x, y, weights = data(3)
    solution = solve(moments_of(x, y, weights))
    weight, bias = solution.folded(0.1, scale=5.0)
    unfolded = 5 * solution.predict(solution.project(x), 0.1)
    torch.testing.assert_close((x @ weight.T + bias).double(), unfolded, rtol=1e-4, atol=1e-4)


def test_a_constant_feature_carries_nothing() -> None:
    x, y, weights = data(4)
    with_constant = torch.cat([x, torch.full((ROWS, 1), 3.0)], 1)
    solution = solve(moments_of(with_constant, y, weights))
    weight, _ = solution.folded(0.1)
    assert torch.all(weight[:, -1] == 0)
    assert torch.isfinite(weight).all()


def test_the_chosen_scale_calibrates_and_the_penalty_is_the_best_by_brute_force() -> None:
    x, y, weights = data(5)
    solution = solve(moments_of(x, y, weights))
    choice = choose(solution, [Piece(x[:15], y[:15], weights[:15]), Piece(x[15:], y[15:], weights[15:])], SOFTMAX)
    z = solution.project(x)

    def loss(penalty: float, scale: float) -> float:
        outputs = solution.leave_out(z, y, weights, penalty).float() * scale
        each = torch.nn.functional.cross_entropy(outputs, y, reduction="none")
        return float((each * weights).sum() / weights.sum())

    assert loss(choice.penalty, choice.scale) == pytest.approx(choice.loss, rel=1e-5)
    for scale in (0.8, 1.25):
        assert loss(choice.penalty, choice.scale * scale) >= choice.loss
    for penalty in (1e-5, 1e-2, 1.0, 100.0):
        assert min(loss(penalty, 2 ** (step / 4)) for step in range(33)) >= choice.loss - 1e-3


def test_more_features_than_rows() -> None:
    generator = torch.Generator().manual_seed(0)
    y = torch.arange(12) % CLASSES
    x = torch.randn(12, 50, generator=generator)
    x[torch.arange(12), y] += 8
    weights = torch.ones(12)
    moments = Moments(50, CLASSES)
    moments.add(x, y, weights)
    choice = choose(solve(moments), [Piece(x, y, weights)], SOFTMAX)
    assert choice.loss < 0.9
    assert choice.figure > 0.5


@pytest.mark.parametrize("scales", [SCALES, (0.3, 0.6, 1.0, 1.2, 5.0)])
def test_the_losses_at_all_scales_are_torchs_cross_entropy(
    scales: tuple[float, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(links, "_AT_ONCE", 25)  # rows then go in five pieces
    outputs = torch.randn(9, 13, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 3
    y = torch.arange(9)
    wanted = [torch.nn.functional.cross_entropy(outputs * scale, y, reduction="none") for scale in scales]
    found = SOFTMAX.losses(outputs.clone(), y, scales)
    torch.testing.assert_close(found, torch.stack(wanted, 1), rtol=1e-6, atol=1e-6)


def test_rows_that_are_all_told_apart_want_no_larger_scale_than_float32_sees() -> None:
    y = torch.arange(60) % CLASSES
    x = torch.nn.functional.one_hot(y, CLASSES).double() + 1e-3 * torch.randn(60, CLASSES, dtype=torch.float64)
    weights = torch.ones(60)
    solution = solve(moments_of(x, y, weights))
    choice = choose(solution, [Piece(x, y, weights)], SOFTMAX)
    z = solution.project(x)

    def loss(scale: float) -> float:
        outputs = solution.leave_out(z, y, weights, choice.penalty).float() * scale
        return float(torch.nn.functional.cross_entropy(outputs, y))

    assert choice.figure == 1
    assert choice.loss == loss(choice.scale) == 0
    assert loss(choice.scale / 2**0.5) > 0


def test_the_scales_go_from_a_sixteenth_to_256_and_each_is_twice_the_last_but_one() -> None:
    assert (SCALES[0], SCALES[-1], len(SCALES)) == (1 / 16, 256, 25)
    assert all(later == 2 * earlier for earlier, later in zip(SCALES, SCALES[2:], strict=False))


def test_rows_in_pieces_are_chosen_on_like_rows_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y, weights = data(6)
    solution = solve(moments_of(x, y, weights))
    at_once = choose(solution, [Piece(x, y, weights)], SOFTMAX)
    monkeypatch.setattr(ridge, "_HELD", 7 * CLASSES)
    in_pieces = choose(solution, [Piece(x, y, weights)], SOFTMAX)
    assert (in_pieces.penalty, in_pieces.scale, in_pieces.figure) == (
        at_once.penalty,
        at_once.scale,
        at_once.figure,
    )
    assert in_pieces.loss == pytest.approx(at_once.loss, rel=1e-12)


@pytest.mark.e2e
@pytest.mark.skipif(sys.platform != "linux", reason="kilobytes are what Linux counts ru_maxrss in")
def test_twenty_thousand_classes_are_chosen_on_in_a_few_hundred_megabytes() -> None:
    """In a process of its own, since a peak cannot be taken back. At once they took 370 MB."""
    program = (
        "import torch\n"
        "from hf_finetune.ladder.probe.links import LINKS\n"
        "from hf_finetune.ladder.probe.ridge import Moments, Piece, choose, solve\n"
        "from resource import RUSAGE_SELF, getrusage\n"
        "torch.manual_seed(0)\n"
        "y = torch.arange(1000) * 20\n"
        "x, weights = torch.randn(1000, 32), torch.ones(1000)\n"
        "moments = Moments(32, 20_000)\n"
        "moments.add(x, y, weights)\n"
        "solution = solve(moments)\n"
        "before = getrusage(RUSAGE_SELF).ru_maxrss\n"
        "choose(solution, [Piece(x, y, weights)], LINKS['softmax'], penalties=[1e-2])\n"
        "print((getrusage(RUSAGE_SELF).ru_maxrss - before) / 1024)\n"
    )
    answer = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert float(answer.stdout) < 250, answer.stdout


def test_labels_each_by_itself_lose_their_mean_binary_cross_entropy() -> None:
    generator = torch.Generator().manual_seed(0)
    outputs = torch.randn(9, 4, generator=generator, dtype=torch.float64) * 3
    y = (torch.rand(9, 4, generator=generator) > 0.6).float()
    wanted = [
        torch.nn.functional.binary_cross_entropy_with_logits(outputs * scale, y.double(), reduction="none").mean(1)
        for scale in SCALES
    ]
    found = LINKS["sigmoid"].losses(outputs, y, SCALES)
    torch.testing.assert_close(found, torch.stack(wanted, 1), rtol=1e-6, atol=1e-6)
    shares = ((outputs > 0) == (y > 0)).double().mean(1)
    torch.testing.assert_close(LINKS["sigmoid"].figures(outputs, y), shares)


@pytest.mark.parametrize("name", ["softmax", "sigmoid"])
def test_slopes_are_the_gradients_of_the_losses(name: str) -> None:
    generator, link = torch.Generator().manual_seed(0), LINKS[name]
    logits = torch.randn(6, 3, generator=generator, dtype=torch.float64).requires_grad_()
    y = torch.arange(6) % 3 if name == "softmax" else (torch.rand(6, 3, generator=generator) > 0.5).float()
    if name == "softmax":
        losses = torch.nn.functional.cross_entropy(logits, y, reduction="none")
    else:
        bce = torch.nn.functional.binary_cross_entropy_with_logits
        losses = bce(logits, y.double(), reduction="none").mean(1)
    (wanted,) = torch.autograd.grad(losses.sum(), logits)
    found = link.slopes(logits.detach().clone(), y)
    assert found is not None
    torch.testing.assert_close(found[0], losses.detach(), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(found[1], wanted, rtol=1e-5, atol=1e-5)


def test_the_figure_of_numbers_is_the_r2_of_leave_out() -> None:
    x, _, weights = data(7)
    numbers = torch.stack([x[:, 0] + torch.randn(ROWS), x[:, 1]], 1)
    numbers = (numbers - numbers.mean(0)) / numbers.std(0, correction=0)
    ones, link = torch.ones_like(weights), LINKS["identity"]
    solution = solve(moments_of(x, numbers, ones))
    choice = choose(solution, [Piece(x, numbers, ones)], link)
    predicted = solution.leave_out(solution.project(x), numbers, ones, choice.penalty)
    r2 = 1 - ((predicted - numbers) ** 2).mean() / (numbers**2).mean()
    assert choice.scale == 1 and choice.figure == pytest.approx(float(r2)) == pytest.approx(1 - choice.loss)


def test_rows_whose_target_is_missing_count_for_nothing() -> None:
    x, y, _ = data(8)
    weights = (torch.arange(ROWS) % 4 > 0).float()
    there = weights > 0
    with_gaps = choose(solve(moments_of(x, y, weights)), [Piece(x, y, weights)], SOFTMAX)
    without = choose(
        solve(moments_of(x[there], y[there], weights[there])), [Piece(x[there], y[there], weights[there])], SOFTMAX
    )
    assert (with_gaps.penalty, with_gaps.scale) == (without.penalty, without.scale)
    assert with_gaps.figure == pytest.approx(without.figure)
