"""The Hub on loopback, asked by the real clients in processes of their own."""

from __future__ import annotations

import json
import subprocess
import sys
from email.message import Message
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest

from hf_finetune.recipe.recipe import load_recipe
from tests.hub_server import repos
from tests.hub_server.fixture import Hub
from tests.hub_server.recipe_repos import seed_recipe_repos
from tests.hub_server.users import TOKEN

REPO = Path(__file__).resolve().parents[2]
SHAPES = ("circle", "square")


def ask(hub: Hub, code: str, **environment: Any) -> Any:
    """Run `code`, which prints one JSON line last, in a process that has `hub` for its Hub."""
    process = subprocess.run(
        [sys.executable, "-c", code], env=hub.env(**environment), capture_output=True, text=True, timeout=120, cwd=REPO
    )
    assert process.returncode == 0, process.stderr
    return json.loads(process.stdout.splitlines()[-1])


def get(url: str, **headers: str) -> tuple[int, Message, bytes]:
    """Status, headers and body of a GET, refusals included; the connection is closed."""
    try:
        with urlopen(Request(url, headers=headers)) as reply:
            return reply.status, reply.headers, reply.read()
    except HTTPError as refusal:
        with refusal:
            return refusal.code, refusal.headers, refusal.read()


MODELS = """
import json, torch
from transformers import AutoConfig, AutoImageProcessor, AutoModelForImageClassification
torch.manual_seed(0)
seen = {"config": type(AutoConfig.from_pretrained("org/tiny-vit")).__name__}
for name, side in (("org/tiny-vit", 32), ("timm/test_vit.r160_in1k", 160)):
    model = AutoModelForImageClassification.from_pretrained(name).eval()
    processor = AutoImageProcessor.from_pretrained(name)
    logits = model(torch.ones(1, 3, side, side)).logits
    seen[name] = [type(model).__name__, type(processor).__name__, logits[0].tolist()]
print(json.dumps(seen))
"""


@pytest.mark.e2e
def test_models_load_online_and_then_without_the_hub(hub: Hub) -> None:
    repos.transformers_vit(hub.folder, "org/tiny-vit")
    repos.timm_model(hub.folder, "timm/test_vit.r160_in1k")
    online = ask(hub, MODELS)
    assert online["config"] == "ViTConfig"
    assert online["org/tiny-vit"][:2] == ["ViTForImageClassification", "ViTImageProcessor"]
    assert online["timm/test_vit.r160_in1k"][:2] == ["TimmWrapperForImageClassification", "TimmWrapperImageProcessor"]
    before = len(hub.requests)
    assert before > 0
    assert ask(hub, MODELS, offline=True) == online
    assert len(hub.requests) == before


DATASETS = """
import json, os
from datasets import load_dataset
from huggingface_hub import snapshot_download
seen = {}
for name in ("org/table", "org/folder"):
    splits = load_dataset(name if os.environ["HF_HUB_OFFLINE"] == "0" else snapshot_download(name, repo_type="dataset"))
    for split, rows in splits.items():
        pixels = [rows[i]["image"].convert("RGB").tobytes().hex() for i in range(2)]
        seen[name + "/" + split] = [len(rows), rows.features["label"].names, rows["label"][:], pixels]
    snapshot_download(name, repo_type="dataset")
print(json.dumps(seen))
"""


@pytest.mark.e2e
def test_datasets_load_online_and_then_from_the_snapshot_without_the_hub(hub: Hub) -> None:
    repos.parquet_dataset(hub.folder, "org/table", {"train": 4, "test": 2}, SHAPES)
    repos.folder_dataset(hub.folder, "org/folder", {"train": 4, "test": 2}, SHAPES)
    online = ask(hub, DATASETS)
    assert {key: value[:2] for key, value in online.items()} == {
        "org/table/train": [8, list(SHAPES)],
        "org/table/test": [4, list(SHAPES)],
        "org/folder/train": [8, list(SHAPES)],
        "org/folder/test": [4, list(SHAPES)],
    }
    assert sorted(online["org/table/train"][2]) == [0] * 4 + [1] * 4
    before = len(hub.requests)
    assert ask(hub, DATASETS, offline=True) == online
    assert len(hub.requests) == before


ERRORS = """
import json
from huggingface_hub import HfApi, hf_hub_download
def failure(**what):
    try:
        hf_hub_download(**what)
    except Exception as error:
        return type(error).__name__
    return "no error"
print(json.dumps([
    failure(repo_id="org/none", filename="config.json"),
    failure(repo_id="org/open", filename="config.json", revision="v9"),
    failure(repo_id="org/open", filename="none.json"),
    failure(repo_id="org/gated", filename="config.json"),
    failure(repo_id="org/private", filename="config.json"),
    HfApi().model_info("org/gated").gated,
    HfApi().model_info("org/open").card_data.license,
]))
"""


