"""Hub datasets, with the real clients in processes of their own against the Hub on loopback."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.hub_server import repos
from tests.hub_server.fixture import Hub

pytestmark = pytest.mark.e2e

CODE = """
import json, sys
from hf_finetune.data.sources import hub_dataset
from hf_finetune.data.config import Data
from hf_finetune.data.index.scan import scan
from hf_finetune.network.patience import Patience
from hf_finetune.errors import DataError
hub_dataset.PATIENCE = Patience(tries=3, first_s=0.05)
answers = []
for fields in json.loads(sys.argv[1]):
    try:
        index = scan(Data(**fields), seed=0)
    except DataError as error:
        answers.append(str(error))
        continue
    row = index.splits["train"][0]
    answers.append({"commit": index.commit, "licence": index.licence, "revision": index.revision, "cut": index.cut,
        "names": index.labels.names, "sizes": {split: len(rows) for split, rows in index.splits.items()},
        "row": row.name, "start": index.reader.read(row.locator)[:3].hex()})
assert "torch" not in sys.modules
print(json.dumps(answers))
"""


def ask(
    hub: Hub, *fields: dict[str, Any], offline: bool = False, environment: dict[str, str] | None = None
) -> list[Any]:
    process = subprocess.run(
        [sys.executable, "-W", "error", "-c", CODE, json.dumps(fields)],
        env=environment or hub.env(offline=offline),
        cwd=Path(__file__).parents[3],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert process.returncode == 0, process.stderr
    return json.loads(process.stdout.splitlines()[-1])


def test_hub_datasets_are_indexed_online_and_then_from_the_cache(hub: Hub) -> None:
    repos.parquet_dataset(hub.folder, "org/table", {"train": 10, "test": 2}, ("square", "circle"))
    repos.folder_dataset(hub.folder, "org/folder", {"train": 8, "validation": 2}, ("a", "b"))
    online = ask(hub, {"name": "org/table"}, {"name": "org/folder"})
    table, folder = online
    assert len(table["commit"]) == 40
    assert (table["licence"], folder["licence"]) == ("mit", None)
    assert table["names"] == ["square", "circle"]
    assert table["sizes"] == {"train": 17, "validation": 3, "test": 4}
    assert table["cut"] == ["validation"]
    assert folder["sizes"] == {"train": 14, "validation": 4, "test": 2}
    assert table["start"] == folder["start"] == "ffd8ff"
    before = len(hub.requests)
    commit = table["commit"]
    again = ask(hub, {"name": "org/table"}, {"name": "org/folder"}, {"name": "org/table", "revision": commit},
                {"name": "org/table", "revision": "v2"}, {"name": "org/other"}, offline=True)  # fmt: skip
    assert again[:2] == online
    assert again[2]["commit"] == commit
    cached = "because HF_HUB_OFFLINE is set; cached are org/folder, org/table"
    for name, at, answer in (("org/table", " at revision v2", again[3]), ("org/other", "", again[4])):
        assert answer == (
            f"data.name: {name}{at} is expected in the cache, {cached}\n"
            f"  run once without HF_HUB_OFFLINE, or `hf download --repo-type dataset {name}`"
        )
    assert len(hub.requests) == before


def test_what_the_hub_refuses_is_worded(hub: Hub) -> None:
    repos.restrict(repos.parquet_dataset(hub.folder, "org/gated", {"train": 6}, ("a", "b")), "gated")
    repos.parquet_dataset(hub.folder, "org/table", {"train": 6}, ("a", "b"))
    multi = repos.parquet_dataset(hub.folder, "org/multi", {"train": 6}, ("a", "b"))
    (multi / "README.md").write_text(
        "---\nconfigs:\n- config_name: small\n  data_files: data/train-*\n- config_name: large\n  data_files: "
        "data/train-*\n---\n"
    )
    answers = ask(
        hub, {"name": "org/gated"}, {"name": "org/nothing"}, {"name": "org/table", "revision": "v9"},
        {"name": "org/multi"}, {"name": "org/multi", "config": "smal"}, {"name": "org/multi", "config": "small"},
        {"name": "org/table", "label_column": "kind"}, {"name": "org/table", "test_split": "test"},
        {"name": "tests/benchmrks"},
    )  # fmt: skip
    assert answers[5]["sizes"] == {"train": 8, "validation": 2, "test": 2}
    assert [*answers[:5], *answers[6:8]] == [
        "data.name: org/gated is gated on the Hub, and this machine's token has no access to it\n"
        f"  accept its conditions at {hub.url}/datasets/org/gated, then log in with `hf auth login`",
        "data.name: a local folder, table file or Hub dataset is expected, found no org/nothing in any of them\n"
        "  if it is a private dataset, log in with `hf auth login`",
        "data.revision: the dataset org/table has no branch, tag or commit 'v9'\n"
        "  look at its files and versions on the Hub, or set data.revision to null",
        "data.config: org/multi has several configurations, found none named; it has small, large\n"
        "  set data.config to one of these",
        "data.config: org/multi has no configuration 'smal'; it has small, large\n  set data.config to one of these",
        "data.label_column: org/table has no column 'kind', found image (image), label (class)\n"
        "  set data.label_column to one of these",
        "data.test_split: org/table has no split 'test', found train\n  set data.test_split to one of these, or "
        "to null",
    ]
    assert "did you mean" in answers[8]
    assert answers[8].endswith("tests/benchmarks? If it is a private dataset, log in with `hf auth login`")


def test_an_unreachable_hub_says_whether_a_copy_is_cached(hub: Hub) -> None:
    repos.parquet_dataset(hub.folder, "org/table", {"train": 6}, ("a", "b"))
    ask(hub, {"name": "org/table"})
    hub.server.shutdown()
    hub.server.server_close()
    cached, other = ask(hub, {"name": "org/table"}, {"name": "org/other"})
    text = (
        "data.name: the Hub could not be reached for {}: ConnectError: [Errno 111] Connection refused\n"
        "  check the network and try again; it is "
    )
    assert cached == text.format("org/table") + "in the cache: set HF_HUB_OFFLINE=1 to use that copy"
    assert other == text.format("org/other") + "not in the cache either"


def test_a_snapshot_in_the_cache_is_used_when_offline(hub: Hub) -> None:
    commit = "0123456789abcdef0123456789abcdef01234567"
    for name, make in (("table", repos.parquet_dataset), ("folder", repos.folder_dataset)):
        repo = make(hub.folder, f"org/{name}", {"train": 10, "test": 2}, ("x", "y"))
        cached = hub.home / f"hub/datasets--org--{name}"
        (cached / "refs").mkdir(parents=True)
        (cached / "refs/main").write_text(commit)
        (cached / "snapshots").mkdir()
        repo.rename(cached / "snapshots" / commit)
    table, folder = ask(hub, {"name": "org/table", "revision": "main"}, {"name": "org/folder"}, offline=True)
    assert table["commit"] == folder["commit"] == commit
    assert (table["licence"], folder["licence"]) == ("mit", None)
    assert (table["names"], folder["names"]) == (["x", "y"], ["x", "y"])
    assert table["row"] == "data/train-00000-of-00001.parquet row 0"
    assert folder["row"].startswith("train/x/")
    assert table["sizes"] == folder["sizes"] == {"train": 17, "validation": 3, "test": 4}


def test_a_dataset_of_the_hub_names_no_file_of_this_machine(hub: Hub, tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    private = tmp_path / "private.jpg"
    private.write_bytes(repos.jpeg(7, 1))
    repo = repos.parquet_dataset(hub.folder, "org/table", {"train": 10, "test": 2}, ("x", "y"))
    path = repo / "data" / "train-00000-of-00001.parquet"
    table = pq.read_table(path)
    images = table.column("image").to_pylist()
    images[3] = {"bytes": None, "path": str(private)}
    own = pa.array(images, table.schema.field("image").type)
    pq.write_table(table.set_column(table.schema.get_field_index("image"), "image", own), path)
    fields = {"name": "org/table", "max_bad_share": 0.2, "validation_share": 0}
    held, free = ask(hub, fields, {**fields, "inside": False})
    assert (held["sizes"]["train"], free["sizes"]["train"]) == (19, 20)


def test_another_commit_from_the_cache_is_never_used_silently(hub: Hub) -> None:
    repo = repos.parquet_dataset(hub.folder, "org/table", {"train": 6}, ("a", "b"))
    first = ask(hub, {"name": "org/table"})[0]["commit"]
    (repo / "more.txt").write_text("another commit")
    repos.restrict(repo, "gated")  # its files are refused from now on, and `datasets` falls back to what is cached
    answer = ask(hub, {"name": "org/table"})[0]
    assert re.sub("commit [0-9a-f]{40} is", "commit NEW is", answer) == (
        f"data.name: org/table at commit NEW is expected, found only the cached commit {first}, because the Hub "
        f"did not "
        f"give the files\n  try again; to use the cached copy set data.revision={first} and HF_HUB_OFFLINE=1"
    )
    assert ask(hub, {"name": "org/table", "revision": first}, offline=True)[0]["commit"] == first


def test_a_busy_hub_is_asked_again(hub: Hub) -> None:
    class Busy(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_error(503)

        def log_message(self, format: str, *args: object) -> None: ...

    asked: list[str] = []
    with HTTPServer(("127.0.0.1", 0), Busy) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        environment = hub.env() | {"HF_ENDPOINT": f"http://127.0.0.1:{server.server_port}"}
        answer = ask(hub, {"name": "org/table"}, environment=environment)[0]
        server.shutdown()
    assert asked == ["/api/datasets/org/table?blobs=true"] * 3
    assert answer.startswith("data.name: the Hub could not be reached for org/table: HfHubHTTPError: Server error '503")
