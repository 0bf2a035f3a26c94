"""Tars as others make them: damaged, cut off, hostile. Each is a real file, read by the real reader."""

from __future__ import annotations

import gzip
import io
import os
import tarfile
from pathlib import Path

import pytest

from hf_finetune.data.sources.shards.members import BLOCK, MOST_DAMAGES, MOST_HEADER_BYTES, Damage, Member, read_members
from hf_finetune.errors import DataError
from tests.data.sources.shards.tars import samples, write_tar

NAMES = [name for name, _ in samples(4)]


def read(path: Path) -> tuple[list[str], list[Damage]]:
    """The names of whole members, and the damages. Whole members hold what was written."""
    data = path.read_bytes()
    there = dict(samples(4))
    found = list(read_members(path))
    whole = [each for each in found if isinstance(each, Member) and not each.fault]
    for each in whole:
        if each.name in there:
            assert data[each.offset : each.offset + each.size] == there[each.name], each.name
    return [each.name for each in whole], [each for each in found if isinstance(each, Damage)]


def test_places_are_where_the_bytes_are(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "a.tar", samples(4))
    assert read(path) == (NAMES, [])


@pytest.mark.parametrize("format", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_long_names_of_every_format(tmp_path: Path, format: int) -> None:
    name = "/".join(["äöü" * 10] * (2 if format == tarfile.USTAR_FORMAT else 9)) + "/日本 1.jpg"
    path = write_tar(tmp_path / "a.tar", [(name, b"x" * 700), ("b.jpg", b"y")], format)
    found = [each for each in read_members(path) if isinstance(each, Member)]
    assert [each.name for each in found] == [name, "b.jpg"]
    assert path.read_bytes()[found[0].offset :][:701] == b"x" * 700 + b"\0"


def test_what_is_no_file_is_named_and_never_followed(tmp_path: Path) -> None:
    secret = tmp_path / "secret.jpg"
    secret.write_bytes(b"not of the tar")
    path = tmp_path / "a.tar"
    kinds = {
        "link.jpg": tarfile.SYMTYPE,
        "hard.jpg": tarfile.LNKTYPE,
        "device.jpg": tarfile.CHRTYPE,
        "pipe.jpg": tarfile.FIFOTYPE,
        "odd.jpg": b"Z",
        "folder": tarfile.DIRTYPE,
    }
    with tarfile.open(path, "w") as tar:
        for name, kind in kinds.items():
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, str(secret)
            tar.addfile(member)
        member = tarfile.TarInfo("/etc/../good.jpg")
        member.size = 3
        tar.addfile(member, io.BytesIO(b"yes"))
    found = {each.name: each.fault for each in read_members(path) if isinstance(each, Member)}
    assert found == {
        "link.jpg": "a link, no file",
        "hard.jpg": "a link, no file",
        "device.jpg": "a device, no file",
        "pipe.jpg": "a pipe, no file",
        "odd.jpg": "of an unknown kind, no file",
        "/etc/../good.jpg": "",  # a name, and nothing else
    }


def test_a_sparse_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    with (tmp_path / "holes.jpg").open("wb") as file:
        file.seek(5_000_000)
        file.write(b"x")
    if os.system(f"tar --sparse -C '{tmp_path}' -cf '{path}' holes.jpg") != 0:
        pytest.skip("no GNU tar here")
    assert [each.fault for each in read_members(path) if isinstance(each, Member)] == [
        "a sparse file, whose bytes are not in one piece"
    ]


def refused(path: Path) -> str:
    with pytest.raises(DataError) as caught:
        list(read_members(path))
    assert caught.value.hint == "get it again (download it once more), or move it away to train without its images"
    return caught.value.message


def test_a_tar_that_is_cut_off_is_refused_with_the_place_and_the_member(tmp_path: Path) -> None:
    whole = write_tar(tmp_path / "a.tar", samples(4)).read_bytes()
    path = tmp_path / "cut.tar"
    ends = [each.offset + -(-each.size // BLOCK) * BLOCK for each in read_members(tmp_path / "a.tar")
            if isinstance(each, Member)]  # fmt: skip
    for length, inside in (
        (ends[4] + BLOCK + 10, f"the member {NAMES[5]}"),  # in what fills it up
        (ends[3] + BLOCK + 10, f"the member {NAMES[4]}"),
        (ends[4] + 100, "the header of a member"),
    ):
        path.write_bytes(whole[:length])
        assert refused(path) == (
            f"data.name: whole tar shards are expected, found {path}, which is cut off: the file ends at byte "
            f"{length:,}, inside {inside}"
        )


def test_a_tar_that_ends_behind_a_member_says_so(tmp_path: Path) -> None:
    whole = write_tar(tmp_path / "a.tar", samples(4)).read_bytes()
    path = tmp_path / "cut.tar"
    ends = [each.offset + -(-each.size // BLOCK) * BLOCK for each in read_members(tmp_path / "a.tar")
            if isinstance(each, Member)]  # fmt: skip
    for length, names in ((ends[4], NAMES[:5]), (ends[-1], NAMES)):
        path.write_bytes(whole[:length])
        assert read(path) == (names, [Damage(length, "it ends without the mark of an end")])


def test_behind_a_damaged_header_reading_goes_on(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "a.tar", samples(4))
    data = bytearray(path.read_bytes())
    third = next(each for each in read_members(path) if isinstance(each, Member) and each.name == NAMES[2])
    data[third.offset - BLOCK + 5] ^= 255
    path.write_bytes(data)
    assert read(path) == ([*NAMES[:2], *NAMES[3:]], [Damage(third.offset - BLOCK, "a damaged header")])


def test_a_tar_whose_first_header_is_damaged(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "a.tar", samples(4))
    data = bytearray(path.read_bytes())
    data[3] ^= 255
    path.write_bytes(data)
    assert read(path) == (NAMES[1:], [Damage(0, "a damaged header")])
    data[:BLOCK] = bytes(BLOCK)  # which tarfile takes for the end of all
    path.write_bytes(data)
    assert read(path) == (NAMES[1:], [Damage(0, "a damaged header")])


def test_what_is_no_tar_at_all(tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    for data in (b"hello", os.urandom(50_000)):
        path.write_bytes(data)
        assert refused(path).endswith(
            f"{path}, which is no tar, or damaged from byte 0 on: no header of a member is in it"
        )
    path.write_bytes(b"")
    assert refused(path).endswith(f"{path}, which is empty")
    write_tar(path, [])
    assert read(path) == ([], [])


def header(name: str, kind: bytes, size: int) -> bytes:
    """A header with a true sum that says whatever it is told to."""
    made = tarfile.TarInfo(name)
    made.type, made.size = kind, 0
    block = bytearray(made.tobuf(tarfile.GNU_FORMAT))
    block[124:136] = b"\x80" + size.to_bytes(11, "big", signed=True) if size >= 0 else b"\xff" * 11 + b"\x01"
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


HOSTILE = {
    "a name of 8 GB": header("x", tarfile.GNUTYPE_LONGNAME, 1 << 33) + b"n" * BLOCK,
    "attributes beyond the bound": header("x", tarfile.XHDTYPE, MOST_HEADER_BYTES + 1)
    + bytes(MOST_HEADER_BYTES + BLOCK),
    "a negative size": header("x.jpg", tarfile.REGTYPE, -1),
    "attributes within attributes": b"".join(
        header("x", tarfile.XHDTYPE, BLOCK) + b"11 a=bbbbb\n".ljust(BLOCK, b"\0") for _ in range(3000)
    ),
    "attributes that are none": header("x", tarfile.XHDTYPE, 20) + b"99999999999999 a=b\n\n".ljust(BLOCK, b"\0"),
    "a size that is no number": header("x", tarfile.XHDTYPE, 14) + b"14 size=-9999\n".ljust(BLOCK, b"\0")
    + header("x.jpg", tarfile.REGTYPE, 5) + b"12345".ljust(BLOCK, b"\0"),
}  # fmt: skip


@pytest.mark.parametrize("attack", HOSTILE)
def test_a_hostile_header_costs_neither_memory_nor_the_other_members(tmp_path: Path, attack: str) -> None:
    import tracemalloc

    path = tmp_path / "a.tar"
    path.write_bytes(HOSTILE[attack] + write_tar(tmp_path / "b.tar", samples(4)).read_bytes())
    tracemalloc.start()
    names, damages = read(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    if attack == "attributes within attributes":  # given up after so many
        assert (names, len(damages)) == ([], MOST_DAMAGES)
    else:
        assert [name for name in names if name != "x.jpg"] == NAMES
    assert peak < 40_000_000


def test_a_compressed_tar_is_refused_with_the_remedy(tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    path.write_bytes(gzip.compress(write_tar(tmp_path / "b.tar", samples(1)).read_bytes()))
    with pytest.raises(DataError) as caught:
        list(read_members(path))
    assert str(caught.value) == (
        f"data.name: shards that are not compressed are expected, since an image is read at its place; found {path}, "
        "which is gzip\n  `gunzip --keep` makes the plain .tar of it (photos hardly grow), or unpack it into class "
        "folders"
    )
