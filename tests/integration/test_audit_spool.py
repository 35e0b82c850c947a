"""Both spools: what is appended stays, once; each sink goes on where it was; room is made in the right order."""

from __future__ import annotations

import json
import os
import stat
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import redis

from audit_rig import Chain, Rig, journal_line
from tenantgate.audit import files as audit_files
from tenantgate.audit import streams as audit_streams
from tenantgate.audit.core.chain import link, verify
from tenantgate.audit.core.ports import ConflictError, Gap, Head, Queued, Spool
from tenantgate.audit.core.record import gap as gap_record
from tenantgate.audit.files import FileSpool
from tenantgate.audit.segments import stored
from tenantgate.audit.streams import StreamSpool
from tenantgate.devhost.redis_server import RedisServer
from tenantgate.errors import EdgeError
from tenantgate.store.config import RedisConfig
from tenantgate.tenant import TenantId

OWNER = "tg:audit:1:owner:{tg:audit:1:n}"
ACME, GLOBEX = TenantId("acme"), TenantId("globex {x}:\u00e9")
Open = Callable[..., Spool]


@pytest.fixture(params=["file", "redis"])
def open_spool(
    request: pytest.FixtureRequest, tmp_path: Path, redis_server: RedisServer, store: redis.Redis
) -> Open:
    def made(*sinks: str, max_records: int = 1000, max_bytes: int = 1 << 30, **how: float) -> Spool:
        if request.param == "file":
            return FileSpool(
                tmp_path / "spool", sinks, max_records=max_records, max_bytes=max_bytes, segment_entries=10,
                keep_s=how.get("keep_s", 3600),
            )  # fmt: skip
        config = RedisConfig(port=redis_server.port, timeout_ms=1000)
        return StreamSpool(
            config, "n", sinks, max_records=max_records, max_bytes=max_bytes,
            keep_ms=int(how.get("keep_s", 3600) * 1000),
        )  # fmt: skip

    return made


def ids(spool: Spool, sink: str, limit: int = 1000) -> list[str]:
    """All that waits for a sink, acknowledged."""
    out = []
    while batch := spool.read(sink, limit):
        out += [q.id for q in batch]
        spool.ack(sink, batch)
    return out


def every(spool: Spool, sink: str) -> list[Queued]:
    """All that waits for a sink, acknowledged."""
    out: list[Queued] = []
    while batch := spool.read(sink, 100):
        out += batch
        spool.ack(sink, batch)
    return out


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


# -- files only ----------------------------------------------------------------------------------------------


def files(tmp_path: Path, **how: int) -> FileSpool:
    return FileSpool(
        tmp_path,
        ["a"],
        max_records=how.get("most", 1000),
        max_bytes=how.get("most_bytes", 1 << 30),
        segment_entries=10,
    )


@pytest.mark.parametrize("left", [b'{"t":"acme"', b'{"t":"acme","i":"x","s":9}\t{"half', b"\0" * 50])
def test_what_a_crash_left_of_a_line_is_cut_off(tmp_path: Path, left: bytes) -> None:
    spool, chain = files(tmp_path), Chain()
    entries = chain.entries(4)
    spool.append(entries)
    with max(tmp_path.glob("*.seg")).open("ab") as out:
        out.write(left)
    again = files(tmp_path)
    assert again.heads() == chain.heads
    more = chain.entries(1)
    again.append(more)
    assert ids(again, "a") == [e.id for e in (*entries, *more)]


