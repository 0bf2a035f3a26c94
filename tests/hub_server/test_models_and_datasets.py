"""Base models and datasets by Hub id: revisions, private and gated ones, and a run without a network after one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.hub.world import World, recipe
from tests.hub_server.fixture import Hub
from tests.hub_server.repos import parquet_dataset, restrict
from tests.hub_server.test_hub import ask
from tests.hub_server.users import TOKEN
from tests.training.rows import save_tiny_vit

FIND = """
import json, sys
from hf_finetune.backbones.config import Model
from hf_finetune.backbones.fingerprint import fingerprint
from hf_finetune.backbones.checkpoint import find
from hf_finetune.errors import ModelError
said = []
for name, revision in {cases}:
    model = Model(name=name, revision=revision)
    try:
        said.append([find(model).commit, fingerprint(model)])
    except ModelError as error:
        said.append(str(error))
print(json.dumps(said))
"""


def find(hub: Hub, *cases: tuple[str, str | None], token: str | None = None) -> list[str | list[str]]:
    """Commit and fingerprint of each model, or what is said of it."""
    return ask(hub, FIND.replace("{cases}", repr(list(cases))), token=token)


@pytest.mark.e2e
def test_a_revision_is_pinned_and_a_missing_one_is_named(hub: Hub) -> None:
    place = hub.folder / "models" / "org" / "tiny"
    save_tiny_vit(place)
    (first,) = find(hub, ("org/tiny", None))
    save_tiny_vit(place, classes=7)
    old, new, missing = find(hub, ("org/tiny", first[0]), ("org/tiny", "main"), ("org/tiny", "v9"))
    assert old == first
    assert new[0] != first[0]
    assert new[1] != first[1]
    assert "model.revision: 'org/tiny' has no branch, tag or commit 'v9'" in missing


@pytest.mark.e2e
def test_private_and_gated_models(hub: Hub) -> None:
    for name, access in (("private", "private"), ("gated", "gated")):
        restrict(save_tiny_vit(hub.folder / "models" / "org" / name), access)
    private, gated = find(hub, ("org/private", None), ("org/gated", None))
    assert "'org/private' is neither a folder here nor a model on the Hub\n  check the spelling; a private" in private
    assert "model.name: 'org/gated' is gated on the Hub and this machine has no access\n  accept its terms at" in gated
    opened = find(hub, ("org/private", None), ("org/gated", None), token=TOKEN)
    assert all(isinstance(answer, list) for answer in opened)


@pytest.mark.e2e
def test_a_run_on_a_hub_model_and_a_hub_dataset_is_repeated_without_the_hub(hub: Hub, tmp_path: Path) -> None:
    """Both with a revision, one of them private; the second run asks for nothing and ends with equal weights."""
    save_tiny_vit(hub.folder / "models" / "org" / "tiny")
    labels = ("circle", "square")
    restrict(parquet_dataset(hub.folder, "org/shapes", {"train": 20, "test": 5}, labels), "private")
    sections = {
        "model": {"name": "org/tiny", "revision": "main"},
        "data": {"name": "org/shapes", "revision": "main", "validation_share": 0.2},
    }
    with World(hub, tmp_path) as world:
        ((code, _, err),) = world.commands(["train", recipe(tmp_path, "online", sections)])
        assert code == 0, err
        before = len(hub.requests)
        ((code, _, err),) = world.commands(["train", recipe(tmp_path, "offline", sections)], offline=True)
        assert code == 0, err
        assert len(hub.requests) == before
    weights = [
        (tmp_path / "runs" / run / "adapter" / "adapter_model.safetensors").read_bytes()
        for run in ("online", "offline")
    ]
    assert weights[0] == weights[1]
    reports = [json.loads((tmp_path / "runs" / run / "run.json").read_text("utf-8")) for run in ("online", "offline")]
    assert [len(report[part]["commit"]) for report in reports for part in ("model", "data")] == [40] * 4
    assert reports[0]["test"] == reports[1]["test"]


@pytest.mark.e2e
def test_a_busy_hub_is_asked_again(hub: Hub) -> None:
    save_tiny_vit(hub.folder / "models" / "org" / "tiny")
    hub.server.faults.add("503", r"HEAD .*/config\.json")
    hub.server.faults.add("drop", r"HEAD .*/config\.json")
    (found,) = find(hub, ("org/tiny", None))
    assert isinstance(found, list)
    assert [kind for kind, _ in hub.server.faults.applied] == ["503", "drop"]
