"""Samples that cannot be used: rejected rows with why; what is beside samples; names that are only names."""

from __future__ import annotations

import io
import os
import tarfile
import tracemalloc
from pathlib import Path

import pytest

from hf_finetune.data.sources.shards.samples import (
    MOST_CELL_BYTES,
    MOST_IMAGE_BYTES,
    Sample,
    Wanted,
    key_and_ending,
    read_samples,
)
from hf_finetune.data.sources.shards.shards import LOOKED_AT_SAMPLES
from tests.data.pictures import jpeg, read_all
from tests.data.sources.scanning import WHOLE, index, notes, refusal, sizes
from tests.data.sources.shards.tars import described, samples, write_tar


def rejected(path: Path, files: list[tuple[str, bytes]], **fields: object) -> dict[str, str]:
    """Why which of these files' samples are rejected, beside forty good ones."""
    write_tar(path, [(f"good/{name}", data) for name, data in samples(40, first=500)] + files)
    found = index(path, max_bad_share=0.9, **WHOLE, **fields)
    assert len(found.splits["train"]) >= 40
    return {row.name.removeprefix("a.tar/"): row.reason for row in found.rejected}


def test_broken_samples_are_rejected_each_with_its_reason(tmp_path: Path) -> None:
    files = [
        ("lone.jpg", jpeg(1)),
        ("blank.jpg", jpeg(2)),
        ("blank.cls", b" \n"),
        ("none.cls", b"1"),
        ("two.jpg", jpeg(3)),
        ("two.png", jpeg(4)),
        ("two.cls", b"1"),
        ("twice.jpg", jpeg(5)),
        ("twice.jpg", jpeg(6)),
        ("twice.cls", b"1"),
        ("odd.jpg", jpeg(7)),
        ("odd.cls", b"\xff\xfe\x00"),
        ("long.jpg", jpeg(8)),
        ("long.cls", b"1" * (MOST_CELL_BYTES + 1)),
    ]
    assert rejected(tmp_path / "a.tar", files) == {
        "lone.jpg": "no label",
        "blank.jpg": "no label",
        "none": "no image among .cls",
        "two": "several images, .jpg and .png: data.image_column names the ending to use",
        "twice": "two members .jpg",
        "odd": "its .cls cannot be used: it is no text in UTF-8",
        "long": "its .cls cannot be used: 1,000,001 bytes are more than the 1,000,000 that are read",
    }


def test_a_broken_json_is_rejected_with_its_reason(tmp_path: Path) -> None:
    broken = {
        "torn": b'{"label": ',
        "list": b"[1]",
        "deep": b"[" * 200_000,
        "other": b'{"kind": 1}',
        "null": b'{"label": null}',
        "number": b'{"label": ' + b"9" * 5000 + b"}",
    }
    files = [
        (f"{name}.{end}", data) for name, body in broken.items() for end, data in (("jpg", jpeg(7)), ("json", body))
    ]
    good = described(20, label=lambda n: "xy"[n % 2])
    path = write_tar(tmp_path / "a.tar", good + files)
    found = index(path, max_bad_share=0.9, **WHOLE)
    assert len(found.splits["train"]) == 20
    assert {row.name.removeprefix("a.tar/"): row.reason for row in found.rejected} == {
        "torn": "its .json cannot be used: it is no JSON",
        "list": "its .json cannot be used: an object is expected, found list",
        "deep": "its .json cannot be used: it is no JSON",
        "other.jpg": "no label",
        "null.jpg": "no label",
        "number": "its .json cannot be used: it is no JSON",
    }


def test_one_of_several_images_is_chosen_by_its_ending(tmp_path: Path) -> None:
    files = []
    for n in range(8):
        files += [(f"{n}.jpg", jpeg(n)), (f"{n}.seg.png", jpeg(50 + n)), (f"{n}.cls", b"%d" % (n % 2))]
    path = write_tar(tmp_path / "a.tar", files)
    assert refusal(path) == (
        "data.image_column: one image column is expected in ROOT, found jpg and seg.png among jpg (image), "
        "seg.png (image), cls (whole number)\n  set data.image_column to the one to use"
    )
    found = index(path, image_column="seg.png", **WHOLE)
    assert read_all(found.reader, found.splits["train"]) == [jpeg(50 + n) for n in range(8)]
    files[0] = ("0.png", jpeg(0))
    write_tar(path, files)
    found = index(path, image_column="jpg", max_bad_share=0.5, **WHOLE)
    assert [(row.name, row.reason) for row in found.rejected] == [
        ("a.tar/0", "no member .jpg among .png, .seg.png, .cls")
    ]


def test_samples_of_either_ending_and_of_any_order_are_whole(tmp_path: Path) -> None:
    files = samples(LOOKED_AT_SAMPLES + 10)
    files = [(name.replace("0003.jpg", "0003.PNG"), data) for name, data in files]
    ordered = sorted(files, key=lambda file: file[0][::-1])  # all images before all labels, as `tar` of a folder may be
    found = index(write_tar(tmp_path / "a.tar", ordered), **WHOLE)
    assert sizes(found) == {"train": LOOKED_AT_SAMPLES + 10} and found.rejected == ()
    assert sum(row.name.endswith(".png") for row in found.splits["train"]) == 1