def test_a_full_disk_is_an_error_and_leaves_nothing_half(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool, chain = files(tmp_path), Chain()
    kept = chain.entries(2)
    spool.append(kept)
    entries = chain.entries(2)

    def full(_fd: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        with pytest.raises(EdgeError, match="No space left"):
            spool.append(entries)
    spool.append(entries)
    assert ids(spool, "a") == [e.id for e in (*kept, *entries)]


def test_beyond_the_bound_the_oldest_records_go_and_that_is_noted(tmp_path: Path) -> None:
    spool, chain = files(tmp_path, most=20), Chain()
    spool.append(chain.entries(10))
    spool.append(chain.entries(10))
    spool.append(chain.entries(10))
    assert spool.trim() == 10
    assert len(ids(spool, "a")) == 20
    noted = json.loads((tmp_path / "dropped").read_bytes())
    assert (noted["records"], noted["numbers"]) == (10, {"acme": [[1, 10]]})


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


def test_a_replay_is_taken_up(tmp_path: Path) -> None:
    spool, chain = files(tmp_path), Chain()
    entries = chain.entries(15)
    spool.append(entries)
    assert len(ids(spool, "a")) == 15
    (tmp_path / "replay.a").write_text("12")
    assert ids(spool, "a") == [e.id for e in entries[12:]]
    assert [e.id for e in stored(tmp_path)] == [e.id for e in entries]


@pytest.mark.parametrize("left", [b"", b'{"heads":{"acme"'])
def test_a_crash_at_the_beginning_of_a_segment_forgets_no_head(tmp_path: Path, left: bytes) -> None:
    spool, chain = files(tmp_path), Chain()
    entries = chain.entries(10)
    spool.append(entries)
    spool.close()
    (tmp_path / f"{10:020d}.seg").write_bytes(left)
    again = files(tmp_path)
    assert again.heads() == chain.heads
    again.append(entries)
    more = chain.entries(3)
    again.append(more)
    assert ids(files(tmp_path), "a") == [e.id for e in (*entries, *more)]


def test_a_full_disk_at_the_beginning_of_a_segment_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool, chain = files(tmp_path), Chain()
    kept, entries = chain.entries(10), chain.entries(2)
    spool.append(kept)

    def full(_fd: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        for _ in range(2):
            with pytest.raises(EdgeError, match="No space left"):
                spool.append(entries)
    spool.append(entries)
    assert ids(files(tmp_path), "a") == [e.id for e in (*kept, *entries)]


@pytest.mark.parametrize("line", [0, 1, 3, 4])
def test_a_damaged_line_costs_no_more_than_itself(tmp_path: Path, line: int) -> None:
    spool, chain = files(tmp_path), Chain()
    entries = chain.entries(4)
    spool.append(entries)
    path = max(tmp_path.glob("*.seg"))
    lines = path.read_bytes().splitlines(keepends=True)
    lines[line] = b"\xff" + lines[line][1:]
    path.write_bytes(b"".join(lines))
    again = files(tmp_path)
    more = chain.entries(3)
    again.append(more)
    expected = [e.id for e in entries]
    if line:
        del expected[line - 1]
    assert ids(again, "a") == [*expected, *(e.id for e in more)]
    assert ids(files(tmp_path), "a") == []


def test_our_files_are_nobody_elses_and_no_link_is_followed(tmp_path: Path) -> None:
    folder = tmp_path / "spool"
    folder.mkdir()
    for name in ("cursor.a.new", "dropped", f"{0:020d}.seg"):
        (folder / name).symlink_to(tmp_path / f"elsewhere-{name}")
    with pytest.raises(EdgeError):
        files(folder)
    (folder / f"{0:020d}.seg").unlink()
    spool, chain = files(folder, most=20), Chain()
    for _ in range(3):
        spool.append(chain.entries(10))
    with pytest.raises(EdgeError):
        spool.ack("a", spool.read("a", 1))
    (folder / "cursor.a.new").unlink()
    spool.ack("a", spool.read("a", 1))
    with pytest.raises(EdgeError):
        spool.trim()
    (folder / "dropped").unlink()
    spool.append(chain.entries(10))
    spool.trim()
    assert not list(tmp_path.glob("elsewhere*"))
    assert {p.name: stat.S_IMODE(p.stat().st_mode) for p in folder.iterdir() if p.is_file()} == {
        p.name: 0o600 for p in folder.iterdir()
    }


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


def test_a_full_disk_while_room_is_made_takes_no_more_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool, chain = files(tmp_path, most_bytes=3000), Chain()
    for _ in range(3):
        spool.append(chain.entries(10))

    def full(_file: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(FileSpool, "_sync", staticmethod(full))
        with pytest.raises(EdgeError):
            spool.trim()
    assert not list(tmp_path.glob("*.new"))
    assert len(ids(spool, "a")) == 30
    spool.append(chain.entries(1))


# -- two gateways under one name ---------------------------------------------------------------------------


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


def test_whoever_removes_segments_takes_nothing_from_what_comes_after(tmp_path: Path) -> None:
    spool, chain = files(tmp_path), Chain()
    spool.append(chain.entries(25))
    assert len(ids(spool, "a")) == 25
    for path in tmp_path.glob("*.seg"):
        path.unlink()
    files(tmp_path).append(chain.entries(3))
    again = files(tmp_path)
    assert again.backlog("a") == 3
    assert len(ids(again, "a")) == 3


# -- Redis only ----------------------------------------------------------------------------------------------


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