@pytest.mark.e2e
def test_each_way_to_be_refused_raises_the_clients_own_exception_and_a_token_opens_the_rest(hub: Hub) -> None:
    for name in ("open", "gated", "private"):
        repo = repos.model_config(hub.folder, f"org/{name}", {"model_type": "vit"}, None)
        if name != "open":
            repos.restrict(repo, name)
    assert ask(hub, ERRORS)[:5] == [
        "RepositoryNotFoundError",
        "RevisionNotFoundError",
        "RemoteEntryNotFoundError",
        "GatedRepoError",
        "RepositoryNotFoundError",
    ]
    assert ask(hub, ERRORS, token=TOKEN)[3:] == ["no error", "no error", "manual", "apache-2.0"]


@pytest.mark.e2e
def test_a_changed_file_is_a_new_commit_and_the_old_one_stays_readable(hub: Hub) -> None:
    repo = repos.model_config(hub.folder, "org/open", {"model_type": "vit"}, None)
    code = "import json; from huggingface_hub import HfApi; print(json.dumps(HfApi().model_info('org/open').sha))"
    first = ask(hub, code)
    (repo / "config.json").write_text('{"model_type": "vit", "hidden_size": 32}')
    second = ask(hub, code)
    assert first != second
    status, headers, content = get(f"{hub.url}/org/open/resolve/{first}/config.json")
    assert (status, headers["X-Repo-Commit"]) == (200, first)
    assert json.loads(content) == {"model_type": "vit"}
    assert get(f"{hub.url}/org/open/resolve/{'0' * 40}/config.json")[1]["X-Error-Code"] == "RevisionNotFound"


@pytest.mark.parametrize(
    ("asked", "status", "body", "content_range"),
    [
        ("bytes=2-4", 206, b"234", "bytes 2-4/10"),
        ("bytes=7-", 206, b"789", "bytes 7-9/10"),
        ("bytes=-2", 206, b"89", "bytes 8-9/10"),
        ("bytes=8-99", 206, b"89", "bytes 8-9/10"),
        ("lines=1-2", 200, b"0123456789", None),
    ],
)
def test_a_part_of_a_file_is_served(hub: Hub, asked: str, status: int, body: bytes, content_range: str | None) -> None:
    repo = repos.model_config(hub.folder, "org/open", {}, None)
    (repo / "ten.bin").write_bytes(b"0123456789")
    found, headers, content = get(f"{hub.url}/org/open/resolve/main/ten.bin", Range=asked)
    assert (found, content, headers["Content-Range"]) == (status, body, content_range)
    assert headers["X-Linked-Size"] == "10"


def test_a_range_behind_the_end_is_refused(hub: Hub) -> None:
    repo = repos.model_config(hub.folder, "org/open", {}, None)
    (repo / "ten.bin").write_bytes(b"0123456789")
    assert get(f"{hub.url}/org/open/resolve/main/ten.bin", Range="bytes=10-")[0] == 416


@pytest.mark.parametrize("path", ["/org/open/resolve/main/../../secret", "/%2e%2e/models/resolve/main/x", "/api/none"])
def test_nothing_outside_the_folder_is_served(hub: Hub, path: str) -> None:
    repos.model_config(hub.folder, "org/open", {}, None)
    (hub.folder / "secret").write_text("x")
    assert get(hub.url + path)[0] == 404


def test_every_model_and_dataset_that_a_recipe_names_is_served(hub: Hub) -> None:
    seed_recipe_repos(hub.folder)
    recipes = [load_recipe(path) for path in sorted((REPO / "recipes").rglob("*.yaml"))]
    assert len(recipes) == 14
    named = {f"models/{recipe.model.name}" for recipe in recipes} | {
        f"datasets/{recipe.data.name}" for recipe in recipes
    }
    named -= {"models/builtin:starter", "datasets/builtin:digits"}
    local = {name for name in named if name.startswith("datasets/./")}
    folders = ("trashnet/dataset-resized", "hymenoptera_data", "Houses-dataset/houses.csv")
    assert local == {f"datasets/./{folder}" for folder in folders}
    for name in sorted(named - local):
        status, _, body = get(f"{hub.url}/api/{name}")
        assert status == 200, name
        files = {file["rfilename"] for file in json.loads(body)["siblings"]}
        assert ("config.json" if name.startswith("models/") else "README.md") in files, name


@pytest.mark.e2e
def test_the_command_line_serves_a_folder_and_prints_the_variable_to_set(tmp_path: Path) -> None:
    repos.model_config(tmp_path, "org/open", {"model_type": "vit"}, None)
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.hub_server", "0", str(tmp_path), "--fault", "503=resolve/main/config"],
        stdout=subprocess.PIPE,
        text=True,
        cwd=REPO,
    )
    try:
        assert process.stdout is not None
        variable, _, url = process.stdout.readline().strip().partition("=")
        assert variable == "HF_ENDPOINT"
        assert get(f"{url}/org/open/resolve/main/config.json")[0] == 503
        assert json.loads(get(f"{url}/org/open/resolve/main/config.json")[2]) == {"model_type": "vit"}
    finally:
        process.terminate()
        process.communicate(timeout=10)
