"""One gateway for all end-to-end tests: the embedded host, the Kong named by --kong-bin, or one that runs already."""

from __future__ import annotations

import itertools
import json
import random
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tenantgate.devhost.mcp_stack import api
from tenantgate.devhost.stack import Stack

from gateway import Gateway, Running
from issuer import ISSUER_KEYS

TENANTS = Path(__file__).parent / "tenants.yaml"
NO_API = "http://127.0.0.1:9"
NO_KEYS = "/nowhere/jwks.json"


@pytest.fixture(scope="session")
def gateway(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    option = request.config.getoption
    if url := option("--gateway-url"):
        running = Running(TENANTS, url, mock_url=option("--mock-url"), redis_url=option("--redis-url"))
        # Its cache may know what an earlier run asked.
        yield Gateway(running, itertools.count(random.randrange(10**6, 10**9), 13))
        return
    state = tmp_path_factory.mktemp("gw")
    with api() as url, pytest.MonkeyPatch.context() as patch:
        # Of an API, so it can't be made up as clients' keys are.
        patch.setenv("DECK_TOOLING_UPSTREAM_KEY", "key-of-the-mock-api")
        tenants = _with_api(tmp_path_factory.mktemp("tenants"), url)
        with Stack(tenants=tenants, state_dir=state, kong_bin=option("--kong-bin"), mock_tls=True) as stack:
            yield Gateway(stack, itertools.count(7000, 13))


def _with_api(folder: Path, url: str) -> Path:
    """The tenants, whose MCP servers call the mock API at `url`."""
    shutil.copy(TENANTS.parent / "mock_api.json", folder)
    made = folder / TENANTS.name
    text = TENANTS.read_text("utf-8").replace(f"upstream: {NO_API}", f"upstream: {url}")
    text = text.replace(f"remote: {NO_API}", f"remote: {url}")
    keys = folder / "jwks.json"
    keys.write_text(json.dumps({"keys": [ISSUER_KEYS]}), "utf-8")
    made.write_text(text.replace(NO_KEYS, str(keys)), "utf-8")
    return made
