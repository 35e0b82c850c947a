"""Options of the whole suite."""

from __future__ import annotations

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--kong-bin", help="run the end-to-end tests on this Kong, not on the embedded host")
    parser.addoption("--gateway-url", help="run them on a gateway that runs, with tests/e2e/tenants.yaml")
    parser.addoption("--mock-url", help="its mock provider; tests that look there are skipped without it")
    parser.addoption("--redis-url", help="its Redis; tests that look there are skipped without it")
