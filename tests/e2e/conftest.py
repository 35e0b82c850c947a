"""One gateway for all end-to-end tests: the embedded host, or the Kong named by --kong-bin."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest

from tenantgate.devhost.stack import Stack

from gateway import Gateway

HERE = Path(__file__).parent


@pytest.fixture(scope="session")
def gateway(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    kong_bin = request.config.getoption("--kong-bin")
    state = tmp_path_factory.mktemp("gw")
    with Stack(tenants=HERE / "tenants.yaml", state_dir=state, kong_bin=kong_bin) as stack:
        yield Gateway(stack, itertools.count(7000, 13))
