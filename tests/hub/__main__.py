"""`python -m tests.hub PORT DIR`: serve DIR until interrupted, one line per request."""

from __future__ import annotations

import sys
from pathlib import Path

from tests.hub.server import Server, _Handler


class _Talking(_Handler):
    def log_message(self, format: str, *args: object) -> None:
        print(format % args, flush=True)


def main(arguments: list[str]) -> int:
    if len(arguments) != 2 or not Path(arguments[1]).is_dir():
        print("usage: python -m tests.hub PORT DIR (with DIR/models/ns/name and DIR/datasets/ns/name)", file=sys.stderr)
        return 2
    server = Server(int(arguments[0]), Path(arguments[1]))
    server.RequestHandlerClass = _Talking
    print(f"HF_ENDPOINT={server.url}", flush=True)
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        return 0
    finally:
        server.server_close()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
