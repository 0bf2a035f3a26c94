"""What must not leave this machine is found, and what only looks like it is not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from hf_finetune.hub.leaks import find_leaks

SECRET = "hf_" + "AbCdEfGhIjKlMnOpQrStUvWxYz012345"  # in pieces: a search of this repo finds no token


def leaks(folder: Path, text: str, **options: object) -> list[tuple[str, str]]:
    (folder / "recipe.yaml").write_text(f"first: line\n{text}\n", encoding="utf-8")
    return [(leak.kind, leak.text) for leak in find_leaks(folder, **options)]  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize(
    ("text", "kind", "found"),
    [
        (f"token: {SECRET}", "a token", SECRET),
        (f'"url": "https://user:{SECRET}@host/x"', "a token", SECRET),
        ("key: ghp_" + "a" * 36, "a token", "ghp_" + "a" * 36),
        ("aws: AKIA" + "IOSFODNN7EXAMPLE", "a token", "AKIA" + "IOSFODNN7EXAMPLE"),
        ("-----BEGIN OPENSSH PRIVATE KEY-----", "a token", "-----BEGIN OPENSSH PRIVATE KEY-----"),
        ("by anna.b+x@mail.example.org, 2026", "an e-mail address", "anna.b+x@mail.example.org"),
        ("name: /home/anna/photos", "a path", "/home/anna/photos"),
        ("name: '/Users/anna/My Photos'", "a path", "/Users/anna/My"),
        ("(/content/drive/beans)", "a path", "/content/drive/beans"),
        (r"name: C:\Users\anna\photos", "a path", r"C:\Users\anna\photos"),
        (r'"name": "D:\\photos"', "a path", r"D:\\photos"),
        ("name: ~/photos", "a path", "~/photos"),
        ("file:///srv/x", "a path", "file:///srv/x"),
    ],
)
def test_a_leak_is_found_with_its_line(tmp_path: Path, text: str, kind: str, found: str) -> None:
    assert (kind, found) in leaks(tmp_path, text)
    (leak, *_) = find_leaks(tmp_path)
    assert (leak.file, leak.line) == ("recipe.yaml", 2)


@pytest.mark.parametrize(
    "text",
    [
        "labels: [n/a, and/or, /m/01g317, a@b, 100 %, hf_tiny, '@home', 'A:B', 'c: d']",
        "base: timm/vit_tiny_patch16_224.augreg_in21k_ft_in1k",
        "see https://huggingface.co/home/x and https://example.org/tmp/file",
        "sha256: " + "ab" * 32,
        "Intel(R) Xeon(R) @ 2.20GHz, linux 6.1/x86",
        "weights of `../base` and ./adapter",
    ],
)
def test_ordinary_text_is_no_leak(tmp_path: Path, text: str) -> None:
    assert leaks(tmp_path, text) == []


def test_the_token_in_use_and_folders_of_this_machine_are_found_whatever_they_look_like(tmp_path: Path) -> None:
    text = "token = abc-odd-token, place = /odd/place/run"
    found = leaks(tmp_path, text, secrets=["abc-odd-token"], places=["/odd/place"])
    assert found == [("a token", "abc-odd-token"), ("a path", "/odd/place")]


def test_a_longer_name_is_not_the_folder(tmp_path: Path) -> None:
    assert not leaks(tmp_path, "see hub.co/odd/place2 and /odd/place-b", places=["/odd/place"])


def test_weights_are_searched_in_their_header_and_for_the_token_in_all_bytes(tmp_path: Path) -> None:
    hidden = np.frombuffer(f"....{SECRET}....".encode(), dtype=np.uint8)
    save_file({"weight": hidden}, tmp_path / "model.safetensors", metadata={"by": "/home/anna/run"})
    assert [leak.text for leak in find_leaks(tmp_path)] == ["/home/anna/run"]
    found = find_leaks(tmp_path, secrets=[SECRET])
    assert {(leak.kind, leak.text, leak.line) for leak in found} == {
        ("a token", SECRET, 0),
        ("a path", "/home/anna/run", 0),
    }


def test_a_token_across_two_blocks_of_the_file_is_found(tmp_path: Path) -> None:
    # The reader takes 4 MiB at a time; the header is short, so that the text lies across the first boundary.
    place = (1 << 22) - 100
    content = np.zeros(1 << 23, dtype=np.uint8)
    content[place : place + 200] = np.frombuffer(SECRET.encode().ljust(200, b"."), dtype=np.uint8)
    for shift in range(0, 120, 8):
        save_file({"weight": np.roll(content, shift)}, tmp_path / "model.safetensors")
        assert [leak.text for leak in find_leaks(tmp_path, secrets=[SECRET])] == [SECRET]


def test_a_text_that_is_allowed_passes_and_a_message_never_repeats_a_token(tmp_path: Path) -> None:
    assert leaks(tmp_path, "label: anna@example.org", allowed=["anna@example.org"]) == []
    leaks(tmp_path, f"token: {SECRET}")
    assert str(find_leaks(tmp_path)[0]) == "recipe.yaml line 2: a token, hf_AbC…"
