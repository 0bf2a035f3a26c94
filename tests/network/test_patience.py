"""What may pass is tried again, and what has tried again itself is not."""

from __future__ import annotations

import time

import httpx2
import pytest

from hf_finetune.network.patience import Patience, patiently


@pytest.mark.parametrize(("takes_s", "calls"), [(0.0, 3), (0.3, 1)])
def test_a_call_that_has_tried_for_long_is_not_made_again(takes_s: float, calls: int) -> None:
    made: list[int] = []

    def call() -> str:
        made.append(1)
        time.sleep(takes_s)
        raise httpx2.ConnectError("Name or service not known")

    with pytest.raises(httpx2.ConnectError):
        patiently(call, "Fetching x", Patience(tries=3, first_s=0.0, given_up_s=0.2))
    assert len(made) == calls


def test_a_server_that_was_busy_for_long_is_asked_again() -> None:
    made: list[int] = []

    def call() -> str:
        made.append(1)
        time.sleep(0.3)
        if len(made) == 2:
            return "done"
        request = httpx2.Request("GET", "http://hub")
        raise httpx2.HTTPStatusError("busy", request=request, response=httpx2.Response(503, request=request))

    assert patiently(call, "Fetching x", Patience(tries=3, first_s=0.0, given_up_s=0.2)) == "done"
