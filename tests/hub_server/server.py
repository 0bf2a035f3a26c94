"""The Hub's HTTP: which route answers a request, and how answers and faults go over the connection.

Owns the routing and the connection, and nothing on disk. The endpoints are those that the sources of `huggingface_hub`
2.4 and `datasets` 5.2 call, with xet off on the client's side: see `read_routes`, `write_routes` and `lfs_routes`.
"""

from __future__ import annotations

import re
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, cast
from urllib.parse import parse_qs, unquote, urlsplit

from tests.hub_server import lfs_routes, read_routes, write_routes
from tests.hub_server.blobs import BLOCK
from tests.hub_server.body import Body, BrokenBodyError
from tests.hub_server.faults import Fault, Faults
from tests.hub_server.messages import BAD_TOKEN, Answer, MovedError, RefusalError, Request
from tests.hub_server.repo import GoneError
from tests.hub_server.store import Store
from tests.hub_server.uploads import Uploads

ROUTES: tuple[tuple[str, re.Pattern[str], Callable[[Request], Answer]], ...] = tuple(
    (method, re.compile(pattern), handler)
    for method, pattern, handler in (*read_routes.ROUTES, *write_routes.ROUTES, *lfs_routes.ROUTES)
)
# What the faults that are answers say.
REFUSALS = {
    "401": BAD_TOKEN,
    "403": "Your token has no right to do this",
    "412": "A commit has happened since. Please refresh and try again.",
    "429": "Too many requests",
    "500": "Internal error",
    "503": "Service unavailable",
    "507": "No space left on the server",
}


class Server(ThreadingHTTPServer):
    """Serves `root` on loopback.

    `requests`: every request as (method, path, status); the status is 0 where the body never came. `faults`: what
    shall go wrong. `uploads`: from which size on files come in parts, and of what size.
    """

    daemon_threads = True
    request_queue_size = 64  # clients with many threads connect at once

    def __init__(self, port: int, root: Path) -> None:
        super().__init__(("127.0.0.1", port), Handler)
        self.root = root
        self.store = Store(root)
        self.uploads = Uploads()
        self.faults = Faults()
        self.requests: list[tuple[str, str, int]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def answer(self, method: str, url: str, headers: dict[str, str], body: Body) -> Answer:
        """The answer to one request: the routing table, then 404 for what no route knows."""
        split = urlsplit(url)
        query = parse_qs(split.query, keep_blank_values=True)
        for allowed, pattern, handler in ROUTES:
            match = pattern.fullmatch(split.path)
            if match is None or not (method == allowed or (method == "HEAD" and allowed == "GET")):
                continue
            try:
                parts = match.groupdict()
                return handler(Request(self.store, self.uploads, self.url, url, parts, query, headers, body))
            except (RefusalError, MovedError) as refusal:
                return refusal.answer
            except GoneError:
                return RefusalError(404, "RepoNotFound", "Repository not found").answer
            except BrokenBodyError:
                raise
            except Exception:  # noqa: BLE001 (a mistake in this server must be seen, and not as a lost connection)
                traceback.print_exc(file=sys.stderr)
                return RefusalError(500, None, f"The test Hub failed: {traceback.format_exc(limit=-3)}").answer
        return RefusalError(404, "NotFound", f"No such endpoint: {method} {split.path}").answer

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is none of the server's errors."""
        if not isinstance(sys.exception(), (ConnectionError, TimeoutError)):
            super().handle_error(request, client_address)


class Handler(BaseHTTPRequestHandler):
    """One connection, with its requests in turn."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # else head and body of an answer are 40 ms apart

    def _serve(self) -> None:
        server = cast(Server, self.server)
        body = Body(cast(Any, self.rfile), self.headers)
        faults = server.faults.take(f"{self.command} {unquote(urlsplit(self.path).path)}", body=body.expected)
        time.sleep(sum(fault.seconds for fault in faults if fault.kind == "slow"))
        fault = next((fault for fault in faults if fault.kind != "slow"), None)
        try:
            if fault is not None and fault.kind == "drop":
                raise BrokenBodyError
            if fault is not None and fault.kind == "drop_body":
                body.break_off()
            if fault is not None and fault.kind in REFUSALS:
                reply = _refusal(fault)
            else:
                headers = {key.lower(): value for key, value in self.headers.items()}
                reply = server.answer(self.command, self.path, headers, body)
            body.drain()
        except BrokenBodyError:
            server.requests.append((self.command, self.path, 0))
            return self._hang_up()
        server.requests.append((self.command, self.path, reply.status))
        if fault is not None and fault.kind == "drop_reply":
            return self._hang_up()
        return self._send(reply, cut=fault is not None and fault.kind == "cut_reply")

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = _serve  # noqa: N815 (the names that http.server calls)

    def _send(self, reply: Answer, *, cut: bool) -> None:
        path, first, last = reply.body if isinstance(reply.body, tuple) else (None, 0, len(reply.body) - 1)
        length = last - first + 1
        self.send_response(reply.status)
        for key, value in {**reply.headers, "Content-Length": str(length)}.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command == "HEAD":
            return
        left = length // 2 if cut else length
        for block in [reply.body] if isinstance(reply.body, bytes) else _blocks(cast(Path, path), first):
            self.wfile.write(block[:left])
            left -= len(block[:left])
            if left == 0:
                break
        if cut:
            self._hang_up()

    def _hang_up(self) -> None:
        self.close_connection = True
        with suppress(OSError):
            self.wfile.flush()
            self.connection.shutdown(socket.SHUT_RDWR)

    def log_message(self, format: str, *args: Any) -> None:
        """Requests are kept in `Server.requests`; the console stays quiet."""


def _refusal(fault: Fault) -> Answer:
    refusal = RefusalError(int(fault.kind), None, REFUSALS[fault.kind]).answer
    if fault.kind == "429" or (fault.kind == "503" and fault.seconds > 0):
        refusal.headers["Retry-After"] = str(int(fault.seconds))
    return refusal


def _blocks(path: Path, first: int) -> Iterator[bytes]:
    with path.open("rb") as file:
        file.seek(first)
        while block := file.read(BLOCK):
            yield block


@contextmanager
def running(root: Path, port: int = 0) -> Iterator[Server]:
    """A server of `root` in a thread of this process; port 0 takes a free one."""
    server = Server(port, root)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
