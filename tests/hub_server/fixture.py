"""The fixture `hub`: a Hub on loopback over an empty folder, and the environment that points a process at it.

`HF_ENDPOINT` and `HF_HOME` are read when huggingface_hub is imported, so what uses them is run in a process of its own:
`subprocess.run([sys.executable, …], env=hub.env())`. What takes an address, as `HfApi` does, can run in the test's own
process: `hub.api()`, with the fixture `in_process`. Another test folder gets the fixtures with one line in its
conftest.py: `from tests.hub_server.fixture import hub, in_process  # noqa: F401`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.hub_server.server import Server, running
from tests.hub_server.users import TOKEN

if TYPE_CHECKING:
    from huggingface_hub import HfApi

# What would send a client elsewhere, or give it a token of the person who runs the tests.
_REMOVED = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_HUB_CACHE", "HF_DATASETS_CACHE", "HF_DATASETS_OFFLINE")
_PROXIES = ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")


@dataclass(frozen=True)
class Hub:
    """A running Hub. Put repos into `folder` (see `tests.hub_server.repos`) before or while clients ask for them."""

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

    def api(self, token: str | None = TOKEN) -> HfApi:
        """The real client, in this process; the test asks for the fixture `in_process` too. None: not logged in."""
        from huggingface_hub import HfApi

        return HfApi(endpoint=self.url, token=token or False)


@pytest.fixture
def in_process(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let huggingface_hub talk to loopback from this process: online, by LFS, past any proxy, connections closed."""
    from huggingface_hub import close_session, constants

    for name in (*_PROXIES, *_REMOVED):
        monkeypatch.delenv(name, raising=False)
    # Read from the environment when the package was imported, and looked up here at each call.
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    close_session()
    yield
    close_session()


@pytest.fixture
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    """A Hub on loopback, new for each test: nothing in it, nothing in the client's cache."""
    folder = tmp_path_factory.mktemp("hub")
    with running(folder) as server:
        yield Hub(server, folder, tmp_path_factory.mktemp("hf_home"))
