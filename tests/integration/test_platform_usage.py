"""The reference platform's intake of usage: each event once, whatever is lost, doubled or killed on the way."""

from __future__ import annotations

import gzip
import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from platform_rig import TOKEN, Platform
from tenantgate.platform.client import Client
from tenantgate.platform.reference.storage import Storage

BATCH: Final = "application/cloudevents-batch+json"


def usage(number: int, cost: str = "0.1", **data: Any) -> dict[str, Any]:
    return {
        "specversion": "1.0",
        "id": f"r{number}:1",
        "source": "/tenantgate/nodes/a",
        "type": "tenantgate.usage.v1",
        "subject": "acme",
        "time": "2026-11-29T16:10:01.000Z",
        "data": {
            "attempt": 1,
            "provider": "p",
            "model": "m",
            "cost": {"exact": cost, "currency": "USD"},
            **data,
        },
    }


def watermark(first: int, last: int) -> dict[str, Any]:
    data = {"from": first, "to": last, "prev": "", "hash": f"h{last}"}
    return {**usage(0), "id": f"h{first}-{last}", "type": "tenantgate.watermark.v1", "data": data}


@pytest.fixture
def platform() -> Iterator[Platform]:
    running = Platform()
    yield running
    running.stop()


def test_each_event_is_judged_by_itself_and_counts_once(platform: Platform) -> None:
    told = platform.send([usage(1), {"id": "x"}, usage(1), {**usage(2), "type": "of.later"}, watermark(1, 2)])
    assert [r["status"] for r in told["results"]] == [
        "accepted",
        "rejected",
        "duplicate",
        "ignored",
        "accepted",
    ]
    assert told["results"][1] == {"status": "rejected", "id": "x", "detail": "specversion: must be 1.0"}
    assert {k: v for k, v in told.items() if k != "results"} == {
        "accepted": 2,
        "duplicates": 1,
        "ignored": 1,
        "rejected": 1,
    }
    (row,) = platform.ledger()
    assert (row["requests"], row["costs"]) == (1, [{"currency": "USD", "exact": "0.1"}])


def test_gaps_of_a_nodes_chain_are_told(platform: Platform) -> None:
    platform.send([watermark(3, 4), watermark(8, 9), watermark(5, 5)])
    (source,) = Client(platform.url, TOKEN, timeout_s=10).sources()
    assert source == {
        "source": "/tenantgate/nodes/a",
        "tenant": "acme",
        "first": 3,
        "watermark": 5,
        "highest": 9,
        "gaps": [{"from": 6, "to": 7}],
    }


def test_corrections_are_listed_and_summed(platform: Platform) -> None:
    correction = {**usage(9, cost="-0.03"), "type": "tenantgate.correction.v1"}
    platform.send([usage(1), correction])
    (row,) = platform.ledger()
    assert (row["corrections"], row["costs"][0]["exact"]) == (1, "0.07")
    assert platform.call("GET", "/v1/usage/corrections?tenant=acme")["data"] == [correction]
    assert platform.call("GET", "/v1/usage/corrections?tenant=other")["data"] == []


@pytest.mark.parametrize(
    ("path", "rows"),
    [("", 3), ("?tenant=acme", 3), ("?model=m", 2), ("?from=2026-11-30", 1), ("?to=2026-11-29&model=m", 1)],
)
def test_the_ledger_is_asked_by_tenant_model_and_day(platform: Platform, path: str, rows: int) -> None:
    platform.send([usage(1), usage(2, model="n"), {**usage(3), "time": "2026-11-30T00:00:00Z"}])
    assert len(platform.call("GET", f"/v1/usage/ledger{path}")["data"]) == rows


def test_a_batch_may_be_packed_and_is_bounded(platform: Platform) -> None:
    def post(body: bytes, **headers: str) -> int:
        all_headers = {"Authorization": f"Bearer {TOKEN}", "Content-Type": BATCH, **headers}
        request = urllib.request.Request(platform.url + "/v1/usage/events", body, all_headers)
        try:
            with urllib.request.urlopen(request, timeout=10) as response:
                return int(response.status)
        except urllib.error.HTTPError as error:
            with error:
                return error.code

    packed = {"Content-Encoding": "gzip"}
    assert post(gzip.compress(json.dumps([usage(1)]).encode()), **packed) == 202
    assert post(gzip.compress(b"[" + b" " * (17 << 20) + b"]"), **packed) == 413
    assert post(json.dumps([None] * 10_001).encode()) == 413
    assert post(b"{}") == 400
    assert post(b"[", **{"Content-Type": "application/json"}) == 415
    assert len(platform.ledger()) == 1


def test_what_was_answered_is_there_after_a_restart_and_a_lost_answer_doubles_nothing(tmp_path: Path) -> None:
    data = tmp_path / "platform.sqlite"
    first = Platform(data)
    first.put({"id": "acme"})
    first.send([usage(1), watermark(1, 1)])
    first.fail({"path": "/v1/usage/events", "fault": "lost_answer"})
    with pytest.raises(ConnectionResetError):
        first.send([usage(2), usage(3)])
    first.stop()
    second = Platform(data)
    assert second.send([usage(2), usage(3)])["duplicates"] == 2
    (row,) = second.ledger()
    assert (row["requests"], row["costs"][0]["exact"]) == (3, "0.3")
    assert second.call("GET", "/v1/tenants")["data"] == [{"id": "acme"}]
    second.stop()


@settings(max_examples=20)
@given(st.lists(st.lists(st.integers(0, 30), max_size=8), max_size=6))
def test_the_ledger_is_the_sum_of_the_distinct_events(batches: list[list[int]]) -> None:
    storage = Storage(None)
    for batch in batches:
        storage.take([usage(number, cost=f"0.{number:02}") for number in batch])
    distinct = {number for batch in batches for number in batch}
    rows = storage.ledger(where={}, since="", until="9", after=("",) * 4, limit=10)
    storage.close()
    assert sum(row["requests"] for row in rows) == len(distinct)
    cents = [round(float(c["exact"]) * 100) for row in rows for c in row["costs"]]
    assert sum(cents) == sum(distinct)
