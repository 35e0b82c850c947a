"""A platform's word about a tenant is in force at the gateway, without a reload."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from platform_rig import TOKEN, Platform
from tenantgate.cli import main

from gateway import Gateway
from support import until

pytestmark = pytest.mark.e2e

FILE = """
version: 1
gateway: {{platform: {{url: '{url}', token: '{{vault://env/PLATFORM_TOKEN}}', path: '{folder}/platform.json'}}}}
tenants: [{{id: unused, api_keys: ['${{{{ env "DECK_UNUSED" }}}}']}}]
"""


@pytest.fixture
def pull(gateway: Gateway, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Bring a list of tenants into force, as the platform has it."""
    state = gateway.stack.secrets_file.parent
    platform, file = Platform(), tmp_path / "tenants.yaml"
    monkeypatch.setitem(os.environ, "PLATFORM_TOKEN", TOKEN)
    file.write_text(FILE.format(url=platform.url, folder=tmp_path))

    def put(*tenants: dict[str, Any]) -> None:
        platform.put(*tenants)
        assert main(["platform", "pull", str(file), "--state-dir", str(state)]) == 0

    yield put
    put()
    platform.stop()


def test_a_tenant_that_the_platform_disables_is_refused_and_others_are_not(
    gateway: Gateway, pull: Any
) -> None:
    clients = [gateway.endpoint(tenant) for tenant in ("acme", "globex")]

    def statuses() -> list[int]:
        return [client.chat(gateway.fresh(), model="mock-small").status for client in clients]

    before = statuses()
    pull({"id": "acme", "enabled": False})
    # The engine's processes read it within a second, each by itself.
    until(statuses, [403, before[1]].__eq__, what="the tenant's refusal")
    reply = clients[0].chat(gateway.fresh(), model="mock-small")
    assert (reply.status, reply.json["error"]["code"]) == (403, "tenant_disabled")
    pull({"id": "acme"})
    until(statuses, before.__eq__, what="the tenant's return")
