"""Tar shards on the Hub, fetched by the real client from the Hub on loopback and read as they are."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from tests.data.sources.shards.tars import samples, write_tar
from tests.data.sources.test_hub_dataset import ask
from tests.hub_server.fixture import Hub

pytestmark = pytest.mark.e2e


def shards(hub: Hub, name: str) -> Path:
    repo = hub.folder / "datasets" / name
    write_tar(repo / "data/train-000000.tar", samples(6))
    write_tar(repo / "data/train-000001.tar", samples(6, first=50))
    write_tar(repo / "data/test-000000.tar", samples(4, first=90))
    (repo / "classnames.txt").write_text("cat\ndog\n")
    (repo / "README.md").write_text("---\nlicense: mit\n---\n")
    return repo


def test_shards_are_fetched_once_and_read_where_they_lie(hub: Hub) -> None:
    shards(hub, "org/wds")
    (online,) = ask(hub, {"name": "org/wds"})
    assert (len(online["commit"]), online["licence"], online["names"]) == (40, "mit", ["cat", "dog"])
    assert online["sizes"] == {"train": 10, "validation": 2, "test": 4}
    assert online["row"].startswith("data/train-00000") and online["start"] == "ffd8ff"
    assert not list(hub.home.rglob("*.arrow"))  # no second copy of the images
    fetched = [path for path in hub.requests if ".tar" in str(path)]
    assert fetched
    before = len(hub.requests)
    again, at_commit = ask(hub, {"name": "org/wds"}, {"name": "org/wds", "revision": online["commit"]}, offline=True)
    assert again == at_commit == online and len(hub.requests) == before


def test_what_is_no_set_of_plain_shards_is_left_to_datasets(hub: Hub) -> None:
    repo = shards(hub, "org/packed")
    for path in list(repo.rglob("*.tar")):
        (path.parent / f"{path.name}.gz").write_bytes(gzip.compress(path.read_bytes()))
        path.unlink()
    configured = shards(hub, "org/configured")
    (configured / "README.md").write_text(
        "---\nconfigs:\n- config_name: small\n  data_files:\n  - split: train\n    path: data/train-000000.tar\n---\n"
    )
    packed, small = ask(hub, {"name": "org/packed"}, {"name": "org/configured", "config": "small"})
    assert packed["sizes"] == {"train": 10, "validation": 2, "test": 4}
    assert sum(small["sizes"].values()) == 6
    assert list(hub.home.rglob("*.arrow"))
