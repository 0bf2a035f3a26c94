"""200 random schedules of faults: nothing is lost, nothing is doubled, and no reader ever sees a half."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from hf_finetune.errors import HubError
from hf_finetune.hub.upload import upload
from hf_finetune.network.patience import Patience
from tests.hub.contents import content, write_result
from tests.hub_server.fixture import Hub

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.usefixtures("in_process", "no_waits"),
    # 2026-11-24: huggingface_hub 2.4 uploads blobs in a way that its httpx2 calls deprecated.
    pytest.mark.filterwarnings("ignore:Use 'content=<...>' to upload raw bytes:DeprecationWarning"),
]
KINDS = ("401", "403", "412", "429", "500", "503", "507", "drop", "drop_body", "drop_reply", "cut_reply", "slow")
PATHS = ("/api/", "/commit/", "/preupload/", "lfs", "^PUT", "/resolve/", "/commits/", "create", "")
QUICK = Patience(tries=3, first_s=0.0005, most_s=0.001)


def whole_results(hub: Hub, repo: str, results: dict[int, dict[str, bytes]], tmp_path: Path) -> list[int]:
    """The numbers of the results that the history holds, oldest first; fails where a commit holds half of one."""
    found = []
    for commit in reversed(hub.api().list_repo_commits(repo)):
        place = hub.api().snapshot_download(repo, revision=commit.commit_id, cache_dir=tmp_path / "cache")
        held = {path: data for path, data in content(Path(place)).items() if path != ".gitattributes"}
        if held:
            found.append(next(number for number, result in results.items() if result == held))
    return found


@pytest.mark.parametrize("seed", [*range(6), *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(6, 20))])
def test_random_schedules(hub: Hub, tmp_path: Path, seed: int) -> None:
    """Ten schedules each: up to six faults at random calls, then pushes until one succeeds."""
    draw = random.Random(seed)
    repo = "loopback/beans"
    results: dict[int, dict[str, bytes]] = {}
    happened: Counter[str] = Counter()
    for schedule in range(10):
        number = 10 * seed + schedule
        folder = write_result(tmp_path / str(number), number, base=draw.random() < 0.3)
        results[number] = content(folder)
        for _ in range(draw.randint(1, 6)):
            kind: Any = draw.choice(KINDS)
            hub.server.faults.add(
                kind, draw.choice(PATHS), times=draw.randint(1, 4), skip=draw.randint(0, 6), seconds=0.01
            )
        for attempt in range(40):
            if attempt == 20:
                hub.server.faults.clear()
            try:
                upload(hub.api(), folder, repo, private=True, title="Upload", patience=QUICK)
                break
            except HubError:
                happened["said"] += 1
        else:
            pytest.fail("never succeeded")
        hub.server.faults.clear()
    assert whole_results(hub, repo, results, tmp_path) == sorted(results)  # each once, in order
    assert hub.server.faults.applied
