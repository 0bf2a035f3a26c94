"""Fetching an image from a real server on loopback: sizes, times, redirects, and a server that is busy for a moment."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar

import pytest

from hf_finetune.network.images import FetchError, fetch_image, is_address
from hf_finetune.network.patience import Patience

QUICK = Patience(tries=3, first_s=0.01, most_s=0.02)


class Pages(BaseHTTPRequestHandler):
    """What each path does; `asked` counts."""

    asked: ClassVar[Counter[str]] = Counter()

    def do_GET(self) -> None:
        self.asked[self.path] += 1
        where = {"/file": "file:///etc/hostname", "/ftp": "ftp://host/a.jpg", "/there": "/photo", "/round": "/round"}
        if self.path in where:
            self.send_response(302)
            self.send_header("Location", where[self.path])
            self.end_headers()
        elif self.path == "/gone" or (self.path == "/busy" and self.asked[self.path] < 3) or self.path == "/down":
            self.send_error(404 if self.path == "/gone" else 503)
        elif self.path == "/cut":
            self.send_response(200)
            self.send_header("Content-Length", "1000")
            self.end_headers()
            self.wfile.write(b"x" * 10)
        else:
            self.send_response(200)
            if self.path == "/announced":
                self.send_header("Content-Length", "5000")
            self.end_headers()
            self.wfile.write(b"x" * (5000 if self.path in ("/announced", "/long") else 100))

    def log_message(self, format: str, *arguments: object) -> None:
        del format, arguments


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Pages) as served:
        thread = threading.Thread(target=served.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{served.server_port}"
        served.shutdown()


def test_an_image_is_fetched_also_behind_a_redirect_and_from_a_busy_server(server: str) -> None:
    assert fetch_image(f"{server}/photo") == b"x" * 100
    assert fetch_image(f"{server}/there") == b"x" * 100
    assert fetch_image(f"{server}/busy", patience=QUICK) == b"x" * 100


@pytest.mark.parametrize(
    ("path", "said", "times"),
    [
        ("/gone", "the server answered 404", 1),
        ("/down", "the server answered 503", 3),
        ("/cut", "it cannot be fetched: ", 3),
        ("/announced", "more than 0 MB, which is too much for an image", 1),
        ("/long", "more than 0 MB", 1),
        ("/file", "redirected to a file: address; images are fetched by http and https alone", 1),
        ("/ftp", "redirected to a ftp: address", 1),
        ("/round", "redirected more than 5 times", 6),
    ],
)
def test_what_is_not_fetched_is_said_and_only_what_may_pass_is_tried_again(
    server: str, path: str, said: str, times: int
) -> None:
    before = Pages.asked[path]
    with pytest.raises(FetchError, match=said):
        fetch_image(server + path, most_bytes=1000, patience=QUICK)
    assert Pages.asked[path] - before == times


@pytest.mark.parametrize("address", ["file:///etc/hostname", "ftp://host/a.jpg", "s3://bucket/a.jpg"])
def test_other_schemes_are_not_asked(address: str) -> None:
    with pytest.raises(FetchError, match=r"it is a \w+: address; images are fetched by http and https alone"):
        fetch_image(address)


def test_no_answer_is_said() -> None:
    with pytest.raises(FetchError, match="it cannot be fetched: "):
        fetch_image("http://127.0.0.1:1/a.jpg", patience=QUICK)


def test_an_address_is_told_from_a_file() -> None:
    assert all(map(is_address, ("http://a/b.jpg", "HTTPS://a", "s3://b/c", "file:///a")))
    assert not any(map(is_address, ("a.jpg", "C:/a.jpg", "C://a.jpg", "photos/http.jpg", "://a", "a b://c")))
