"""An adapter of the Hub as a start: found online, then offline; each refusal of the Hub in our words."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.adapters.starting.foreign import edit, former, give_labels, rename, save_foreign
from tests.hub_server import repos
from tests.hub_server.fixture import Hub

REPO = Path(__file__).resolve().parents[3]
NAMES = ("1", "grün", "n⁄a")
pytestmark = [
    pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning"),
    pytest.mark.e2e,
]


@pytest.fixture
def adapter(hub: Hub) -> Path:
    """`user/other` of `org/tiny-vit`, both on the Hub; stock PEFT's files, made with transformers 4."""
    base = repos.transformers_vit(hub.folder, "org/tiny-vit")
    made = save_foreign(base, hub.folder / "models" / "user" / "other", name="org/tiny-vit")
    (made / "training_args.bin").write_bytes(b"never fetched")
    return give_labels(rename(made, former, ["query", "value"]), NAMES)


def train(hub: Hub, photos: Path, out: Path, *overrides: str, offline: bool = False) -> tuple[int, str]:
    recipe = out.with_suffix(".yaml")
    recipe.write_text(
        f"model: {{name: org/tiny-vit}}\ndata: {{name: {photos}, validation_share: 0.2}}\nladder: [probe]\n"
        f"train: {{effective_batch_size: 16, decode_workers: 1}}\noutput: {{dir: {out}}}\n"
    )
    command = [sys.executable, "-m", "hf_finetune", "train", str(recipe), *overrides]
    done = subprocess.run(
        command, env=hub.env(offline=offline), capture_output=True, text=True, timeout=300, check=False
    )
    return done.returncode, done.stderr


def test_a_run_from_the_hub_and_again_without_it(hub: Hub, adapter: Path, photos: Path, tmp_path: Path) -> None:
    code, said = train(hub, photos, tmp_path / "online", "adapter.from=user/other")
    assert code == 0, said
    start = json.loads((tmp_path / "online" / "run.json").read_text("utf-8"))["model"]["start"]
    commit = start["commit"]
    assert (start["name"], len(commit)) == ("user/other", 40)
    assert f"Starting from user/other at {commit} (rank 4); its head is kept" in said
    card = (tmp_path / "online" / "adapter" / "README.md").read_text("utf-8")
    assert f"Started from user/other at commit `{commit}`" in card
    assert not any("training_args.bin" in path for _, path, _ in hub.requests)
    before = len(hub.requests)
    code, said = train(hub, photos, tmp_path / "offline", "adapter.from=user/other", offline=True)
    assert code == 0, said
    pinned = f"user/other@{commit}"
    assert fetch([pinned, f"user/other@{commit[::-1]}"], hub.env(offline=True)) == {
        pinned: [commit],
        f"user/other@{commit[::-1]}": [
            f"adapter.from: 'user/other' at revision '{commit[::-1]}' is not in this machine's Hub cache, and "
            "HF_HUB_OFFLINE is set",
            "unset HF_HUB_OFFLINE, or fetch it once with `hf download user/other`, or give a folder",
        ],
    }
    assert len(hub.requests) == before
    again = json.loads((tmp_path / "offline" / "run.json").read_text("utf-8"))["model"]["start"]
    assert again == start
    # the same name at another commit is another start
    edit(adapter, base_model_name_or_path="org/another")
    code, said = train(hub, photos, tmp_path / "moved", "adapter.from=user/other")
    assert code == 2
    assert "adapter.from: 'user/other' was trained on 'org/another', but model.name is 'org/tiny-vit'" in said


FETCH = """
import json, sys
from hf_finetune.adapters.starting.fetch import fetch_adapter
from hf_finetune.errors import AdapterError
found = {}
for name in sys.argv[1:]:
    try:
        found[name] = [str(fetch_adapter(name).commit)]
    except AdapterError as error:
        found[name] = [error.message, error.hint]
print(json.dumps(found))
"""


def fetch(names: list[str], env: dict[str, str]) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-c", FETCH, *names],
        env=env,
        capture_output=True,
        text=True,
        timeout=120,
        cwd=REPO,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_each_refusal_of_the_hub_says_what_to_do(hub: Hub, adapter: Path) -> None:
    models = hub.folder / "models"
    for name in ("gated", "private", "pickle", "half", "model"):
        shutil.copytree(adapter, models / "user" / name)
    for name in ("gated", "private"):
        repos.restrict(models / "user" / name, name)
    (models / "user" / "pickle" / "adapter_model.safetensors").rename(models / "user" / "pickle" / "adapter_model.bin")
    (models / "user" / "half" / "adapter_model.safetensors").unlink()
    names = ["user/none", "user/gated", "user/private", "user/other@v9", "user/pickle", "user/half", "org/tiny-vit"]
    said = fetch([*names, "user/other", "user/other@main"], hub.env())
    log_in = "log in with `hf auth login`"
    assert {name: said[name] for name in names} == {
        "user/none": [
            "adapter.from: 'user/none' is neither a folder here nor a model on the Hub",
            "check the spelling; a private one needs `hf auth login`",
        ],
        "user/gated": [
            "adapter.from: 'user/gated' is gated on the Hub and this machine has no access",
            f"accept its terms at {hub.url}/user/gated and {log_in}",
        ],
        "user/private": [
            "adapter.from: 'user/private' is neither a folder here nor a model on the Hub",
            "check the spelling; a private one needs `hf auth login`",
        ],
        "user/other@v9": [
            "adapter.from: 'user/other' has no branch, tag or commit 'v9'",
            f"see {hub.url}/user/other/commits/main",
        ],
        "user/pickle": [
            "adapter.from: 'user/pickle' holds its weights only as adapter_model.bin, a pickle, which can run any code "
            "when it is read",
            "ask its author for adapter_model.safetensors (PEFT writes it unless told otherwise)",
        ],
        "user/half": [
            "adapter.from: 'user/half' holds no adapter_model.safetensors",
            "it is incomplete: fetch or save it again",
        ],
        "org/tiny-vit": [
            "adapter.from: 'org/tiny-vit' is a whole model, not an adapter",
            "set model.name=org/tiny-vit instead",
        ],
    }
    assert said["user/other"] == said["user/other@main"]
    assert len(said["user/other"][0]) == 40
    # what was fetched once is found where the Hub is out of reach, and the rest is said
    away = hub.env() | {"HF_ENDPOINT": "http://127.0.0.1:9", "HF_HUB_ETAG_TIMEOUT": "2"}
    out_of_reach = fetch(["user/other", "user/none"], away)
    assert out_of_reach["user/other"] == said["user/other"]
    assert out_of_reach["user/none"] == [
        "adapter.from: 'user/none' is not in this machine's Hub cache, and the Hub cannot be reached",
        "check the network, or fetch it once with `hf download user/none`, or give a folder",
    ]
