"""How far two runs of one model may be apart: by the range of what is expected, not by its size."""

from __future__ import annotations

import numpy as np
import pytest

from hf_finetune.machine.rounding import ANOTHER_ORDER, difference


@pytest.mark.parametrize(("expected", "step"), [([[0.0, 0.05], [0.02, 0.01]], 0.05), ([[90.0, 100.0]], 10.0)])
def test_a_share_of_the_range_is_allowed_however_large_numbers_are(expected: list[list[float]], step: float) -> None:
    logits = np.array(expected, np.float32)
    for share, passes in ((0.9, True), (1.1, False)):
        apart, allowed = difference(logits, logits + np.float32(share * ANOTHER_ORDER * step), ANOTHER_ORDER)
        assert (apart <= allowed) is passes


def test_numbers_that_are_all_alike_may_differ_by_what_float32_rounds() -> None:
    logits = np.full((4, 2), 3.0, np.float32)
    apart, allowed = difference(logits, np.nextafter(logits, np.float32(4)), ANOTHER_ORDER)
    assert 0 < apart <= allowed < 1e-5


def test_what_is_no_number_is_never_close() -> None:
    apart, allowed = difference(np.zeros((1, 2)), np.array([[np.nan, 0.0]]), ANOTHER_ORDER)
    assert not apart <= allowed
