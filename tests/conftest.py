"""Options of the whole suite."""

from __future__ import annotations

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--kong-bin", help="run the end-to-end tests on this Kong, not on the embedded host")
