"""What torch raises where the connection to another process breaks, as an error in words."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager

from hf_finetune.errors import PeerError, first_line

# Seen with gloo (torch 2.15): "[…/gloo/transport/tcp/pair.cc:545] Read error [127.0.0.1]:4528: Connection reset by
# peer. This is typically caused by …". NCCL's are by its source (src/transport, ncclResult_t in nccl.h); not seen.
_GLOO = re.compile(r"gloo/transport/|Connection (closed|reset) by peer|Broken pipe")
_NCCL = re.compile(r"remote process exited|ncclRemoteError|network error|Connection closed by remote peer")
_PLACE, _ADVICE = re.compile(r"^\[[^\]]*\.cc:\d+\] *"), re.compile(r"\. This (is typically|may indicate).*")


@contextmanager
def lost_peers_are_said() -> Iterator[None]:
    """Raise PeerError for what torch raises inside where another process is gone; any other error stays as it is."""
    try:
        yield
    except RuntimeError as error:
        if not _is_lost(error):
            raise
        raise PeerError(*_told(error)) from error


def _is_lost(error: RuntimeError) -> bool:
    import torch.distributed as dist

    if not dist.is_available() or int(os.environ.get("WORLD_SIZE", 1)) < 2:
        return False
    if isinstance(error, dist.DistNetworkError | dist.DistStoreError):
        return True
    if isinstance(error, dist.DistBackendError):
        return bool(_NCCL.search(str(error)) or _GLOO.search(str(error)))
    return type(error) is RuntimeError and bool(_GLOO.search(str(error)))


def _told(error: RuntimeError) -> tuple[str, str]:
    rank, count = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    other = f"rank {1 - rank}" if count == 2 else f"another of the {count} processes"
    reason = _ADVICE.sub("", _PLACE.sub("", first_line(error)))
    return (
        f"rank {rank}: the connection to {other} is lost ({reason}): it died, was stopped, or its machine cannot be "
        "reached.",
        "If it ended by an error, it has said which. The same command goes on from the last whole checkpoint.",
    )
