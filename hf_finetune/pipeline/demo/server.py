"""A server of one page: a port that is free, who may ask, and how it ends.

Owns the socket, so that an address that cannot be had is known before a model is loaded, and nothing else can take it
meanwhile. Does not own the page.
"""

from __future__ import annotations

import errno
import ipaddress
import logging
import re
import socket
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote, urlsplit

from hf_finetune.errors import MachineError

logger = logging.getLogger(__name__)
_NAMES_AN_ADDRESS = re.compile(r"https?:|/proxy=", re.IGNORECASE)
_SECONDS_TO_END = 1  # pages that are open hold a connection for as long as they are

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]


def bound(host: str, ports: Sequence[int]) -> socket.socket:
    """A socket that listens at the first of `ports` that is free. Raises MachineError."""
    for port in ports:
        if not 0 <= port < 65536:
            raise MachineError(f"--port: a number from 0 to 65535 is expected, found {port}.", "0 takes any free port.")
        try:
            return socket.create_server((host, port), family=_family_of(host))
        except OSError as error:
            if error.errno in (errno.EADDRINUSE, errno.EACCES) and port != ports[-1]:
                continue
            raise _cannot_listen(host, ports, error) from None
    raise ValueError("at least one port is expected")


def _family_of(host: str) -> socket.AddressFamily:
    try:
        return socket.getaddrinfo(host, None, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0][0]
    except (OSError, UnicodeError) as error:
        raise _no_such_host(host, error) from None


def _no_such_host(host: str, error: Exception) -> MachineError:
    return MachineError(
        f"--host: an address of this machine is expected, found {host} ({getattr(error, 'strerror', None) or error}).",
        "127.0.0.1 is reached from this machine alone, 0.0.0.0 at every address that it has.",
    )


def _cannot_listen(host: str, ports: Sequence[int], error: OSError) -> MachineError:
    if error.errno == errno.EADDRNOTAVAIL:
        return _no_such_host(host, error)
    if error.errno == errno.EADDRINUSE and len(ports) > 1:
        return MachineError(
            f"The ports {ports[0]} to {ports[-1]} of {host} are all in use.", "Name another: --port 8080."
        )
    if error.errno == errno.EADDRINUSE:
        return MachineError(
            f"Port {ports[0]} of {host} is in use by another program.",
            "Name another with --port, or leave it out: the next free one is then taken.",
        )
    return MachineError(
        f"Port {ports[0]} of {host} cannot be listened at: {error.strerror or error}.",
        "Ports below 1024 are often for administrators alone: --port 8080.",
    )


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches it."""
    with suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    return host == "localhost"


def address_of(listening: socket.socket, host: str) -> str:
    """What to type into a browser of this machine."""
    port = listening.getsockname()[1]
    shown = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)
    return f"http://{shown}:{port}"


@dataclass(frozen=True)
class Gate:
    """In front of an app: refuses what comes from the pages of other sites, and what would make Gradio's file routes
    fetch an address for whoever asks.

    A page elsewhere can send its visitor's browser to 127.0.0.1, and under a name of its own that leads there (DNS
    rebinding) it can read the answers too: `loopback` refuses names other than this machine's.
    """

    app: App
    loopback: bool

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and (refusal := self._refusal(scope)):
            await send({"type": "http.response.start", "status": 403, "headers": [(b"content-type", b"text/plain")]})
            await send({"type": "http.response.body", "body": refusal.encode()})
            return
        await self.app(scope, receive, send)

    def _refusal(self, scope: Scope) -> str:
        headers = {name: value.decode("latin-1") for name, value in scope["headers"]}
        host = headers.get(b"host", "")
        try:
            name = urlsplit(f"//{host}").hostname or ""
            site = urlsplit(headers.get(b"origin", f"http://{host}")).netloc
        except ValueError:  # brackets that do not close
            name = site = ""
        if self.loopback and not is_loopback(name):
            return "This page answers to the names of its own machine.\n"
        if site != host:
            return "This page answers to no page of another site.\n"
        if _NAMES_AN_ADDRESS.search(unquote(scope["path"])):
            return "No other address is fetched here.\n"
        return ""


def serve(app: App, listening: socket.socket) -> None:
    """Answer until the process is interrupted. Closes the socket."""
    import uvicorn

    # Python's own loop on every system: what uvloop connects to passes by the interpreter's audit events, by which a
    # test, or anybody, can see whom the process asks.
    config = uvicorn.Config(
        app,
        loop="asyncio",
        log_config=None,
        access_log=False,
        lifespan="on",
        timeout_graceful_shutdown=_SECONDS_TO_END,
    )
    # It tells of every connection that is cut at the end as of an error.
    logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)
    server = uvicorn.Server(config)
    with closing(listening), suppress(KeyboardInterrupt):
        server.run(sockets=[listening])
        if not server.started:
            raise RuntimeError("the page's server did not start")
