"""The spool in Redis: gateways of one name, room over all tenants, a Redis that loses records."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import pytest
import redis

from audit_rig import ACME, GLOBEX, Chain, Rig, every, ids, journal_line
from tenantgate.audit.core.chain import verify
from tenantgate.audit.core.ports import ConflictError, Queued
from tenantgate.audit.streams import StreamSpool
from tenantgate.devhost.redis_server import RedisServer
from tenantgate.store.config import RedisConfig
from tenantgate.tenant import TenantId

OWNER = "tg:audit:1:owner:{tg:audit:1:n}"


def owned(server: RedisServer, owner: str) -> StreamSpool:
    config = RedisConfig(port=server.port, timeout_ms=1000)
    return StreamSpool(config, "n", ["a"], max_records=1000, max_bytes=1 << 30, owner=owner)


def test_a_second_gateway_of_the_same_name_waits(redis_server: RedisServer, store: redis.Redis) -> None:
    first, chain = owned(redis_server, "one"), Chain()
    first.append(chain.entries(3))
    first.set_checkpoint(300)
    with pytest.raises(ConflictError, match=r"gateway\.audit\.node"):
        owned(redis_server, "two")
    assert not owned(redis_server, "one").taken_over, "after its own restart"
    store.delete(OWNER)  # as when it has been silent for long
    second = owned(redis_server, "two")
    assert second.taken_over
    assert second.heads() == chain.heads
    with pytest.raises(ConflictError):
        first.trim()


def test_who_does_not_know_that_another_has_written_loses_nothing(
    redis_server: RedisServer, store: redis.Redis
) -> None:
    first, mine = owned(redis_server, "one"), Chain()
    first.append(mine.entries(3))
    store.delete(OWNER)
    second, other = owned(redis_server, "two"), Chain()
    other.heads, other.position = dict(mine.heads), 5000
    second.append(other.entries(2))
    for entries in (
        mine.entries(1),
        mine.entries(3),
    ):  # their positions are smaller than those that are there
        with pytest.raises(ConflictError):
            first.append(entries)
    assert verify(q.record for q in every(second, "a")).sound
    other.position += 10_000
    second.append(other.entries(450))
    second.append(other.entries(0))
    assert len(every(second, "a")) == 450


def test_after_redis_has_lost_everything_it_goes_on(redis_server: RedisServer, store: redis.Redis) -> None:
    spool, chain = owned(redis_server, "one"), Chain()
    spool.append(chain.entries(3))
    store.flushdb()
    spool.append(chain.entries(2))
    assert [json.loads(q.record)["chain"]["seq"] for q in every(spool, "a")] == [4, 5]


def test_gateways_of_different_names_share_a_redis(redis_server: RedisServer, store: redis.Redis) -> None:
    config = RedisConfig(port=redis_server.port, timeout_ms=1000)
    names = ("n", "m", "host name: 1", "host name: 2")
    spools = {
        name: StreamSpool(config, name, ["a"], max_records=1000, max_bytes=1 << 30, owner=name)
        for name in names
    }
    for count, spool in enumerate(spools.values(), 1):
        spool.append(Chain().entries(count))
        spool.set_checkpoint(count)
    for count, (name, spool) in enumerate(spools.items(), 1):
        again = StreamSpool(config, name, ["a"], max_records=1000, max_bytes=1 << 30, owner=name)
        assert (len(every(spool, "a")), again.checkpoint(), again.taken_over) == (count, count, False)


def test_who_was_silent_for_long_does_not_mend_what_another_writes(
    redis_server: RedisServer, store: redis.Redis
) -> None:
    first, chain = owned(redis_server, "one"), Chain()
    first.append(chain.entries(3))
    store.set(OWNER, "two")
    chain.entries(2)
    with pytest.raises(ConflictError):
        first.append(chain.entries(1))
    assert len(list(first.all())) == 3


def streams(redis_server: RedisServer, *, most: int = 1000, room: int = 1 << 30) -> StreamSpool:
    config = RedisConfig(port=redis_server.port, timeout_ms=1000)
    return StreamSpool(config, "n", ["a"], max_records=most, max_bytes=room)


def size(store: Any) -> int:
    """What the spool takes, counted anew, after a check that its own books say the same."""
    total = 0
    for key in store.keys("tg:audit:1:*:head"):
        base = key.decode().removesuffix("head")
        rows = store.xrange(base + "records")
        mine = sum(len(fields[b"record"]) + 256 for _, fields in rows)
        mine += sum(len(content) for content in store.hvals(base + "contents"))
        assert int(store.hget(key, "bytes")) == mine
        assert store.hlen(base + "contents") <= len(rows)
        total += mine
    return total


def test_in_redis_the_oldest_contents_of_all_tenants_go_first(
    redis_server: RedisServer, store: redis.Redis
) -> None:
    whole, chain = streams(redis_server), Chain()
    for _ in range(4):
        for tenant in (ACME, GLOBEX):
            whole.append(chain.entries(5, tenant, content="x" * 1000))
            threading.Event().wait(0.002)  # Redis's clock, which orders tenants, counts milliseconds
    room = size(store) - 10_000
    spool = streams(redis_server, room=room)
    assert spool.trim() == 10
    assert room - 1100 < size(store) <= room
    assert spool.trim() == 0
    assert shed_of(spool) == {ACME: 5, GLOBEX: 5}
    spool.append(chain.entries(5, ACME, content="x" * 1000))
    lost = spool.trim()
    assert lost >= 5
    assert sum(shed_of(spool).values()) == 10 + lost, "the next ones, and not those that have none"
    assert size(store) <= room


def shed_of(spool: StreamSpool) -> dict[TenantId, int]:
    """How many records of each tenant have no content; they are its oldest, and the chains are sound."""
    found = list(spool.all())
    assert verify(q.record for q in found).sound
    out = {}
    for tenant in (ACME, GLOBEX):
        bare = [json.loads(q.record)["content"] == {"state": "shed"} for q in found if q.tenant == tenant]
        out[tenant] = sum(bare)
        assert bare == sorted(bare, reverse=True)
    return out


def test_in_redis_records_go_when_contents_are_not_enough(
    redis_server: RedisServer, store: redis.Redis, caplog: pytest.LogCaptureFixture
) -> None:
    chain = Chain()
    streams(redis_server).append([*chain.entries(30), *chain.entries(30, GLOBEX)])
    room = size(store) // 2
    spool = streams(redis_server, room=room)
    assert spool.trim() > 60
    assert room - 1000 < size(store) <= room
    assert "records were dropped" in caplog.text
    found = ids(spool, "a")
    assert found[-1] == f"id-{chain.position}"
    few = streams(redis_server, most=7)
    few.append(chain.entries(10))
    few.trim()
    assert len(list(few.all())) == 7
    size(store)
    assert few.heads() == chain.heads


def test_a_spool_in_redis_from_before_sizes_were_counted(
    redis_server: RedisServer, store: redis.Redis
) -> None:
    spool, chain = streams(redis_server, most=3), Chain()
    spool.append(chain.entries(5))
    (head,) = store.keys("tg:audit:1:*:head")
    store.hdel(head, "bytes")
    assert spool.trim() == 2
    assert store.hget(head, "bytes") == b"0"


def working(tmp_path: Path, server: RedisServer, *sinks: str, most: int = 1000, room: int = 1 << 30) -> Rig:
    """A worker whose spool is in Redis."""
    config = RedisConfig(port=server.port, timeout_ms=1000)
    spool = StreamSpool(config, "node-1", sinks, max_records=most, max_bytes=room, owner="one")
    rig = Rig(tmp_path, spool=spool)
    rig.policy(content="off")
    rig.step()  # room was made just now
    return rig


@pytest.mark.parametrize("bound", [{"most": 20}, {"room": 35_000}])
def test_what_either_bound_of_redis_drops_is_told_of_by_a_record(
    redis_server: RedisServer, store: redis.Redis, tmp_path: Path, bound: dict[str, int]
) -> None:
    rig = working(tmp_path, redis_server, "a", **bound)
    rig.write(*(journal_line(n) for n in range(1, 41)))
    rig.step(times=2)
    got = rig.spool.read("a", 5)
    rig.spool.ack("a", got)
    rig.step(after_s=6, times=2)
    rig.write(journal_line(41))
    rig.step(times=2)
    got = [q.record for q in (*got, *every(rig.spool, "a"))]
    report = verify(got)
    assert report.sound, report.faults
    lost = 42 - len(got)
    assert 10 < lost < 35
    assert report.dropped == {("acme", "node-1"): ((6, 5 + lost),)}
    without = verify(r for r in got if b'"gap":' not in r)
    assert {f.kind for f in without.faults} == {"missing"}
    assert rig.spool.gaps() == []
    size(store)
    rig.close()


def test_a_redis_that_comes_back_without_the_last_records_forks_no_chain(
    redis_server: RedisServer, store: redis.Redis, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rig = working(tmp_path, redis_server, "quick", "slow")
    rig.write(*(journal_line(n) for n in range(1, 7)))
    rig.step(times=2)
    quick, slow = every(rig.spool, "quick"), rig.spool.read("slow", 2)
    rig.spool.ack("slow", slow)
    before = {key: store.dump(key) for key in store.keys("tg:audit:*")}
    rig.write(*(journal_line(n) for n in range(7, 11)))
    rig.step(times=2)
    quick += every(rig.spool, "quick")
    for key, value in before.items():
        store.restore(key, 0, value, replace=True)
    rig.write(*(journal_line(n) for n in range(11, 14)))
    rig.step(times=2)
    assert "redis has lost records of the spool" in caplog.text
    rig.step(after_s=6, times=2)
    for got, missing in ((quick, ()), (slow, ((7, 10),))):
        found = verify(q.record for q in [*got, *every(rig.spool, "quick" if got is quick else "slow")])
        assert found.sound, found.faults
        assert found.dropped.get(("acme", "node-1"), ()) == missing
    (told,) = [json.loads(q.record)["gap"] for q in rig.spool.all() if b'"gap":' in q.record]
    assert (told["reason"], told["numbers"]) == ("spool_lost", [{"from": 7, "to": 10}])
    assert rig.spool.gaps() == []
    rig.close()


def test_what_is_appended_while_a_sink_looks_is_not_overlooked(
    redis_server: RedisServer, store: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool, chain = streams(redis_server), Chain()
    spool.append(chain.entries(1))
    spool.ack("a", spool.read("a", 10))
    looked, late = spool._entries, [chain.entries(1)]

    def looking(*args: Any) -> list[Queued]:
        found = looked(*args)
        while late:
            spool.append(late.pop())
        return found

    monkeypatch.setattr(spool, "_entries", looking)
    assert spool.read("a", 10) == []
    assert len(spool.read("a", 10)) == 1
