"""The file store beyond what every store does: kills, copies of versions, trails. (tests/integration has the rest.)"""

from __future__ import annotations

import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from policy_rig import NOTE
from tenantgate.policy.core.ports import DamagedError, VersionInfo, content_hash, digest_of
from tenantgate.policy.sqlite_store import SqlitePolicyStore

PUBLISHER = """
import sys
from pathlib import Path
from tenantgate.policy import sqlite_store
from tenantgate.policy.core.ports import PublishNote

def stopping(tenant, plain=sqlite_store.tenant_bytes, seen=[]):
    seen.append(tenant)
    if len(seen) == int(sys.argv[2]):
        print("middle", flush=True)
        sys.stdin.read()
    return plain(tenant)

sqlite_store.tenant_bytes = stopping
store = sqlite_store.SqlitePolicyStore(Path(sys.argv[1]))
store.publish({f"t{i}": b"new" * 1500 + b"%d" % i for i in range(2000)}, expected=1, note=PublishNote("", "", 0.0))
"""


@pytest.fixture
def store(tmp_path: Path) -> SqlitePolicyStore:
    return SqlitePolicyStore(tmp_path / "policy.db")


@pytest.mark.parametrize("after", [1, 1500, 2000])
def test_a_publisher_that_is_killed_in_the_middle_leaves_the_old_version(
    store: SqlitePolicyStore, after: int
) -> None:
    old = {f"t{i}": b"old%d" % i for i in range(100)}
    store.publish(old, expected=0, note=NOTE)
    child = subprocess.Popen(
        [sys.executable, "-c", PUBLISHER, str(store.path), str(after)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert child.stdin is not None
    assert child.stdout is not None
    assert child.stdout.readline() == b"middle\n"
    assert dict(store.records()) == old  # while it writes
    child.send_signal(signal.SIGKILL)
    child.wait()
    child.stdin.close()
    child.stdout.close()
    again = SqlitePolicyStore(store.path)
    assert dict(again.records()) == old
    assert again.publish({"t0": b"2"}, expected=1, note=NOTE) == 2
    with sqlite3.connect(store.path) as db:
        assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert db.execute("SELECT count(*) FROM contents").fetchone() == (101,)
    db.close()


def version(number: int, index: dict[str, bytes]) -> VersionInfo:
    return VersionInfo(number, 5.0, "them", "why", 3, digest_of(index))


def test_a_version_of_another_store_keeps_its_number(store: SqlitePolicyStore) -> None:
    one, two = content_hash(b"1"), content_hash(b"2")
    first, second = {"acme": one, "globex": one}, {"acme": two}
    assert store.take(version(7, first), first, {one: b"1"})
    assert store.take(version(30, second), second, {two: b"2"})
    assert [info.number for info in store.history()] == [30, 7]
    assert dict(store.records()) == {"acme": b"2"}
    assert dict(store.records(7)) == {"acme": b"1", "globex": b"1"}
    assert not store.take(version(30, first), first, {})
    assert not store.take(version(8, first), first, {})
    assert dict(store.records()) == {"acme": b"2"}


def test_a_version_whose_index_is_another_one_is_not_taken(store: SqlitePolicyStore) -> None:
    one = content_hash(b"1")
    with pytest.raises(DamagedError, match="version 7"):
        store.take(version(7, {"acme": one}), {"globex": one}, {one: b"1"})
    assert store.head() == 0


def test_records_can_come_later(store: SqlitePolicyStore) -> None:
    one, two = content_hash(b"1"), content_hash(b"2")
    index = {"acme": one, "globex": two}
    store.take(version(1, index), index, {two: b"2"})
    assert store.missing() == {one}
    with pytest.raises(DamagedError, match="tenant acme"):
        store.record("acme")
    store.add({one: b"1"})
    assert (store.missing(), store.record("acme")) == (set(), b"1")


def test_a_trail_has_the_newest_record_first(store: SqlitePolicyStore) -> None:
    assert store.trail("acme", 9) is None
    for body in (b"1", b"2", None, b"3"):
        store.publish({"acme": body}, expected=store.head(), note=NOTE)
    one, two, three = map(content_hash, (b"1", b"2", b"3"))
    assert store.trail("acme", 9) == [three, None, two, one]
    assert store.trail("acme", 2) == [three, None]
    assert store.trail("nobody", 9) == []


def test_a_lookup_takes_as_many_steps_with_ten_thousand_tenants_as_with_one(tmp_path: Path) -> None:
    def steps(tenants: int) -> int:
        store = SqlitePolicyStore(tmp_path / f"{tenants}.db")
        store.publish({f"t{i}": b"%d" % i for i in range(tenants)}, expected=0, note=NOTE)
        with store._file.read() as db:
            assert db is not None
            count = [0]
            db.set_progress_handler(lambda: count.__setitem__(0, count[0] + 1), 1)
            assert store.trail("t0", 1)
            db.set_progress_handler(None, 1)
        store.close()
        return count[0]

    assert steps(1) == steps(10_000) > 0


def test_a_version_takes_room_for_what_it_changes(store: SqlitePolicyStore) -> None:
    store.publish({f"t{i}": b"%d" % i * 300 for i in range(1000)}, expected=0, note=NOTE)

    def rows() -> list[int]:
        with sqlite3.connect(store.path) as db:
            counts = [db.execute(f"SELECT count(*) FROM {t}").fetchone()[0] for t in ("changes", "contents")]
        db.close()
        return counts

    before = rows()
    store.publish({"t5": b"new", "t6": b"0" * 300}, expected=1, note=NOTE)
    assert [now - then for now, then in zip(rows(), before, strict=True)] == [2, 1]
