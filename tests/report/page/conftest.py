"""Fixtures of the pages' tests."""

from __future__ import annotations

from tests.report.page.browser import chromium

__all__ = ["chromium"]
