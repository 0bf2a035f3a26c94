"""The fixtures `hub` and `in_process` for this folder's tests."""

from tests.hub_server.fixture import hub, in_process  # noqa: F401
