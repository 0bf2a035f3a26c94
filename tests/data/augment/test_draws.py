from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from hf_finetune.data.augment.draws import beta, uniform

ROWS = np.arange(5000)


def test_the_numbers_never_change_silently():
    found = uniform(seed=17, epoch=3, rows=np.array([0, 1, 99_999]), stream=2, count=2)
    expected = [
        [0.7741862562624318, 0.34044193760672814],
        [0.0990666904958527, 0.8501775310715631],
        [0.7455326078311613, 0.3053354928035541],
    ]
    np.testing.assert_array_equal(found, np.array(expected))


def test_the_counter_walks_splitmix64_from_a_key_that_absorbs_every_word():
    word = (1 << 64) - 1
    gamma = 0x9E3779B97F4A7C15

    def mix(value: int) -> int:
        value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & word
        value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & word
        return value ^ (value >> 31)

    assert mix(gamma) == 0xE220A8397B1DCDAF  # the published first output of splitmix64 with seed 0
    key = 0
    for part in (-3, 8, 1, 123_456_789_012):
        key = mix(((key + gamma) & word) ^ (part & word))
    expected = [(mix((key + (step + 1) * gamma) & word) >> 11) * 2.0**-53 for step in range(3)]
    assert uniform(seed=-3, epoch=8, rows=np.array([123_456_789_012]), stream=1, count=3)[0].tolist() == expected


def test_numbers_are_multiples_of_two_to_the_minus_53_in_the_unit_interval():
    numbers = uniform(0, 0, ROWS, 0, 8)
    assert numbers.dtype == np.float64
    assert numbers.min() >= 0 and numbers.max() < 1
    np.testing.assert_array_equal(numbers * 2**53, np.rint(numbers * 2**53))


@pytest.mark.parametrize("key", [(0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1), (-5, 7, 16), (2**40, 1000, 3)])
def test_numbers_are_uniform_over_rows_and_over_counters(key: tuple[int, int, int]):
    seed, epoch, stream = key
    numbers = uniform(seed, epoch, ROWS, stream, 4)
    assert stats.kstest(numbers.ravel(), "uniform").pvalue > 1e-4
    counts = np.histogram(numbers, bins=256, range=(0, 1))[0]
    assert stats.chisquare(counts).pvalue > 1e-4
    low_bits = np.bincount((numbers.ravel() * 2**53).astype(np.uint64).astype(np.int64) & 255, minlength=256)
    assert stats.chisquare(low_bits).pvalue > 1e-4
    long = uniform(seed, epoch, ROWS[:1], stream, 20_000).ravel()
    assert stats.kstest(long, "uniform").pvalue > 1e-4


def test_neighbouring_rows_epochs_streams_seeds_and_counters_are_independent():
    first = uniform(0, 0, ROWS, 0, 2)
    others = {
        "row": uniform(0, 0, ROWS + 1, 0, 1)[:, 0],
        "epoch": uniform(0, 1, ROWS, 0, 1)[:, 0],
        "stream": uniform(0, 0, ROWS, 1, 1)[:, 0],
        "seed": uniform(1, 0, ROWS, 0, 1)[:, 0],
        "counter": first[:, 1],
    }
    for name, other in others.items():
        assert abs(np.corrcoef(first[:, 0], other)[0, 1]) < 5 / np.sqrt(len(ROWS)), name
        table = np.histogram2d(first[:, 0], other, bins=8)[0]
        assert stats.chisquare(table.ravel()).pvalue > 1e-4, name


def test_words_of_the_key_do_not_stand_in_for_one_another():
    keys = [(1, 2, 3), (1, 3, 2), (2, 1, 3), (3, 2, 1), (0, 0, 6), (6, 0, 0), (0, 6, 0)]
    firsts = np.concatenate([uniform(seed, epoch, np.arange(100), stream, 1) for seed, epoch, stream in keys])
    assert len(np.unique(firsts)) == firsts.size


def test_a_row_gets_the_same_numbers_in_any_company():
    whole = uniform(4, 2, ROWS, 5, 6)
    shuffled = np.random.default_rng(0).permutation(ROWS)
    np.testing.assert_array_equal(uniform(4, 2, shuffled, 5, 6), whole[shuffled])
    np.testing.assert_array_equal(uniform(4, 2, ROWS[7:8], 5, 6), whole[7:8])
    np.testing.assert_array_equal(uniform(4, 2, ROWS, 5, 3), whole[:, :3])


@pytest.mark.parametrize("alpha", [0.1, 0.2, 0.8, 1.0, 3.0])
def test_beta_has_its_distribution_and_stays_in_the_unit_interval(alpha: float):
    numbers = uniform(0, 0, ROWS, 0, 1)[:, 0]
    found = beta(alpha, numbers)
    assert stats.kstest(found, stats.beta(alpha, alpha).cdf).pvalue > 1e-4
    edges = beta(alpha, np.array([0.0, 2.0**-53, 0.5, 1 - 2.0**-53]))
    assert edges.min() >= 0 and edges.max() <= 1 and edges[2] == pytest.approx(0.5)
