"""Fetching one image from an address on the web: http and https alone, within a size and a time.

Does not own what the bytes are: whoever decodes them finds out.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from functools import partial
from urllib.parse import urljoin, urlsplit

from hf_finetune.network.patience import Patience, http_errors, patiently, status_of

SCHEMES = ("http", "https")
MOST_BYTES = 100_000_000
TIMEOUT_S = 15.0  # without a byte
WHOLE_S = 120.0  # for one image, however steadily it drips
MOST_REDIRECTS = 5
PATIENCE = Patience(tries=3, first_s=0.5, most_s=4.0)


class FetchError(ValueError):
    """An image that cannot be fetched; the text is the reason, fit to stand after its address."""


def is_address(text: str) -> bool:
    """Whether it names something on a network (`https://…`, `ftp://…`), and no file."""
    scheme, separator, _ = text.partition("://")
    return bool(separator) and len(scheme) > 1 and scheme.isascii() and scheme.replace("+", "").isalnum()


def fetch_image(
    address: str, *, most_bytes: int = MOST_BYTES, timeout_s: float = TIMEOUT_S, patience: Patience = PATIENCE
) -> bytes:
    """The bytes at `address`. A busy or silent server is tried again.

    Raises FetchError: another scheme, also where a redirect leads to one; no answer; an answer that is none; more than
    `most_bytes`.
    """
    _check_scheme(address, "")
    call = partial(_follow, address, most_bytes, timeout_s)
    try:
        return patiently(call, f"Fetching {address}", patience, who="its server")
    except FetchError:
        raise
    except http_errors() as error:
        if (status := status_of(error)) is not None:
            raise FetchError(f"the server answered {status}") from error
        raise FetchError(f"it cannot be fetched: {_reason(error)}") from error
    except (OSError, ValueError) as error:  # an address that is none, a certificate that is not trusted
        raise FetchError(f"it cannot be fetched: {_reason(error)}") from error


def _follow(address: str, most_bytes: int, timeout_s: float) -> bytes:
    """Redirects one by one, each looked at before it is followed."""
    import httpx2

    until = time.monotonic() + WHOLE_S
    with httpx2.Client(timeout=timeout_s, follow_redirects=False) as client:
        for _ in range(MOST_REDIRECTS + 1):
            with client.stream("GET", address, headers={"Accept": "image/*,*/*;q=0.5"}) as answer:
                if not answer.is_redirect:
                    answer.raise_for_status()
                    return _read(answer.iter_bytes(), answer.headers.get("Content-Length", ""), most_bytes, until)
                there = urljoin(address, answer.headers["Location"])
            _check_scheme(there, address)
            address = there
    raise FetchError(f"it was redirected more than {MOST_REDIRECTS} times")


def _read(pieces: Iterator[bytes], announced: str, most_bytes: int, until: float) -> bytes:
    found = bytearray()
    too_much = f"more than {most_bytes / 1e6:,.0f} MB, which is too much for an image"
    if announced.isdigit() and int(announced) > most_bytes:
        raise FetchError(too_much)
    for piece in pieces:
        found += piece
        if len(found) > most_bytes:
            raise FetchError(too_much)
        if time.monotonic() > until:
            raise FetchError(f"it did not end within {WHOLE_S:.0f} s")
    return bytes(found)


def _check_scheme(address: str, before: str) -> None:
    """Raise FetchError for anything but http and https, and for a way from https to http."""
    scheme = urlsplit(address).scheme.lower()
    if scheme not in SCHEMES:
        how = "it is redirected to" if before else "it is"
        raise FetchError(f"{how} a {scheme}: address; images are fetched by http and https alone")
    if scheme == "http" and urlsplit(before).scheme.lower() == "https":
        raise FetchError("it is redirected from https to http, where anyone on the way could change it")


def _reason(error: BaseException) -> str:
    return str(error).strip() or type(error).__name__
