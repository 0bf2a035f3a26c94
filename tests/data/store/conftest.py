"""One pool of workers for a whole module: most tests are about the store, not about starting processes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import pytest

from hf_finetune.data.store.pool import WorkerPool
from hf_finetune.data.store.store import Store
from tests.data.store import samples

Opened = Callable[..., Store]


@pytest.fixture(scope="module")
def pool() -> Iterator[WorkerPool]:
    with WorkerPool(1) as workers:
        yield workers


@pytest.fixture
def opened(pool: WorkerPool) -> Opened:
    """`samples.opened` through the module's workers."""
    return partial(samples.opened, pool=pool)
