"""One gateway for all end-to-end tests: the embedded host, the Kong named by --kong-bin, or one that runs already."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from tenantgate.devhost.stack import Stack

from gateway import Gateway, Running

TENANTS = Path(__file__).parent / "tenants.yaml"


@pytest.fixture(scope="session")
def gateway(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    option = request.config.getoption
    if url := option("--gateway-url"):
        running = Running(TENANTS, url, mock_url=option("--mock-url"), redis_url=option("--redis-url"))
        # Its cache may know what an earlier run asked.
        yield Gateway(running, itertools.count(random.randrange(10**6, 10**9), 13))
        return
    state = tmp_path_factory.mktemp("gw")
    with Stack(tenants=TENANTS, state_dir=state, kong_bin=option("--kong-bin"), mock_tls=True) as stack:
        yield Gateway(stack, itertools.count(7000, 13))
