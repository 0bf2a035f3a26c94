"""Tests of the report. A package, so that its modules can share `example.py`."""
