"""The kept results of the pass: reused by the next run on the same data and weights, and by nothing else."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from hf_finetune.backbones.engines.eager import Eager
from hf_finetune.backbones.surgery.cut import Watch
from hf_finetune.data.store.cache import PIXELS
from hf_finetune.files.cache import locked
from hf_finetune.ladder.probe.extractor import FeatureExtractor
from hf_finetune.ladder.probe.feature_cache import FeatureCache, SplitFeatures
from hf_finetune.preprocess.normalise import Normaliser
from hf_finetune.types import Index, Machine, Row
from tests.training.rows import LABELS, PREPROCESS, SIDE, MemoryRows, adapted, save_tiny_vit, tiny_recipe

ROWS = 11
WAIT_S = 0.6
ALONE = Machine("cpu", "some CPU", 16 * 10**9, 16 * 10**9, 2, False, 1, 0, 0, "Linux")


def index_of(revision: str = "1") -> Index:
    rows = tuple(Row(f"row{number}", number % 3, f"{number}") for number in range(ROWS))
    return Index("memory", revision, None, None, LABELS, {"train": rows}, (), (), (), reader=None)  # pyright: ignore[reportArgumentType]


@pytest.fixture
def extractor(tmp_path: Path) -> FeatureExtractor:
    model, facts = adapted(tiny_recipe(save_tiny_vit(tmp_path / "tiny")))
    base = model.get_base_model()  # pyright: ignore[reportCallIssue]
    watch = Watch([base.get_submodule(name) for name in facts.head], base.get_submodule(facts.blocks[1]))
    return FeatureExtractor(Eager(model, watch), Normaliser(PREPROCESS), 4)


@pytest.fixture
def cache(tmp_path: Path) -> FeatureCache:
    return FeatureCache(index_of(), "weights", 64, (17, 64), tmp_path / "cache", None, 10**6, ALONE)


def keep(cache: FeatureCache, extractor: FeatureExtractor) -> tuple[SplitFeatures, int]:
    counts: list[int] = []
    kept = cache.keep(extractor, MemoryRows(ROWS, SIDE), "train", counts.append)
    return kept, sum(counts)


def test_the_pass_is_kept_and_found_again(cache: FeatureCache, extractor: FeatureExtractor) -> None:
    kept, done = keep(cache, extractor)
    assert (kept.pass_s is None, done) == (False, ROWS)
    pixels = MemoryRows(ROWS, SIDE).gather(np.arange(ROWS))
    features, hidden = extractor(pixels)
    # In batches of 4 there and of 11 here: other orders of the sums, through two blocks and norms.
    np.testing.assert_allclose(kept.features, features.numpy(), rtol=1e-4, atol=1e-5)
    assert hidden is not None
    assert kept.hidden is not None
    bits = torch.from_numpy(np.ascontiguousarray(kept.hidden)).view(torch.bfloat16)
    torch.testing.assert_close(bits, hidden.to(torch.bfloat16), rtol=0.02, atol=0.02)
    again, done = keep(cache, extractor)
    assert (again.pass_s is None, done) == (True, 0)
    np.testing.assert_array_equal(again.features, kept.features)
    np.testing.assert_array_equal(again.hidden, kept.hidden)  # pyright: ignore[reportArgumentType]


def test_waiting_for_another_process_is_no_time_of_the_pass(cache: FeatureCache, extractor: FeatureExtractor) -> None:
    keep(cache, extractor)
    (entry,) = (path.parent for path in cache.root.glob(f"*/{PIXELS}"))
    shutil.rmtree(entry)
    held = threading.Event()

    def hold() -> None:
        with locked(cache.root, entry.name):
            held.set()
            time.sleep(WAIT_S)

    other = threading.Thread(target=hold)
    other.start()
    held.wait()
    started = time.perf_counter()
    kept, done = keep(cache, extractor)
    assert done == ROWS
    assert kept.pass_s is not None
    assert time.perf_counter() - started - kept.pass_s > WAIT_S / 2
    other.join()


CHANGES: dict[str, Callable[[FeatureCache], FeatureCache]] = {
    "other weights": lambda cache: replace(cache, identity="other"),
    "other data": lambda cache: replace(cache, index=index_of("2")),
    "another cut": lambda cache: replace(cache, hidden=None),
    "another pixel limit": lambda cache: replace(cache, max_pixels=5),
}


@pytest.mark.parametrize("change", CHANGES)
def test_what_belongs_to_others_is_never_reused(cache: FeatureCache, extractor: FeatureExtractor, change: str) -> None:
    keep(cache, extractor)
    assert keep(CHANGES[change](cache), extractor)[0].pass_s is not None
    assert keep(cache, extractor)[0].pass_s is None


@pytest.mark.parametrize("damage", ["truncated", "overwritten"])
def test_a_damaged_file_is_built_again(cache: FeatureCache, extractor: FeatureExtractor, damage: str) -> None:
    kept, _ = keep(cache, extractor)
    wanted = np.array(kept.features)
    (path,) = cache.root.glob(f"*/{PIXELS}")
    content = path.read_bytes()
    path.write_bytes(content[:-7] if damage == "truncated" else bytes(len(content)))
    again, _ = keep(cache, extractor)
    assert again.pass_s is not None
    np.testing.assert_array_equal(again.features, wanted)


def test_one_bit_of_one_feature_is_enough_to_run_the_pass_again(
    cache: FeatureCache, extractor: FeatureExtractor
) -> None:
    count, place = 60, 21  # which is not among the 16 rows that every opening looks at
    rows = tuple(Row(f"row{number}", number % 3, f"{number}") for number in range(count))
    cache, many = replace(cache, index=replace(cache.index, splits={"train": rows})), MemoryRows(count, SIDE)
    wanted = np.array(cache.keep(extractor, many, "train", lambda _: None).features)
    (path,) = cache.root.glob(f"*/{PIXELS}")
    content = bytearray(path.read_bytes())
    content[place * len(content) // count + 3] ^= 0x40  # of an exponent
    path.write_bytes(content)
    again = cache.keep(extractor, many, "train", lambda _: None)
    assert again.pass_s is not None
    np.testing.assert_array_equal(again.features, wanted)


def test_states_are_left_out_where_they_have_no_room(cache: FeatureCache, extractor: FeatureExtractor) -> None:
    kept, _ = keep(replace(cache, limit_bytes=ROWS * 64 * 4), extractor)
    assert kept.hidden is None
    assert kept.features.shape == (ROWS, 64)


def test_a_limit_is_of_all_that_the_run_keeps_together(cache: FeatureCache, extractor: FeatureExtractor) -> None:
    whole, alone = ROWS * (64 * 4 + 17 * 64 * 2), ROWS * 64 * 4

    def kept_within(limit: int) -> SplitFeatures:
        return keep(replace(cache, limit_bytes=limit, used={"its images": 1000}), extractor)[0]

    assert kept_within(alone + 999).features.shape == (ROWS, 64)
    assert not list(cache.root.glob(f"*/{PIXELS}"))  # in memory
    assert kept_within(whole + 999).hidden is None
    assert list(cache.root.glob(f"*/{PIXELS}"))
    assert kept_within(whole + 1000).hidden is not None


def test_a_cache_that_cannot_be_written_costs_only_the_reuse(
    cache: FeatureCache, extractor: FeatureExtractor, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("in the way")
    kept, _ = keep(replace(cache, root=tmp_path / "file"), extractor)
    assert kept.hidden is None
    assert np.abs(kept.features).sum() > 0


def test_two_processes_keep_their_shares_and_see_both(cache: FeatureCache, extractor: FeatureExtractor) -> None:
    whole, _ = keep(cache, extractor)
    shares = [replace(cache, machine=replace(ALONE, rank=rank, world_size=2)) for rank in range(2)]
    kept = [keep(share, extractor)[0] for share in shares]
    seen = shares[0].everybody(kept[0], ROWS, "train")
    for rank, part in enumerate(seen):
        np.testing.assert_array_equal(part.rows, np.arange(rank, ROWS, 2))
        np.testing.assert_allclose(part.features, whole.features[rank::2], rtol=1e-4, atol=1e-5)
        assert part.hidden is not None
