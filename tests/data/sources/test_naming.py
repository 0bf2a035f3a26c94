"""What `data.name` may mean, the built-in digits, and what importing the index costs."""

from __future__ import annotations

import io
import pickle
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from hf_finetune.data.config import Data
from hf_finetune.data.index.scan import scan
from hf_finetune.data.sources.digits import read_values
from hf_finetune.errors import DataError
from tests.data.pictures import class_folders


def refusal(name: str, **fields: Any) -> str:
    with pytest.raises(DataError) as caught:
        scan(Data(name=name, **fields), seed=0)
    return str(caught.value)


def test_a_missing_path_names_its_siblings(tmp_path: Path) -> None:
    class_folders(tmp_path / "Trashnet", {"a": 1})
    (tmp_path / "table.csv").write_text("x")
    assert refusal(str(tmp_path / "trashnte")) == (
        f"data.name: a folder, table file, tar shard or Hub id is expected, found nothing at {tmp_path}/trashnte\n"
        f"  did you mean {tmp_path}/Trashnet?"
    )
    assert refusal(str(tmp_path / "zzz/data")).endswith(f"\n  {tmp_path} exists and holds Trashnet, table.csv")
    assert refusal(str(tmp_path / "tabel.csv")).endswith(f"\n  did you mean {tmp_path}/table.csv?")


def test_a_relative_path_is_taken_from_the_working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class_folders(tmp_path / "mine/pets", {"a": 10, "b": 10})
    monkeypatch.chdir(tmp_path)
    found = scan(Data(name="mine/pets"), seed=0)
    monkeypatch.chdir("/")
    assert found.reader.read(found.splits["train"][0].locator)


def test_archives_and_other_files_are_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "pets.zip", "w") as file:
        file.writestr("a/1.jpg", "x")
    assert refusal(str(tmp_path / "pets.zip")) == (
        f"data.name: a folder, a table file or a tar shard is expected, found the archive {tmp_path}/pets.zip\n"
        "  unpack it and set data.name to the folder"
    )
    (tmp_path / "notes.xlsx").write_text("x")
    assert refusal(str(tmp_path / "notes.xlsx")) == (
        f"data.name: a table file ending in .csv, .tsv, .jsonl, .parquet is expected, found {tmp_path}/notes.xlsx\n"
        "  give the folder that holds the class folders, or a table with an image column and a label column"
    )


def test_an_unknown_builtin_is_refused() -> None:
    assert refusal("builtin:mnist").splitlines()[0] == (
        "data.name: builtin:digits is the one built-in dataset, found builtin:mnist"
    )


@pytest.mark.e2e
def test_the_digits_are_all_there_as_grey_pngs() -> None:
    found = scan(Data(), seed=0)
    assert found.labels.names == tuple("0123456789")
    assert {split: len(rows) for split, rows in found.splits.items()} == {"train": 1257, "validation": 270, "test": 270}
    assert found.licence == "cc-by-4.0"
    values, targets = load_digits(return_X_y=True)
    reader = pickle.loads(pickle.dumps(found.reader))
    for row in [*found.splits["train"][:50], *found.splits["test"][:50]]:
        number = int(row.name.removeprefix("digit "))
        image = Image.open(io.BytesIO(reader.read(row.locator)))
        assert (image.format, image.mode, image.size) == ("PNG", "L", (8, 8))
        assert np.array_equal(np.asarray(image).ravel(), np.round(values[number] * 255 / 16))
        assert row.label == targets[number]


def test_the_digits_file_is_what_scikit_learn_loads() -> None:
    values, targets = read_values()
    expected_values, expected_targets = load_digits(return_X_y=True)
    assert np.array_equal(values, expected_values)
    assert np.array_equal(targets, expected_targets)


@pytest.mark.e2e
def test_scanning_imports_neither_torch_nor_datasets_nor_scikit_learn(tmp_path: Path) -> None:
    class_folders(tmp_path, {"a": 10, "b": 10})
    (tmp_path.parent / "light.csv").write_text(f"path,label\n{tmp_path}/a/0.jpg,x\n{tmp_path}/b/10.jpg,y\n")
    code = f"""
import sys
from hf_finetune.data.config import Data
from hf_finetune.data.index.scan import scan
for name, share in (("builtin:digits", .1), ({str(tmp_path)!r}, .1), ({str(tmp_path.parent / "light.csv")!r}, 0)):
    index = scan(Data(name=name, validation_share=share, test_share=share), seed=0)
    assert index.reader.read(index.splits["train"][0].locator)
heavy = {{"torch", "datasets", "sklearn", "pandas", "pyarrow", "transformers"}} & set(sys.modules)
assert not heavy, heavy
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=Path(__file__).parents[3])
    assert done.returncode == 0, done.stderr


def test_twenty_thousand_files_in_two_thousand_classes_take_seconds(tmp_path: Path) -> None:
    import time

    for label in range(2000):
        folder = tmp_path / f"class {label:04d}"
        folder.mkdir()
        for number in range(10):
            (folder / f"{number}.jpg").write_bytes(b"%d %d" % (label, number))
    start = time.process_time()
    found = scan(Data(name=str(tmp_path)), seed=0)
    assert time.process_time() - start < 10  # 1 s where it was written
    assert len(found.labels.names) == 2000
    assert [len(rows) for rows in found.splits.values()] == [14_000, 3_000, 3_000]
