"""`python -m tests.hub_server PORT DIR`: serve DIR until interrupted, one line per request."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from tests.hub_server.faults import Kind
from tests.hub_server.server import Handler, Server


class _Talking(Handler):
    def log_message(self, format: str, *args: object) -> None:
        print(format % args, flush=True)


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser("python -m tests.hub_server", description="A Hugging Face Hub on loopback.")
    parser.add_argument("port", type=int, help="0 takes a free one")
    parser.add_argument("dir", type=Path, help="with DIR/models/ns/name and DIR/datasets/ns/name")
    parser.add_argument("--multipart-bytes", type=int, help="files from this size on are sent in parts of that size")
    parser.add_argument(
        "--fault", action="append", default=[], metavar="KIND=REGEX",
        help="what shall happen once to a request whose 'METHOD /path' REGEX finds; see tests/hub_server/faults.py",
    )  # fmt: skip
    options = parser.parse_args(arguments)
    if not options.dir.is_dir():
        parser.error(f"an existing folder is expected, found {options.dir}")
    server = Server(options.port, options.dir)
    server.RequestHandlerClass = _Talking
    if options.multipart_bytes:
        server.uploads.multipart_bytes = server.uploads.chunk_bytes = options.multipart_bytes
    for fault in options.fault:
        kind, _, match = fault.partition("=")
        server.faults.add(_kind(parser, kind), match)
    print(f"HF_ENDPOINT={server.url}", flush=True)
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        return 0
    finally:
        server.server_close()
    return 0


def _kind(parser: argparse.ArgumentParser, kind: str) -> Kind:
    for known in Kind.__args__:
        if known == kind:
            return known
    return parser.error(f"a fault is one of {', '.join(Kind.__args__)}, found {kind}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
