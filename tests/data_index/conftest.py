"""The fixture `hub` for this folder's tests."""

from tests.hub.fixture import hub  # noqa: F401
