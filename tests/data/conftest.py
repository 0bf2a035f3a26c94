"""The fixture `hub` for this folder's tests."""

from tests.hub_server.fixture import hub  # noqa: F401
