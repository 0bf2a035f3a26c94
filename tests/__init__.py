"""Tests. A package, so that every test folder can import `tests.hub_server`."""
