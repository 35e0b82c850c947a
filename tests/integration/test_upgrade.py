"""Nodes of two versions side by side: what one has written the other one reads, or refuses as a whole.

`upgrade_before` was written by version 0.1: the records that it compiled of `tenants.yaml`, and what it left in Redis
by the rigs of these tests: an answer in the cache, and a counter with a request that has ended, two in flight, and one
whose end never came. The audit log's part is in `test_audit_upgrade.py`.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from typing import Any

import pytest
import redis

from cache_rig import Rig, fresh_stores, status, use_small_models
from ledger_rig import START_MS, Clock, claim, requests, reservation, settlement, timed
from tenantgate.config import load
from tenantgate.config.compile import CompileOptions, compile_records
from tenantgate.config.documents import documents
from tenantgate.devhost.redis_server import RedisServer
from tenantgate.engine.config import EngineConfig
from tenantgate.engine.stages import StageBuilder
from tenantgate.engine.tenants import Tenant
from tenantgate.limits import redis_ledger
from tenantgate.limits.core.ledger import Reserved
from tenantgate.limits.redis_ledger import RedisLedger
from tenantgate.policy.core.records import CATALOG, read_catalog, read_record, write_record

from support import ROOT

BEFORE = ROOT / "tests/integration/upgrade_before"
RECORDS: dict[str, Any] = json.loads((BEFORE / "records.json").read_text())
TENANTS = sorted(RECORDS.keys() - {CATALOG})
OPEN = ("options", "secrets", "headers", "pins", "input_schema", "output_schema")
"""Members whose own members have any names: the provider's, those of headers, of tools, of a JSON Schema."""


def raw(tree: Any) -> bytes:
    return json.dumps(tree, separators=(",", ":"), sort_keys=True).encode("ascii")


@pytest.fixture(scope="module")
def builder() -> StageBuilder:
    return StageBuilder(EngineConfig(policy_path="/nowhere", encryption_key="k" * 32))


def engine_takes(builder: StageBuilder, name: str, record: bytes) -> Tenant:
    tenant = Tenant(read_record(name, record), builder)
    tenant.check()
    return tenant


# -- policies


@pytest.mark.parametrize("name", TENANTS)
def test_an_engine_goes_by_the_records_of_the_version_before(builder: StageBuilder, name: str) -> None:
    found = engine_takes(builder, name, raw(RECORDS[name])).policy
    assert write_record(found) == raw(RECORDS[name])


def test_the_catalog_of_the_version_before_is_read() -> None:
    assert "openai/gpt-4o" in read_catalog(raw(RECORDS[CATALOG])).models


def test_an_apply_of_the_same_file_publishes_nothing_that_an_engine_of_the_version_before_refuses() -> None:
    """A setting that is new stands in a record only where somebody has used it."""
    file = load(BEFORE / "tenants.yaml")
    records = compile_records(file, CompileOptions(documents=documents(file, BEFORE)))
    assert {name: json.loads(record) for name, record in records.items()} == RECORDS


