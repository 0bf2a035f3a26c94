"""Datasets of the Hub that do not fit on the disk: each file fetched from the Hub on loopback, decoded and removed."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from tests.data.sources.shards.tars import described, samples, write_tar
from tests.data.sources.streamed.process import ask, started
from tests.hub_server import repos
from tests.hub_server.fixture import Hub

pytestmark = pytest.mark.e2e

TRAIN = [f"data/train-{number:06d}.tar" for number in range(4)]
WDS = ["data/test-000000.tar", *TRAIN]  # of 20,480 bytes each
LIMIT = "45kB"  # two of them


@pytest.fixture
def wds(hub: Hub) -> Path:
    repo = hub.folder / "datasets/org/wds"
    for number, name in enumerate(WDS):
        write_tar(repo / name, samples(6, first=50 * number))
    (repo / "classnames.txt").write_text("cat\ndog\n")
    (repo / "README.md").write_text("---\nlicense: mit\n---\n")
    return repo


@pytest.fixture
def table(hub: Hub) -> Path:
    repo = repos.parquet_dataset(hub.folder, "org/table", {"train": 10, "test": 2}, ("square", "circle"))
    whole = pq.read_table(repo / "data/train-00000-of-00001.parquet")
    (repo / "data/train-00000-of-00001.parquet").unlink()
    for number in range(4):
        part = whole.slice(5 * number, 5)
        pq.write_table(part, repo / f"data/train-0000{number}-of-00004.parquet")
    return repo


@pytest.fixture
def several(hub: Hub) -> Path:
    """A label column of lists, two of 0 and 1, and a group."""
    repo = hub.folder / "datasets/org/several"
    for number in range(3):
        members = described(
            8,
            tags=lambda n: ["a", "b"][n % 2 :],
            red=lambda n: n % 2,
            old=lambda n: n // 4,
            house=lambda n: f"{n // 2}",
        )
        write_tar(repo / f"train-{number:03d}.tar", [(f"{number}{name}", data) for name, data in members])
    return repo


@pytest.fixture
def grey(hub: Hub) -> Path:
    """Twelve-bit grey images in the second of three files."""
    repo = hub.folder / "datasets/org/grey"
    for number in range(3):
        members = [(f"{number}{name}", data) for name, data in samples(8, first=20 * number)]
        if number == 1:
            members = [(name.replace("jpg", "png"), _png(n)) if "jpg" in name else (name, data)
                       for n, (name, data) in enumerate(members)]  # fmt: skip
        write_tar(repo / f"train-{number:03d}.tar", members)
    return repo


def _png(number: int) -> bytes:
    values = np.linspace(0, 4095, 40 * 30).reshape(30, 40).astype(np.uint16) ^ number
    held = io.BytesIO()
    Image.fromarray(values).save(held, "PNG")
    return held.getvalue()


def compared(hub: Hub, tmp_path: Path, **fields: Any) -> dict[str, Any]:
    """What is found by streaming, once it was found to be the dataset that is found with all files at hand."""
    limit = fields.pop("download_limit")
    (whole,) = ask(hub, {**fields, "cache_dir": str(tmp_path / "whole")}, home=tmp_path / "home")
    (found,) = ask(hub, {**fields, "cache_dir": str(tmp_path / "cache"), "download_limit": limit})
    assert isinstance(found, dict), found
    assert isinstance(whole, dict), whole
    assert (whole["streamed"], found["streamed"]) == (False, True)
    for what in ("index", "value_range", "pixels"):
        assert found[what] == whole[what]
    return found


@pytest.mark.usefixtures("wds")
def test_shards_are_decoded_one_by_one_into_the_store_that_all_of_them_make(hub: Hub, tmp_path: Path) -> None:
    fields = {"name": "org/wds", "download_limit": LIMIT, "side": 24}
    found = compared(hub, tmp_path, **fields)
    assert found["files"] == [*WDS, *WDS]  # once for labels, once for all views together
    assert found["most"] == [2, 40_960] and found["left"] == []
    assert found["notes"][-1] == "read file by file: its 5 files of 102 kB do not fit in 45 kB (data.download_limit)"
    before = len(hub.requests)
    (again,) = ask(hub, {**fields, "cache_dir": str(tmp_path / "cache")}, offline=True)
    assert (again["index"], again["pixels"], again["files"]) == (found["index"], found["pixels"], [])
    assert len(hub.requests) == before


@pytest.mark.usefixtures("table")
def test_parquet_is_numbered_as_datasets_does(hub: Hub, tmp_path: Path) -> None:
    found = compared(hub, tmp_path, name="org/table", download_limit="30kB", ignore_splits=["test"])
    files = [f"data/train-0000{number}-of-00004.parquet" for number in range(4)]
    assert found["files"] == [*files, *files] and found["most"][1] <= 30_000
    assert {name for name, _ in found["index"]["rows"]["train"]} <= {f"train row {number}" for number in range(20)}
    assert "splits not used" in found["notes"]


def test_no_file_of_this_machine_is_read_for_a_row(hub: Hub, table: Path, tmp_path: Path) -> None:
    mine = tmp_path / "mine.jpg"
    mine.write_bytes(repos.jpeg(1, 0))
    part = table / "data/train-00001-of-00004.parquet"
    read = pq.read_table(part)
    images = read["image"].to_pylist()
    images[2] = {"bytes": None, "path": str(mine)}
    at = read.column_names.index("image")
    column = pa.array(images, read.schema.field("image").type)
    pq.write_table(read.set_column(at, read.schema.field("image"), column), part)
    fields = {"name": "org/table", "max_bad_share": 0.2, "cache_dir": str(tmp_path / "cache")}
    (found,) = ask(hub, {**fields, "download_limit": "30kB"})
    told = f"train row 7 ({mine})", "train", "its image is a file of its own, which is not fetched"
    assert found["index"]["rejected"] == [list(told)] and sum(map(len, found["index"]["rows"].values())) == 23


@pytest.mark.usefixtures("several")
def test_lists_several_columns_and_groups_are_written_down(hub: Hub, tmp_path: Path) -> None:
    for columns in (["tags"], ["red", "old"]):
        fields: dict[str, Any] = {"name": "org/several", "label_column": columns, "group_column": "house"}
        found = compared(hub, tmp_path, **fields, download_limit="60kB")
        (again,) = ask(hub, {**fields, "cache_dir": str(tmp_path / "cache")}, offline=True)
        assert isinstance(again, dict), again
        assert again["index"] == found["index"] and sum(map(len, again["index"]["rows"].values())) == 24


@pytest.mark.usefixtures("grey")
def test_the_listing_knows_which_files_hold_high_bit_images(hub: Hub, tmp_path: Path) -> None:
    found = compared(hub, tmp_path, name="org/grey", download_limit="60kB")
    assert (found["value_range"], set(found["looked"])) == ([0.0, 4095.0], {"train-001.tar"})
    (again,) = ask(hub, {"name": "org/grey", "cache_dir": str(tmp_path / "cache")}, offline=True)
    assert isinstance(again, dict), again
    assert (again["value_range"], again["files"], again["pixels"]) == ([0.0, 4095.0], [], found["pixels"])


@pytest.mark.usefixtures("wds")
def test_a_killed_listing_and_a_killed_build_go_on_with_the_file_that_they_had_in_hand(
    hub: Hub, tmp_path: Path
) -> None:
    fields = {"name": "org/wds", "download_limit": LIMIT, "side": 24, "cache_dir": str(tmp_path / "cache")}
    (whole,) = ask(hub, {**fields, "cache_dir": str(tmp_path / "other")})
    ask(hub, fields, killed_at=3)  # in the listing
    ask(hub, fields, killed_at=3 + 3)  # in the build
    (found,) = ask(hub, fields)
    assert (found["index"], found["pixels"]) == (whole["index"], whole["pixels"])
    assert found["files"] == WDS[2:] and found["left"] == []


@pytest.mark.usefixtures("wds")
def test_a_lost_connection_is_said_and_gone_on_from(hub: Hub, tmp_path: Path) -> None:
    fields = {"name": "org/wds", "download_limit": LIMIT, "cache_dir": str(tmp_path / "cache")}
    hub.server.faults.add("500", r"GET .*train-000002\.tar", times=100, skip=0)
    (said,) = ask(hub, fields)
    assert isinstance(said, str) and "Server error '500" in said
    assert said.endswith("try again later, or check the network: what was read and decoded is kept")
    hub.server.faults.clear()
    (found,) = ask(hub, fields)
    assert found["files"] == [*TRAIN[2:], *WDS] and found["built"]  # two files of five were listed


@pytest.mark.usefixtures("wds")
def test_two_at_once_take_turns(hub: Hub, tmp_path: Path) -> None:
    fields = {"name": "org/wds", "download_limit": LIMIT, "cache_dir": str(tmp_path / "cache")}
    pair = [started(hub, fields), started(hub, fields)]
    outputs = [process.communicate(timeout=120) for process in pair]
    assert [process.returncode for process in pair] == [0, 0], outputs
    downloads = [path for method, path, _ in hub.requests if method == "GET" and path.endswith(".tar")]
    assert sorted(path.rpartition("/")[2] for path in downloads) == sorted([Path(name).name for name in WDS] * 2)


@pytest.mark.usefixtures("wds")
def test_limits_that_cannot_be_kept_are_said(hub: Hub, tmp_path: Path) -> None:
    repos.zipped_dataset(hub.folder, "org/zipped", {"all": (40, 30)}, ("a", "b"), 6)
    cache = {"cache_dir": str(tmp_path / "cache")}
    file, store, zipped = ask(
        hub,
        {"name": "org/wds", "download_limit": "20kB", **cache},
        {"name": "org/wds", "download_limit": LIMIT, "store_limit": "30kB", **cache},
        {"name": "org/zipped", "download_limit": "2kB", **cache},
    )
    assert file.startswith("data.download_limit: room for the largest file at least is expected, found 20 kB: data/te")
    assert "data.store_limit: room for all decoded images is expected, since the files of org/wds are removed" in store
    assert "the store would take 92.2 kB and data.store_limit leaves 30 kB" in store
    assert "data.download_limit: org/zipped takes" in zipped and "cannot be fetched one by one" in zipped


def write_parts(hub: Hub, name: str, splits: dict[str, list[dict[str, Any]]], card: str = "", **types: Any) -> None:
    """A dataset of Parquet files, one for each table of a split; `types`: features of columns, in the files alone."""
    repo = hub.folder / "datasets" / name
    (repo / "data").mkdir(parents=True)
    number = 0
    for split, tables in splits.items():
        for place, table in enumerate(tables):
            rows = len(next(iter(table.values())))
            images = [{"bytes": repos.jpeg(100 * number + n, n % 2), "path": f"{n}.jpg"} for n in range(rows)]
            number += 1
            features = {"image": {"_type": "Image"}, **{key: form for key, form in types.items() if key in table}}
            made = pa.table({"image": images, **table})
            made = made.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
            pq.write_table(made, repo / f"data/{split}-0000{place}-of-0000{len(tables)}.parquet")
    (repo / "README.md").write_text(card)


CLASSES = {"names": ["ants", "bees"], "_type": "ClassLabel"}
BY_NAME = ["ants", "bees"] * 6
NUMBERS = [0, 1] * 6
CARD = """---
configs:
- config_name: {name}
  default: true
  data_files: data/train-*
