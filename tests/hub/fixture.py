"""The fixture `hub`: a Hub on loopback over an empty folder, and the environment that points a process at it.

`HF_ENDPOINT` and `HF_HOME` are read when huggingface_hub is imported, so clients must be processes of their own:
`subprocess.run([sys.executable, …], env=hub.env())`. Another test folder gets the fixture with one line in its
conftest.py: `from tests.hub.fixture import hub  # noqa: F401`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.hub.server import Server, running

# What would send a client elsewhere, or give it a token of the person who runs the tests.
_REMOVED = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_HUB_CACHE", "HF_DATASETS_CACHE", "HF_DATASETS_OFFLINE")
_PROXIES = ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")


@dataclass(frozen=True)
class Hub:
    """A running Hub. Put repos into `folder` (see `tests.hub.repos`) before or while clients ask for them."""

    server: Server
    folder: Path
    home: Path

    @property
    def url(self) -> str:
        return self.server.url

    @property
    def requests(self) -> list[tuple[str, str, int]]:
        """(method, path, status) of every request so far."""
        return self.server.requests

    def env(self, *, offline: bool = False, token: str | None = None) -> dict[str, str]:
        """This process's environment with the Hub's address and a cache of the test's own."""
        clean = {key: value for key, value in os.environ.items() if key not in (*_REMOVED, *_PROXIES)}
        return (
            clean
            | {
                "HF_ENDPOINT": self.url,
                "HF_HOME": str(self.home),
                "HF_HUB_OFFLINE": "1" if offline else "0",
                "HF_HUB_DISABLE_XET": "1",
                "HF_HUB_DISABLE_TELEMETRY": "1",
                "HF_HUB_DISABLE_PROGRESS_BARS": "1",
                "OMP_NUM_THREADS": "1",
            }
            | ({"HF_TOKEN": token} if token else {})
        )


@pytest.fixture
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    """A Hub on loopback, new for each test: nothing in it, nothing in the client's cache."""
    folder = tmp_path_factory.mktemp("hub")
    with running(folder) as server:
        yield Hub(server, folder, tmp_path_factory.mktemp("hf_home"))