def test_a_damaged_shard_costs_its_own_samples_and_a_cut_one_is_refused(tmp_path: Path) -> None:
    good = write_tar(tmp_path / "a-0.tar", samples(20))
    cut = write_tar(tmp_path / "a-1.tar", samples(20, first=50))
    cut.write_bytes(cut.read_bytes()[:10_000])
    damaged = bytearray(write_tar(tmp_path / "a-2.tar", samples(20, first=90)).read_bytes())
    place = damaged.index(b"0004.jpg")
    damaged[place] ^= 1
    (tmp_path / "a-2.tar").write_bytes(damaged)
    assert refusal(tmp_path, max_bad_share=0.5).startswith(
        "data.name: whole tar shards are expected, found ROOT/a-1.tar, which is cut off: the file ends at byte 10,000, "
        "inside the member 00"
    )
    cut.unlink()
    found = index(tmp_path, max_bad_share=0.5, **WHOLE)
    whole = [row.name.partition("/")[0] for row in found.splits["train"]]
    assert whole.count("a-0.tar") == 20 and whole.count("a-2.tar") == 19
    reasons = {row.name: row.reason for row in found.rejected}
    assert reasons["a-2.tar"] == f"a damaged header at byte {place:,}"
    assert reasons["a-2.tar/0004"] == "no image among .cls"
    assert notes(found) == (
        "1 damaged place in tar shards, behind which samples may be lost: get the shards again: "
        f"a-2.tar at byte {place:,}"
    )
    assert read_all(found.reader, found.splits["train"])[:20] == [jpeg(number) for number in range(20)]
    good.write_bytes(good.read_bytes()[:1000])
    with pytest.raises(OSError, match="its shard ends within it, after 0 of"):
        found.reader.read(found.splits["train"][5].locator)


def test_an_image_that_is_no_file_or_too_large_is_rejected(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "a.tar", samples(20))
    with tarfile.open(path, "a") as tar:
        link = tarfile.TarInfo("link.jpg")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/hostname"
        tar.addfile(link)
        for name, data in samples(2)[1::2]:
            member = tarfile.TarInfo(name.replace("000", "link"))
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
        end = tar.offset
    huge = tarfile.TarInfo("huge.jpg")
    huge.size = MOST_IMAGE_BYTES + 512
    label = tarfile.TarInfo("huge.cls")
    label.size = 1
    with path.open("rb+") as file:  # a hole in the file, which takes no disk
        file.seek(end)
        file.write(huge.tobuf())
        file.seek(-(-huge.size // 512) * 512, 1)
        file.write(label.tobuf() + b"1".ljust(512, b"\0") + bytes(1024))
    found = index(path, max_bad_share=0.5, **WHOLE)
    assert len(found.splits["train"]) == 20
    reasons = {row.name: row.reason for row in found.rejected}
    assert reasons["a.tar/link"] == "its image is a link, no file"
    assert reasons["a.tar/huge"] == "its image has 1,000,000,512 bytes, more than the 1,000,000,000 that are read"


def test_a_shard_of_many_samples_is_not_held_in_memory(tmp_path: Path) -> None:
    path = write_tar(
        tmp_path / "a.tar", [(f"{number:06d}.{end}", b"x") for number in range(5000) for end in ("jpg", "cls")]
    )
    tracemalloc.start()
    names = [each.key for each in read_samples(path, Wanted(frozenset({"cls"}))) if isinstance(each, Sample)]
    held = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(names) == 5000 and held < 1_000_000  # 4 MB if all samples waited


def test_what_is_beside_samples_is_counted_and_not_rejected(tmp_path: Path) -> None:
    beside = [
        ("README", b"x"),
        ("./._0001.jpg", b"x"),
        ("notes.md", b"x"),
        ("__meta__.json", b"{}"),
        (".hidden.cls", b"1"),
    ]
    found = index(write_tar(tmp_path / "a.tar", samples(6) + beside), **WHOLE)
    assert found.rejected == ()
    assert notes(found).startswith("5 files ignored in the shards that belong to no image: ")


def test_names_of_any_sort_stay_names(tmp_path: Path) -> None:
    files = [(name.replace("0001", "/../../etc/pässwd\x1b"), data) for name, data in samples(6)]
    found = index(write_tar(tmp_path / "a.tar", files), **WHOLE)
    assert found.splits["train"][1].name == "a.tar//../../etc/pässwd\x1b.jpg"
    assert found.reader.read(found.splits["train"][1].locator) == jpeg(1)


def test_keys_are_cut_at_the_first_dot_of_the_last_part() -> None:
    assert key_and_ending("a.b/c.d.E") == ("a.b/c", "d.e")
    assert key_and_ending("./0001.jpg") == ("./0001", "jpg")
    assert key_and_ending("x") is key_and_ending(".x.jpg") is key_and_ending("a/__key__.txt") is None


@pytest.mark.skipif(os.name == "nt", reason="pipes have no paths there")
def test_a_pipe_among_shards_is_not_waited_for(tmp_path: Path) -> None:
    write_tar(tmp_path / "train-0.tar", samples(4))
    os.mkfifo(tmp_path / "train-1.tar")
    assert "no file (a pipe or a device)" in refusal(tmp_path)