def objects(tree: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The places of the objects in a record that have members of ours."""
    if isinstance(tree, dict):
        yield path
        for name, value in tree.items():
            if name not in OPEN:
                yield from objects(value, (*path, name))
    elif isinstance(tree, list):
        for i, value in enumerate(tree):
            yield from objects(value, (*path, i))


PLACES = [(name, path) for name in TENANTS for path in objects(RECORDS[name])]


@pytest.mark.parametrize(
    ("name", "path"), PLACES, ids=[f"{n}.{'.'.join(map(str, path))}" for n, path in PLACES]
)
def test_a_member_that_an_engine_does_not_know_is_refused_and_never_left_out(
    builder: StageBuilder, name: str, path: tuple[Any, ...]
) -> None:
    """It may be a rule; the tenant's last good record stays in force then (`tenantgate.policy.directory`)."""
    tree = json.loads(json.dumps(RECORDS[name]))
    place = tree
    for step in path:
        place = place[step]
    place["of_a_later_version"] = {}
    with pytest.raises(Exception):  # noqa: B017, PT011 - the directory takes any
        engine_takes(builder, name, raw(tree))


# -- Redis


@pytest.fixture
def before(store: redis.Redis) -> redis.Redis:
    """Redis as version 0.1 left it."""
    for entry in json.loads((BEFORE / "redis.json").read_text()):
        key, value = base64.b64decode(entry["key"]), entry["value"]
        if entry["type"] == "string":
            store.set(key, base64.b64decode(value))
        elif entry["type"] == "zset":
            store.zadd(key, {base64.b64decode(m): score for m, score in value.items()})
        else:
            store.hset(key, mapping={base64.b64decode(f): base64.b64decode(v) for f, v in value.items()})
    return store


def test_answers_that_the_version_before_stored_are_given(
    redis_server: RedisServer, before: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    del before
    use_small_models(monkeypatch)
    fresh_stores(monkeypatch)
    rig = Rig(redis_server.port, {"cache_ttl": 31_536_000})
    found = rig.access("please tell me what a sextant is made of")
    assert status(found) == "Hit"
    assert found.exit is not None
    assert found.exit.json["choices"][0]["message"]["content"] == "An instrument."


@pytest.fixture
def ledger(before: redis.Redis, monkeypatch: pytest.MonkeyPatch) -> RedisLedger:
    """Two seconds after the start, when the fixture was written."""
    clock = Clock()
    clock.us += 2_000_000
    monkeypatch.setattr(redis_ledger, "time", clock)
    return timed(before, clock)


def begun(time_ms: int = START_MS) -> Reserved:
    return Reserved(refused=None, by=(), max_tokens=0, rooms=(), now_ms=time_ms)


def test_what_the_version_before_counted_and_holds_counts(ledger: RedisLedger) -> None:
    # 40 were spent, 100 are charged for a request whose end never came; 100 and 10 are held for two in flight.
    answer = ledger.reserve(reservation("new", claim("spent"), worst=750))
    assert answer.refused is None
    assert (answer.rooms[0].used, answer.rooms[0].held) == (140, 110 + 750)
    assert ledger.reserve(reservation("more", claim("spent"), worst=1)).refused is not None


def test_requests_that_the_version_before_let_pass_are_settled(ledger: RedisLedger) -> None:
    for id_, spent in (("held", 30), ("late", 20)):
        ended = settlement(reservation(id_, claim("spent")), begun(), spent)
        rooms = ledger.settle(ended)
        assert ledger.settle(ended) is not None  # twice counts once
    assert (rooms[0].used, rooms[0].held) == (40 + 30 + 20, 10)


def test_a_request_that_the_version_before_settled_is_not_settled_again(ledger: RedisLedger) -> None:
    rooms = ledger.settle(settlement(reservation("done", claim("spent"), requests(5)), begun(), [500, 1]))
    assert rooms[0].used == 140


def test_a_reservation_that_has_expired_is_written_as_the_version_before_reads_it(
    ledger: RedisLedger, before: redis.Redis
) -> None:
    """Else that one would forget it, and charge the request a second time when its end comes."""
    ledger.reserve(reservation("brief", claim("brief"), lifetime_ms=1))
    redis_ledger.time.us += 40_000_000  # type: ignore[attr-defined]
    ledger.reserve(reservation("next", claim("brief")))
    (key,) = before.keys("*counter:brief:*")
    written = before.hget(key, "rbrief")
    assert written is not None
    amount, _, _, charged, tokens = written.split(b" ")
    assert (amount, charged, int(tokens)) == (b"100", b"1", 100)
    assert before.hget(key, "xe") == b"100"
    ledger.settle(settlement(reservation("brief", claim("brief")), begun(), 4))
    assert (before.hget(key, "xe"), before.hget(key, "rbrief")) == (b"0", None)
