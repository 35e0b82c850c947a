"""The gateway's usage at the platform: sender killed, platform down, answers lost; its ledger is what was sent."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any, Final

import pytest

from platform_rig import TOKEN, Platform
from tenantgate.audit.core.chain import START, link
from tenantgate.audit.core.ports import Entry, Head
from tenantgate.audit.files import FileSpool
from tenantgate.platform.client import Client
from tenantgate.tenant import TenantId
from tenantgate.usage.core.amounts import FEMTO
from tenantgate.usage.core.entries import entries_of
from usage_rig import MODELS, exact, record

from support import until

DELIVERS: Final = """
import sys, threading
from pathlib import Path
from tenantgate.audit.config import SinkConfig
from tenantgate.audit.delivery_thread import Batching, Delivery
from tenantgate.audit.files import FileSpool
from tenantgate.audit.sinks import make
folder, url, token = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
headers = {"Authorization": f"Bearer {token}"}
sink = make(SinkConfig(name="s", type="http", format="cloudevents", url=url + "/v1/usage/events", headers=headers))
spool = FileSpool(folder / "spool", ["s"], max_records=1_000_000, max_bytes=1 << 30)
Delivery(spool, [sink], [Batching(int(sys.argv[4]), 0.01)], frozen=folder).start()
threading.Event().wait()
"""
TRIES: Final = [
    {"target": "openai/gpt-4o", "outcome": "timeout", "ms": 1, "uncertain": True},
    {"target": "anthropic/claude-sonnet-4-5", "outcome": "ok", "ms": 2},
]


def mixed(count: int) -> list[dict[str, Any]]:
    """Requests of two tenants over three days: failovers, hits, cut streams and unknown costs among them."""
    out = []
    for n in range(count):
        provider, model = MODELS[n % 3]
        out.append(
            record(
                n,
                tenant=("acme", "globex")[n % 7 == 0],
                time=f"2026-11-0{1 + n % 3}T{n % 24:02}:30:00.000Z",
                gen_ai__provider={"name": provider},
                gen_ai__request={"model": model},
                tries=TRIES if n % 11 == 0 else None,
                outcome="cached" if n % 5 == 0 else "answered",
                gen_ai__usage=None if n % 13 == 0 else {"input_tokens": n, "output_tokens": n % 17},
                cost=None if n % 13 == 0 else {"exact": exact(n * 123_456_789), "currency": "USD"},
            )
        )
    return out


def linked(records: Iterable[dict[str, Any]]) -> list[Entry]:
    heads: dict[str, Head] = {}
    out = []
    for position, one in enumerate(records):
        tenant = one["tenant"]
        entry, heads[tenant] = link(
            one, heads.get(tenant, START), tenant=TenantId(tenant), node="n1", position=position
        )
        out.append(entry)
    return out


@contextmanager
def sender(folder: Path, platform: Platform, size: int) -> Iterator[None]:
    """A process that delivers until it is killed."""
    arguments = [str(folder), platform.url, TOKEN, str(size)]
    process = subprocess.Popen([sys.executable, "-c", DELIVERS, *arguments])
    try:
        yield
    finally:
        process.kill()
        process.wait()


def wanted(records: Iterable[dict[str, Any]]) -> dict[tuple[str, ...], tuple[Any, ...]]:
    """Requests, tries, uncertain tries, tokens and cost of each tenant, day, provider and model."""
    sums: dict[tuple[str, ...], list[Any]] = {}
    for one in records:
        for entry in entries_of(one):
            key = str(entry.tenant), one["time"][:10], entry.provider, entry.model
            row = sums.setdefault(key, [0, 0, 0, 0, 0, Fraction(0)])
            row[0] += entry.final
            row[1] += entry.attempt > 0
            row[2] += entry.uncertain
            row[3] += entry.tokens.get("input_tokens", 0)
            row[4] += entry.tokens.get("output_tokens", 0)
            row[5] += Fraction(entry.cost.femto, FEMTO) if entry.cost else 0
    return {key: tuple(row) for key, row in sums.items()}


def found(platform: Platform) -> dict[tuple[str, ...], tuple[Any, ...]]:
    return {
        (row["tenant"], row["day"], row["provider"], row["model"]): (
            row["requests"],
            row["tries"],
            row["uncertain"],
            row["usage"].get("input_tokens", 0),
            row["usage"].get("output_tokens", 0),
            sum((Fraction(c["exact"]) for c in row["costs"]), Fraction(0)),
        )
        for row in platform.ledger()
    }


@pytest.mark.parametrize(
    ("count", "size", "kills"), [(600, 50, 1), pytest.param(10_000, 100, 5, marks=pytest.mark.slow)]
)
def test_the_ledger_is_what_was_sent(tmp_path: Path, count: int, size: int, kills: int) -> None:
    records = mixed(count)
    spool = FileSpool(tmp_path / "spool", ["s"], max_records=1_000_000, max_bytes=1 << 30)
    spool.append(linked(records))
    data = tmp_path / "platform.sqlite"
    platform = Platform(data)
    port = int(platform.url.rpartition(":")[2])
    for kill in range(1, kills + 1):
        # Some answers are lost, and the sender and the platform die in the middle of it.
        platform.fail({"path": "/v1/usage/events", "fault": "lost_answer", "skip": 1, "times": 2})
        with sender(tmp_path, platform, size):
            wait_for(platform, count * kill // (kills + 3))
            if kill % 2:
                platform.stop()
                platform = Platform(data, port=port)
    with sender(tmp_path, platform, size):
        wait_for(platform, count)
        until(lambda: watermarks(platform), lambda w: sum(w.values()) >= count, what="all numbers")
    assert found(platform) == wanted(records)
    assert watermarks(platform) == {
        tenant: sum(r["tenant"] == tenant for r in records) for tenant in ("acme", "globex")
    }
    platform.stop()


def wait_for(platform: Platform, requests: int) -> None:
    """Until the platform has so many."""

    def taken() -> int:
        return sum(row["requests"] for row in platform.ledger())

    until(taken, lambda n: n >= requests, what="events taken")


def watermarks(platform: Platform) -> dict[str, int]:
    """The last number of each tenant up to which all have come."""
    rows = Client(platform.url, TOKEN, timeout_s=10).sources()
    assert all(row["first"] == 1 for row in rows)
    return {row["tenant"]: row["watermark"] for row in rows}
