"""What our server's PDK object tells its event."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tenantgate.kong.ahead import Ahead
from tenantgate.kong.host import Host
from tenantgate.kong.pdk import ServedKong
from tenantgate.kong.testing import FakeKong
from tenantgate.tenant import TenantId


class Channel:
    def __init__(self) -> None:
        self.sent: list[Any] = []
        self.owners: list[str] = []
        self.room = True
        self.ahead: Ahead | None = None

    def put(self, message: Any) -> None:
        self.sent.append(message)

    def get(self) -> tuple[Any, Any]:
        return {"custom_id": "of the consumer"}, None

    def belongs_to(self, tenant: str) -> None:
        self.owners.append(tenant)

    @contextlib.contextmanager
    def aside(self) -> Iterator[bool]:
        self.sent.append("aside")
        yield self.room
        self.sent.append("back")


def test_a_phase_that_waits_lets_another_thread_work() -> None:
    channel = Channel()
    host = Host(ServedKong(channel, time.monotonic() + 1e6), "access", deadline_ms=1000)
    with host.waiting() as left_ms:
        assert channel.sent == ["aside"]
        assert 1e8 < left_ms <= 1e9
    channel.room = False
    with host.waiting() as left_ms:
        assert left_ms == 0
    del channel.sent[2:]
    assert (channel.sent, host.pdk_calls) == (["aside", "back"], 0)


@pytest.mark.parametrize("tenant", ["acme", "a:b {x}", "\udcff"])
def test_whose_a_request_is_can_be_said_without_a_call(tenant: str) -> None:
    channel = Channel()
    host = Host(ServedKong(channel, 1e9), "access", deadline_ms=1000)
    host.belongs_to(TenantId(tenant))
    assert channel.owners == [tenant]
    assert host.tenant() == TenantId(tenant)
    assert (channel.sent, host.pdk_calls) == ([], 0)


def test_elsewhere_it_is_known_to_the_host_alone() -> None:
    class Plugin:
        def access(self, kong: Any) -> None:
            host = Host(kong, "access", deadline_ms=1000)
            host.belongs_to(TenantId("acme"))
            assert host.tenant() == TenantId("acme")

    assert FakeKong(consumer="other").run(Plugin(), "access").calls == []
