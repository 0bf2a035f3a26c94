"""Names of folders and files that every system takes; copies that replace nothing."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from hf_finetune.data.sources.given import Given
from hf_finetune.errors import MachineError
from hf_finetune.pipeline.predict.sort import Names, Sorter, folder_names, name_of, safe_name
from hf_finetune.result.predict.stream import Answered


@pytest.mark.parametrize(
    ("label", "folder"),
    [
        ("cat", "cat"),
        ("n/a", "n_a"),
        ("a\\b", "a_b"),
        ("..", "_"),
        (".", "_"),
        ("", "_"),
        ("   ", "_"),
        (".hidden", "_hidden"),
        ("../../etc", "_._.._etc"),
        ("dots...", "dots"),
        ("CON", "CON_"),
        ("con.txt", "con_.txt"),
        ("LPT1", "LPT1_"),
        ("COM¹", "COM¹_"),
        ("console", "console"),
        ("<b>?", "_b__"),
        ("two\nlines", "two_lines"),
        ("\ud800", "_"),
        ("thumbs.db", "thumbs_.db"),
        ("日本", "日本"),
    ],
)
def test_a_class_gets_a_folder_that_every_system_takes(label: str, folder: str) -> None:
    assert safe_name(label).replace("?", "_") == folder
    assert safe_name(label) not in ("", ".", "..")


def test_classes_whose_names_become_the_same_get_folders_of_their_own() -> None:
    assert folder_names(["n/a", "n_a", "N:A", "Cat", "cat", "é", "é"]) == (
        "n_a", "n_a_2", "N_A_3", "Cat", "cat_2", "é", "é_2",
    )  # fmt: skip
    long = ["x" * 300 + end for end in "ab"] + ["日" * 300]
    names = folder_names(long)
    assert len(set(names)) == 3 and all(0 < len(name.encode()) < 130 for name in names)


def test_names_that_are_taken_get_a_number(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_text("mine", "utf-8")
    names = Names()
    taken = [names.take(tmp_path, name).name for name in ("a.jpg", "b.jpg", "a.jpg", "A.jpg", "none")]
    assert taken == ["a_2.jpg", "b.jpg", "a_3.jpg", "A_4.jpg", "none"]
    assert (tmp_path / "a.jpg").read_text("utf-8") == "mine"
    assert [Names().take(tmp_path, "a.jpg").name] == ["a_4.jpg"]  # of another program


def test_images_are_copied_into_the_folder_of_their_class(tmp_path: Path) -> None:
    photo = tmp_path / "photo.jpg"
    Image.new("RGB", (4, 4)).save(photo)
    sorter = Sorter(tmp_path / "sorted", ["n/a", "unlike"], unlike_apart=True)
    given = Answered(Given("photo.jpg", str(photo)))
    made = [
        sorter.copy(given, "n/a", unlike=False),
        sorter.copy(given, "n/a", unlike=False),
        sorter.copy(given, "unlike", unlike=False),
        sorter.copy(given, "n/a", unlike=True),
        sorter.copy(
            Answered(Given("x", "https://host/a/caf%C3%A9%2F..%2Fb.jpg?size=3"), fetched=b"abc"), "n/a", unlike=False
        ),
    ]
    assert [str(path.relative_to(tmp_path / "sorted")) for path in made] == [
        "n_a/photo.jpg", "n_a/photo_2.jpg", "unlike/photo.jpg", "unlike_2/photo.jpg", "n_a/café_.._b.jpg",
    ]  # fmt: skip
    assert made[0].read_bytes() == photo.read_bytes() == made[1].read_bytes()
    assert made[0].stat().st_mtime == photo.stat().st_mtime
    assert made[4].read_bytes() == b"abc" and photo.exists()
    together = Sorter(tmp_path / "together", ["n/a"], unlike_apart=False)
    assert together.copy(given, "n/a", unlike=True).parent.name == "n_a"


def test_a_copy_that_cannot_be_written_is_said_and_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "sorted").write_text("a file", "utf-8")
    sorter = Sorter(tmp_path / "sorted", ["a"], unlike_apart=False)
    with pytest.raises(MachineError, match=r"sorted.a.photo\.jpg cannot be written: (Not a directory|File exists)"):
        sorter.copy(Answered(Given("photo.jpg", "photo.jpg")), "a", unlike=False)
    gone = Sorter(tmp_path / "other", ["a"], unlike_apart=False)
    with pytest.raises(MachineError, match="cannot be written"):
        gone.copy(Answered(Given("gone.jpg", str(tmp_path / "gone.jpg"))), "a", unlike=False)
    assert list((tmp_path / "other" / "a").iterdir()) == []


def test_the_name_of_an_address_is_its_last_part() -> None:
    assert name_of("https://host/photos/a.jpg?x=/b.png#c") == "a.jpg"
    assert name_of("https://host/") == name_of("https://host") == "image"
    assert name_of("photos/a b.jpg") == "a b.jpg"