dataset_info:
- config_name: {name}
  features:
  - name: image
    dtype: image
  - name: label
    dtype:
      class_label:
        names:
          '0': {first}
          '1': {second}
---
"""


def test_a_column_beside_the_files_own_splits_is_none(hub: Hub, tmp_path: Path) -> None:
    odd = ["train", "test", "validation"] * 4
    parts = {"train": [{"label": NUMBERS, "split": odd}] * 3, "test": [{"label": NUMBERS, "split": odd}]}
    write_parts(hub, "org/beside", parts, label=CLASSES)
    found = compared(hub, tmp_path, name="org/beside", download_limit="20kB")
    assert len(found["index"]["rows"]["test"]) == 12


def test_names_of_classes_are_those_that_the_card_states(hub: Hub, tmp_path: Path) -> None:
    card = CARD.format(name="small", first="Formicidae", second="Anthophila")
    write_parts(hub, "org/carded", {"train": [{"label": NUMBERS}] * 4}, card)
    found = compared(hub, tmp_path, name="org/carded", download_limit="20kB")
    assert found["index"]["labels"] == ["Formicidae", "Anthophila"]


def test_lists_of_classes_have_their_names(hub: Hub, tmp_path: Path) -> None:
    several = {"feature": CLASSES, "_type": "List"}
    write_parts(hub, "org/lists", {"train": [{"label": [[0], [1], [0, 1]] * 4}] * 4}, label=several)
    found = compared(hub, tmp_path, name="org/lists", download_limit="20kB")
    assert found["index"]["labels"] == ["ants", "bees"]


@pytest.mark.parametrize(
    ("tables", "card", "said"),
    [
        ([{"label": NUMBERS}] * 3 + [{"label": [True, False] * 6}], "", "whole numbers are expected in column 'label'"),
        ([{"label": BY_NAME}] * 4, CARD.format(name="a", first="bees", second="ants"), "found texts"),
        (
            [{"label": BY_NAME, "part": ["train"] * 12}] * 3 + [{"label": BY_NAME, "part": ["test", "validation"] * 6}],
            "",
            "data.split_column: it is expected to be named where files are read one by one, found 'part' in org/parts",
        ),
    ],
    ids=["types", "card", "splits"],
)
def test_what_only_all_files_together_say_is_refused(
    hub: Hub, tmp_path: Path, tables: list[dict[str, Any]], card: str, said: str
) -> None:
    write_parts(hub, "org/parts", {"train": tables}, card)
    (found,) = ask(hub, {"name": "org/parts", "download_limit": "20kB", "cache_dir": str(tmp_path / "cache")})
    assert isinstance(found, str) and said in found and "raise data.download_limit" in found


def test_a_named_column_of_splits_is_read_and_blanks_are_refused(hub: Hub, tmp_path: Path) -> None:
    named = [{"label": BY_NAME, "part": ["train"] * 12}] * 3 + [{"label": BY_NAME, "part": ["test", "validation"] * 6}]
    blank = [{"label": BY_NAME, "part": [""] * 12}] * 3 + [{"label": BY_NAME, "part": ["test", "validation"] * 6}]
    write_parts(hub, "org/blank", {"train": blank})
    write_parts(hub, "org/texts", {"train": named})
    found = compared(hub, tmp_path, name="org/texts", split_column="part", download_limit="20kB")
    assert [len(found["index"]["rows"][split]) for split in ("train", "validation", "test")] == [36, 6, 6]
    fields = {"split_column": "part", "download_limit": "20kB", "cache_dir": str(tmp_path / "cache")}
    (said,) = ask(hub, {"name": "org/blank", **fields})
    assert "data.split_column: a split in every row is expected" in said and "found 36 rows" in said


@pytest.mark.usefixtures("wds")
def test_half_a_file_of_a_killed_fetch_is_removed(hub: Hub, tmp_path: Path) -> None:
    fields = {"name": "org/wds", "download_limit": LIMIT, "cache_dir": str(tmp_path / "cache")}
    ask(hub, fields, killed_at=2)
    (place,) = (tmp_path / "cache/store").glob("*/files/.cache/huggingface/download")
    (place / "x.1234.incomplete").write_bytes(b"half")
    (found,) = ask(hub, fields)
    assert found["built"] and not list(tmp_path.rglob("*.incomplete"))
