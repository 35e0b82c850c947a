"""Both spools: what is appended stays, once; each sink goes on where it was; room is made in the right order."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import redis

from audit_rig import ACME, GLOBEX, Chain, every, ids
from tenantgate.audit import files as audit_files
from tenantgate.audit import streams as audit_streams
from tenantgate.audit.core.chain import link, verify
from tenantgate.audit.core.ports import Gap, Head, Spool
from tenantgate.audit.core.record import gap as gap_record
from tenantgate.audit.files import FileSpool
from tenantgate.audit.streams import StreamSpool
from tenantgate.devhost.redis_server import RedisServer
from tenantgate.store.config import RedisConfig

Open = Callable[..., Spool]


@pytest.fixture(params=["file", "redis"])
def open_spool(
    request: pytest.FixtureRequest, tmp_path: Path, redis_server: RedisServer, store: redis.Redis
) -> Open:
    def made(*sinks: str, max_records: int = 1000, max_bytes: int = 1 << 30, **how: float) -> Spool:
        if request.param == "file":
            return FileSpool(
                tmp_path / "spool",
                sinks,
                max_records=max_records,
                max_bytes=max_bytes,
                segment_entries=10,
                keep_s=how.get("keep_s", 3600),
            )
        config = RedisConfig(port=redis_server.port, timeout_ms=1000)
        return StreamSpool(
            config,
            "n",
            sinks,
            max_records=max_records,
            max_bytes=max_bytes,
            keep_ms=int(how.get("keep_s", 3600) * 1000),
        )

    return made


def test_entries_come_out_once_in_order_and_whole(open_spool: Open) -> None:
    spool, chain = open_spool("a"), Chain()
    entries = chain.entries(35)
    spool.append(entries)
    first = spool.read("a", 7)
    assert [q.record for q in first] == [e.record for e in entries[:7]]
    assert spool.read("a", 7) == first, "nothing is gone before it is acknowledged"
    spool.ack("a", first)
    assert spool.backlog("a") == 28
    assert ids(spool, "a", 4) == [e.id for e in entries[7:]]
    assert spool.backlog("a") == 0


def test_an_append_that_is_repeated_changes_nothing(open_spool: Open) -> None:
    spool, chain = open_spool("a"), Chain()
    entries = chain.entries(5) + chain.entries(5, GLOBEX)
    spool.append(entries)
    spool.append(entries[2:])
    assert sorted(ids(spool, "a")) == sorted(e.id for e in entries)
    assert spool.heads() == chain.heads


def test_all_is_there_after_a_restart(open_spool: Open) -> None:
    spool, chain = open_spool("a", "b"), Chain()
    entries = chain.entries(23) + chain.entries(4, GLOBEX)
    spool.append(entries)
    batch = spool.read("a", 5)
    spool.ack("a", batch)
    assert spool.checkpoint() is None
    spool.set_checkpoint(77)
    again = open_spool("a", "b")
    assert again.heads() == chain.heads
    assert again.checkpoint() == 77
    more = chain.entries(3)
    again.append(more)
    assert sorted(ids(again, "a")) == sorted({e.id for e in (*entries, *more)} - {q.id for q in batch})
    assert len(ids(again, "b")) == 30


def test_sinks_go_at_their_own_pace(open_spool: Open) -> None:
    spool, chain = open_spool("fast", "slow"), Chain()
    spool.append(chain.entries(12))
    assert len(ids(spool, "fast")) == 12
    assert (spool.backlog("fast"), spool.backlog("slow")) == (0, 12)
    spool.append(chain.entries(3))
    assert (len(ids(spool, "fast")), len(ids(spool, "slow"))) == (3, 15)


def test_what_all_have_goes_before_anything_is_lost(open_spool: Open) -> None:
    spool, chain = open_spool("a", "b", max_records=30), Chain()
    spool.append(chain.entries(25))
    for sink in ("a", "b"):
        ids(spool, sink)
    late = chain.entries(25)
    spool.append(late)
    assert spool.trim() == 0
    assert ids(spool, "a") == [e.id for e in late]
    assert ids(spool, "b") == [e.id for e in late]


def test_what_was_delivered_is_kept_for_a_while_and_then_goes(open_spool: Open) -> None:
    spool, chain = open_spool("a", keep_s=-60), Chain()
    spool.append(chain.entries(25))
    ids(spool, "a")
    assert spool.trim() == 0
    later = chain.entries(1)
    spool.append(later)
    assert ids(open_spool("a"), "a") == [later[0].id]


def test_the_chain_is_sound_after_contents_were_shed(open_spool: Open) -> None:
    spool, chain = open_spool("a", max_bytes=22_000), Chain()
    for _ in range(4):
        spool.append(chain.entries(8, content="x" * 300))
    assert spool.trim() > 0
    found = [q.record for q in spool.read("a", 1000)]
    report = verify(found)
    assert report.sound, report.faults
    assert report.shed > 0
    assert b"xxx" in found[-1], "the newest keep theirs"


def test_what_was_dropped_is_known_until_a_record_tells_of_it(open_spool: Open) -> None:
    spool, chain = open_spool("quick", "slow", max_records=20), Chain()
    spool.append(chain.entries(10))
    spool.append(chain.entries(10))
    first = spool.read("slow", 3)
    for sink in ("quick", "slow"):
        spool.ack(sink, first)
    spool.append(chain.entries(10))
    spool.append(chain.entries(1))
    spool.trim()
    (gap,) = spool.gaps()
    assert gap == Gap(ACME, ((4, 31 - len(every(spool, "slow"))),))
    assert open_spool("quick", "slow").gaps() == [gap]
    spool.reported([gap])
    assert spool.gaps() == open_spool("quick", "slow").gaps() == []


def test_a_dropped_record_of_what_was_dropped_is_told_of_again(open_spool: Open) -> None:
    spool, chain = open_spool("a", max_records=20), Chain()
    chain.heads[ACME] = Head(50, "x", -1)
    told = gap_record(((7, 9), (30, 50)), tenant=ACME, identifier="gap-1", now_ms=0)
    entry, chain.heads[ACME] = link(told, chain.heads[ACME], tenant=ACME, node="n", position=1)
    spool.append([entry])
    for _ in range(4):
        spool.append(chain.entries(10))
    spool.trim()
    (gap,) = spool.gaps()
    assert gap.numbers[0] == (7, 9)
    assert gap.numbers[1][0] == 30
    assert gap.numbers[1][1] == 91 - len(every(spool, "a"))


def test_one_read_takes_no_more_memory_than_it_should(
    open_spool: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit_files, "_READ_BYTES", 10_000)
    monkeypatch.setattr(audit_streams, "_READ_BYTES", 10_000)
    spool, chain = open_spool("a"), Chain()
    spool.append(chain.entries(25, content="x" * 3000))
    spool.append(chain.entries(1, content="x" * 30_000))
    sizes = []
    while batch := spool.read("a", 1000):
        sizes.append(len(batch))
        spool.ack("a", batch)
    assert sum(sizes) == 26
    assert max(sizes) == 2
    assert sizes[-1] == 1, "one that is larger goes alone"
