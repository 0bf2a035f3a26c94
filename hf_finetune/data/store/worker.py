"""A worker process: `python -m hf_finetune.data.store.worker`. Imports Pillow and numpy, never torch.

Owns the child's side and the framing: pickles with a length before them, requests on standard input, results on what
was standard output. Why not multiprocessing: its children import the caller's main script again, which costs seconds of
torch and needs a guard that notebooks and short scripts do not have. The pipe is private to parent and child.
"""

from __future__ import annotations

import os
import pickle
import signal
import struct
import sys
from typing import Any, BinaryIO

_LENGTH = struct.Struct("<Q")


def send(stream: BinaryIO, message: Any) -> None:
    """Writes one frame. Raises BrokenPipeError (or another OSError) where the other side is gone."""
    body = pickle.dumps(message, protocol=pickle.HIGHEST_PROTOCOL)
    stream.write(_LENGTH.pack(len(body)) + body)
    stream.flush()


def receive(stream: BinaryIO) -> Any:
    """Reads one frame. Raises EOFError where the other side is gone."""
    return pickle.loads(receive_bytes(stream))


def receive_bytes(stream: BinaryIO) -> bytes:
    header = stream.read(_LENGTH.size)
    if len(header) < _LENGTH.size:
        raise EOFError("the other side closed the pipe")
    (length,) = _LENGTH.unpack(header)
    body = stream.read(length)
    if len(body) < length:
        raise EOFError("the other side closed the pipe within a message")
    return body


def main() -> None:
    """Serves the parent until its pipe closes, which it does however the parent ends."""
    requests = sys.stdin.buffer
    # Anything that a library prints must not land between two frames.
    replies = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    # Ctrl-C reaches the whole terminal group; the parent decides what it means and closes the pipe.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        _serve(requests, replies)
    except (EOFError, BrokenPipeError):
        # The parent is gone: nothing is left to report to, and flushing at exit would fail noisily.
        os._exit(0)


def _serve(requests: BinaryIO, replies: BinaryIO) -> None:
    from PIL import Image

    from hf_finetune.data.store.decode import decode

    # data.max_pixels is checked by ourselves, from the header; Pillow's own limit would only repeat it.
    Image.MAX_IMAGE_PIXELS = None
    sys.path.extend(path for path in receive(requests) if path not in sys.path)
    send(replies, "ready")
    job = None
    while True:
        kind, body = receive(requests)
        if kind == "job":
            job = pickle.loads(body)
            send(replies, "loaded")
            continue
        if job is None:
            raise RuntimeError("tasks came before their job")
        for result in decode(job, body):
            send(replies, result)


if __name__ == "__main__":
    main()
