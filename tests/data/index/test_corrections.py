"""A table of corrections: what it does to an index, and every way in which it can be wrong."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest

from hf_finetune.data.config import Data
from hf_finetune.data.index.corrections import read_corrections
from hf_finetune.data.index.scan import scan, scan_named, scan_split
from hf_finetune.errors import DataError
from hf_finetune.labels import Reading
from hf_finetune.types import Index
from tests.data.pictures import class_folders, put


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    return class_folders(tmp_path / "photos", {"train/cat": 5, "train/dog": 5, "test/cat": 2, "test/dog": 2})


def written(tmp_path: Path, text: str, name: str = "findings.csv") -> str:
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    return str(path)


def labels(index: Index, split: str) -> dict[str, str]:
    return {row.name: index.labels.names[int(row.label)] for row in index.splits[split]}  # type: ignore[index,arg-type]


def corrected(photos: Path, table: str, **keys: object) -> Index:
    config = Data(name=str(photos), validation_share=0, test_share=0, corrections=table, **keys)  # type: ignore[arg-type]
    return scan(config, seed=0)


def test_rows_are_left_out_and_relabelled_and_no_file_is_touched(photos: Path, tmp_path: Path) -> None:
    before = {path: path.read_bytes() for path in photos.rglob("*.jpg")}
    table = written(
        tmp_path,
        "path,finding,score,action,label\n"
        "train/cat/0.jpg,exact duplicate,1,exclude,\n"
        "train/cat/1.jpg,suspected label,.9,relabel,dog\n"
        "train/cat/2.jpg,suspected label,.9,keep,dog\n"
        "test/dog/12.jpg,suspected label,.9,,\n",
    )
    index = corrected(photos, table)
    found = labels(index, "train")
    assert "train/cat/0.jpg" not in found and len(found) == 9
    assert (found["train/cat/1.jpg"], found["train/cat/2.jpg"]) == ("dog", "cat")
    assert len(index.splits["test"]) == 4
    assert "corrections: 1 row left out, 1 label changed" in [note.text for note in index.notes]
    assert {path: path.read_bytes() for path in photos.rglob("*.jpg")} == before


def test_what_scores_a_result_later_reads_the_corrections_too(photos: Path, tmp_path: Path) -> None:
    table = written(tmp_path, "path,action,label\ntest/cat/10.jpg,exclude,\ntest/cat/11.jpg,relabel,dog\n")
    config = Data(name=str(photos), corrections=table)
    assert labels(scan_split(config, "test"), "test") == {
        "test/cat/11.jpg": "dog", "test/dog/12.jpg": "dog", "test/dog/13.jpg": "dog",
    }  # fmt: skip
    wanted = {"test/cat/11.jpg", "test/dog/12.jpg"}
    index, new, _ = scan_named(config, "test", wanted, set(), only=False)
    assert labels(index, "test")["test/cat/11.jpg"] == "dog" and new == ["test/dog/13.jpg"]


def test_corrections_change_what_the_dataset_is_known_by(photos: Path, tmp_path: Path) -> None:
    plain = scan(Data(name=str(photos)), seed=0)
    changed = corrected(photos, written(tmp_path, "path,action\ntrain/cat/0.jpg,exclude\n"))
    kept = corrected(photos, written(tmp_path, "path,action\ntrain/cat/0.jpg,keep\n", "kept.csv"))
    assert changed.revision != plain.revision == kept.revision


def test_names_with_commas_quotes_and_line_breaks_are_found(tmp_path: Path) -> None:
    from hf_finetune.doctor.findings import Finding, table

    names = ('=1/a, "b".jpg', "=1/line\nbreak.jpg", "=1/@c.jpg")
    for number, name in enumerate(names):
        put(tmp_path / "photos" / name, number)
    class_folders(tmp_path / "photos", {"=1": 2, "-dog": 4}, first=10)
    findings = [Finding(name, "train", "=1", "unlike", 0.5, "…", "exclude") for name in names]
    findings.append(Finding("=1/10.jpg", "train", "=1", "suspected label", 0.5, "=2", "relabel", "-dog"))
    text = table(findings)
    assert all(cell[0] not in "=-@" for line in csv.reader(io.StringIO(text)) for cell in line if cell)
    index = corrected(tmp_path / "photos", written(tmp_path, text))
    assert labels(index, "train") | {"=1/10.jpg": "-dog"} == labels(index, "train")
    assert sorted(row.name for row in index.splits["train"] if "=1" in row.name) == ["=1/10.jpg", "=1/11.jpg"]


@pytest.mark.parametrize(
    "form", ["\ufeffpath;action;label\n{};relabel;dog\n", "path\taction\tlabel\n{}\tRelabel\tdog\n"]
)
def test_what_spreadsheets_make_of_it_is_read(form: str, photos: Path, tmp_path: Path) -> None:
    index = corrected(photos, written(tmp_path, form.format("train/cat/0.jpg")))
    assert labels(index, "train")["train/cat/0.jpg"] == "dog"


def test_a_row_that_one_line_excludes_is_excluded(photos: Path, tmp_path: Path) -> None:
    table = written(tmp_path, "path,action,label\ntrain/cat/0.jpg,relabel,dog\ntrain/cat/0.jpg,exclude,\n")
    assert "train/cat/0.jpg" not in labels(corrected(photos, table), "train")


def test_numbers_lists_and_several_columns_are_written_as_the_table_has_them(tmp_path: Path) -> None:
    for number in range(6):
        put(tmp_path / f"{number}.jpg", number)
    lines = "".join(f"{number}.jpg,{number}.5,{number % 2},{1 - number % 2}\n" for number in range(6))
    (tmp_path / "data.csv").write_text(f"image,price,day,night\n{lines}", encoding="utf-8")
    own = {"name": str(tmp_path / "data.csv"), "validation_share": 0, "test_share": 0}
    table = written(tmp_path, "path,action,label\n2.jpg,relabel,99.25\n")
    index = scan(Data(**own, label_column="price", corrections=table), seed=0, reading=Reading("numbers"))
    assert next(row.label for row in index.splits["train"] if row.name == "2.jpg") == (99.25,)
    table = written(tmp_path, 'path,action,label\n2.jpg,relabel,"[1, 1]"\n', "sets.csv")
    index = scan(Data(**own, label_column=("day", "night"), corrections=table), seed=0, reading=Reading("labels"))
    assert next(row.label for row in index.splits["train"] if row.name == "2.jpg") == (1.0, 1.0)
    with pytest.raises(DataError, match=r"a list of 2 is expected as the label in .*, line 2, found 'day'"):
        table = written(tmp_path, "path,action,label\n2.jpg,relabel,day\n", "wrong.csv")
        scan(Data(**own, label_column=("day", "night"), corrections=table), seed=0, reading=Reading("labels"))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("path,label\na,b\n", "found no action among path, label"),
        ("", "found no path and no action among none"),
        ("path,action\ntrain/cat/0.jpg,delete\n", "line 2, found 'delete'"),
        ("path,action\ntrain/cat/0.jpg,exlude\n", "did you mean exclude"),
        ("path,action,label\ntrain/cat/0.jpg,relabel,\n", "a label is expected"),
        ("path,action,label\ntrain/cat/0.jpg,relabel,dgo\n", "did you mean 'dog'"),
        ("path,action,label\ntrain/cat/0.jpg,relabel,horse\n", "there are 'cat', 'dog'"),
        ("path,action\nTrain/cat/0.jpg,exclude\n", "did you mean 'train/cat/0.jpg'"),
        ("path,action,label\ntrain/cat/0.jpg,relabel,dog\ntrain/cat/0.jpg,relabel,cat\n", "one label is expected"),
    ],
)
def test_what_is_wrong_with_a_table_is_told(text: str, said: str, photos: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError) as error:
        corrected(photos, written(tmp_path, text))
    assert str(error.value).startswith("data.corrections: ") and said in str(error.value)


def test_a_table_that_is_not_there_or_no_text_is_told(photos: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"which cannot be read: No such file"):
        corrected(photos, str(tmp_path / "none.csv"))
    (tmp_path / "image.csv").write_bytes(b"\xff\xd8\xff\xe0")
    with pytest.raises(DataError, match="UTF-8 is expected"):
        corrected(photos, str(tmp_path / "image.csv"))


def test_rows_that_the_source_itself_rejects_can_be_left_out(tmp_path: Path) -> None:
    put(tmp_path / "0.jpg", 0)
    put(tmp_path / "1.jpg", 1)
    (tmp_path / "data.csv").write_text("image,label\n0.jpg,a\n1.jpg,b\nmissing.jpg,a\n", encoding="utf-8")
    own = {"name": str(tmp_path / "data.csv"), "validation_share": 0, "test_share": 0, "max_bad_share": 0.5}
    (before,) = scan(Data(**own), seed=0).rejected
    table = written(tmp_path, f"path,action\n{before.name},exclude\n")
    assert scan(Data(**own, corrections=table), seed=0).rejected == ()


def test_lines_know_where_they_stand(tmp_path: Path) -> None:
    table = written(tmp_path, 'path,action\n\n"two\nlines",exclude\nb,keep\n')
    assert [(each.path, each.line) for each in read_corrections(Path(table))] == [("two\nlines", 4), ("b", 5)]
