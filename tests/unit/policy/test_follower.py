"""The local copy follows its store, and outlives whatever happens to that."""

from __future__ import annotations

import logging
import os
import sqlite3
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from policy_rig import NOTE
from tenantgate.errors import ConfigError
from tenantgate.policy import follower as follower_module
from tenantgate.policy.core.ports import Acknowledgement, DamagedError, UnavailableError, content_hash
from tenantgate.policy.follower import Follower
from tenantgate.policy.sqlite_store import SqlitePolicyStore
from tenantgate.telemetry import metrics

from support import until


class Remote(SqlitePolicyStore):
    """A store that fails at will, and tells which records were fetched."""

    fails: Exception | None = None

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.fetched: list[bytes] = []
        self.lost: set[bytes] = set()

    def latest(self) -> Any:
        if self.fails is not None:
            raise self.fails
        return super().latest()

    def contents(self, hashes: Collection[bytes]) -> dict[bytes, bytes]:
        found = {hashed: body for hashed, body in super().contents(hashes).items() if hashed not in self.lost}
        self.fetched += found.values()
        return found

    def put(self, **records: bytes | None) -> None:
        self.publish(records, expected=self.head(), note=NOTE)


@pytest.fixture
def remote(tmp_path: Path) -> Remote:
    return Remote(tmp_path / "remote.db")


@pytest.fixture
def local(tmp_path: Path) -> SqlitePolicyStore:
    return SqlitePolicyStore(tmp_path / "local.db")


@pytest.fixture
def follower(remote: Remote, local: SqlitePolicyStore) -> Iterator[Follower]:
    made = Follower(remote, local.path, name="remote")
    yield made
    made.stop()


def value(name: str) -> float:
    return metrics.gauge(f"tenantgate_policy_{name}", "", ("store",)).value(store="remote")


def said(caplog: pytest.LogCaptureFixture, level: int) -> list[str]:
    return [record.message for record in caplog.records if record.levelno == level]


def test_the_copy_has_the_stores_versions_and_numbers(
    remote: Remote, local: SqlitePolicyStore, follower: Follower
) -> None:
    assert follower.follow()
    assert (local.head(), local.path.exists()) == (0, False)
    remote.put(acme=b"1", globex=b"1")
    follower.follow()
    remote.put(acme=b"2")
    remote.put(globex=None, initech=b"3")
    follower.follow()
    assert local.latest() == remote.latest()
    assert [info.number for info in local.history()] == [3, 1]
    assert dict(local.records()) == dict(remote.records())
    assert dict(local.records(1)) == {"acme": b"1", "globex": b"1"}
    assert (value("store_up"), value("store_behind")) == (1, 0)


def test_changed_records_alone_are_fetched(remote: Remote, follower: Follower) -> None:
    remote.put(acme=b"1", globex=b"2", initech=b"1")
    follower.follow()
    assert sorted(remote.fetched) == [b"1", b"2"]
    remote.fetched.clear()
    remote.put(acme=b"3", globex=b"1")
    follower.follow()
    follower.follow()
    assert sorted(remote.fetched) == [b"1", b"3"]


@pytest.mark.parametrize("error", [UnavailableError("gone"), DamagedError("forged")])
def test_a_store_that_fails_leaves_the_copy_and_is_reported_once(
    remote: Remote,
    local: SqlitePolicyStore,
    follower: Follower,
    error: Exception,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    remote.put(acme=b"1")
    follower.follow()
    remote.put(acme=b"2")
    remote.fails = error
    assert [follower.follow() for _ in range(3)] == [False] * 3
    assert (local.record("acme"), value("store_up")) == (b"1", 0)
    assert value("age_seconds") > 0
    level = logging.ERROR if isinstance(error, DamagedError) else logging.WARNING
    assert said(caplog, level) == ["the policy store fails: the local copy goes on"]
    remote.fails = None
    assert follower.follow()
    assert (local.record("acme"), value("store_up")) == (b"2", 1)
    assert said(caplog, logging.INFO).count("the policy store answers again") == 1


def test_a_store_that_was_emptied_leaves_the_copy_until_a_higher_version_comes(
    remote: Remote, local: SqlitePolicyStore, follower: Follower, caplog: pytest.LogCaptureFixture
) -> None:
    for i in range(3):
        remote.put(acme=b"%d" % i)
    follower.follow()
    for name in ("remote.db", "remote.db-wal", "remote.db-shm"):
        (remote.path.parent / name).unlink(missing_ok=True)
    for heads in (0, 1, 3):
        if heads:
            remote.publish({"acme": b"other"}, expected=remote.head(), note=NOTE, least=heads)
        follower.follow()
        assert (local.head(), local.record("acme"), value("store_behind")) == (3, b"2", 1)
    assert len(said(caplog, logging.ERROR)) == 1
    remote.put(acme=b"new")
    follower.follow()
    assert (local.head(), local.record("acme"), value("store_behind")) == (4, b"new", 0)


def test_records_that_the_store_lost_dont_hold_up_the_others(
    remote: Remote, local: SqlitePolicyStore, follower: Follower, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(follower_module, "_REPAIR_S", 0.0)
    remote.put(acme=b"1", globex=b"1b")
    follower.follow()
    remote.lost = {content_hash(b"2")}
    remote.put(acme=b"2", globex=b"2b")
    follower.follow()
    assert local.record("globex") == b"2b"
    with pytest.raises(DamagedError, match="acme"):
        local.record("acme")
    remote.lost = set()
    follower.follow()
    assert local.record("acme") == b"2"
    assert local.head() == 2


def test_a_process_that_starts_repairs_what_is_missing(remote: Remote, local: SqlitePolicyStore) -> None:
    remote.put(acme=b"1", globex=b"2")
    first = Follower(remote, local.path, name="remote")
    first.follow()
    first.stop()
    with sqlite3.connect(local.path) as db:
        db.execute("UPDATE contents SET body = 'x' WHERE hash = ?", (content_hash(b"1"),))
    db.close()
    second = Follower(remote, local.path, name="remote")
    second.follow()
    assert dict(local.records()) == {"acme": b"1", "globex": b"2"}
    second.stop()


def test_an_index_that_isnt_the_published_one_is_not_taken(
    remote: Remote, local: SqlitePolicyStore, follower: Follower
) -> None:
    remote.put(acme=b"1", globex=b"1")
    follower.follow()
    remote.put(acme=b"2")
    with sqlite3.connect(remote.path) as db:
        db.execute("DELETE FROM changes WHERE tenant = ?", (b"globex",))
    db.close()
    assert not follower.follow()
    assert (local.head(), dict(local.records())) == (1, {"acme": b"1", "globex": b"1"})


@pytest.mark.parametrize("content", [b"x" * 5000, b"SQLite format 3\0" + b"\xff" * 5000])
def test_a_damaged_copy_is_made_anew_once_the_store_answers(
    remote: Remote, local: SqlitePolicyStore, follower: Follower, content: bytes
) -> None:
    remote.put(acme=b"1")
    local.path.write_bytes(content)
    remote.fails = UnavailableError("gone")
    follower.follow()
    assert local.path.read_bytes() == content
    remote.fails = None
    follower.follow()
    follower.follow()
    assert dict(local.records()) == {"acme": b"1"}
    assert local.path.with_name("local.db.damaged").read_bytes() == content
    remote.put(acme=b"2")
    follower.follow()
    assert dict(local.records()) == {"acme": b"2"}


def test_a_copy_whose_index_is_damaged_is_made_anew(
    remote: Remote, local: SqlitePolicyStore, follower: Follower
) -> None:
    remote.put(acme=b"1", globex=b"1")
    follower.follow()
    with sqlite3.connect(local.path) as db:
        db.execute("DELETE FROM changes WHERE tenant = ?", (b"globex",))
    db.close()
    remote.put(acme=b"2")
    follower.follow()
    follower.follow()
    assert dict(local.records()) == {"acme": b"2", "globex": b"1"}


def test_another_programs_database_in_its_place_is_left_alone(
    remote: Remote, local: SqlitePolicyStore, follower: Follower
) -> None:
    remote.put(acme=b"1")
    with sqlite3.connect(local.path) as db:
        db.execute("CREATE TABLE t (a)")
    db.close()
    before = local.path.read_bytes()
    with pytest.raises(ConfigError, match="isn't a policy directory"):
        follower.follow()
    assert local.path.read_bytes() == before


def test_a_deleted_copy_is_made_anew(remote: Remote, local: SqlitePolicyStore, follower: Follower) -> None:
    remote.put(acme=b"1")
    follower.follow()
    local.close()
    local.path.unlink()
    follower.follow()
    assert dict(local.records()) == {"acme": b"1"}


def test_one_process_of_a_node_follows(remote: Remote, local: SqlitePolicyStore, tmp_path: Path) -> None:
    first = Follower(remote, local.path, name="remote")
    second = Follower(Remote(remote.path), local.path, name="remote")
    assert [first.follow(), second.follow(), first.follow()] == [True, False, True]
    child = os.fork()
    if not child:  # it has the lock's descriptor, but not the lock
        ok = False
        try:
            ok = not first.follow()
        finally:
            os._exit(0 if ok else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    first.stop()
    assert second.follow()
    second.stop()


def test_what_the_nodes_processes_say_is_passed_on_once(
    remote: Remote, local: SqlitePolicyStore, follower: Follower, monkeypatch: pytest.MonkeyPatch
) -> None:
    remote.put(acme=b"1")
    follower.follow()
    passed: list[tuple[str, int]] = []
    acknowledge = remote.acknowledge

    def noting(node: str, process: str, version: int, at: float, unreadable: Sequence[str]) -> None:
        passed.append((process, version))
        acknowledge(node, process, version, at, unreadable)

    monkeypatch.setattr(remote, "acknowledge", noting)
    local.acknowledge("n1", "1", 1, 5.0)
    local.acknowledge("n1", "2", 1, 5.0)
    follower.follow()
    follower.follow()
    local.acknowledge("n1", "1", 2, 6.0, ["acme"])
    follower.follow()
    assert passed == [("1", 1), ("2", 1), ("1", 2)]
    assert remote.acknowledgements() == [
        Acknowledgement("n1", "1", 2, 6.0, ("acme",)),
        Acknowledgement("n1", "2", 1, 5.0),
    ]


def test_the_copy_keeps_a_bounded_number_of_versions(
    remote: Remote, local: SqlitePolicyStore, follower: Follower, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(follower_module, "_KEEP", 2)
    for i in range(9):
        remote.put(acme=b"%d" % i, globex=b"1")
        follower.follow()
        assert len(local.history()) <= 4
        assert local.latest() == remote.latest()
    assert dict(local.records()) == {"acme": b"8", "globex": b"1"}


def test_many_records_are_taken_in_parts(
    remote: Remote, local: SqlitePolicyStore, follower: Follower, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(follower_module, "_AT_ONCE", 10)
    remote.put(**{f"t{i}": b"%d" % i for i in range(350)})
    follower.follow()
    assert dict(local.records()) == dict(remote.records())


def test_it_follows_in_the_background(remote: Remote, local: SqlitePolicyStore) -> None:
    follower = Follower(remote, local.path, name="remote", every_s=0.01)
    follower.start()
    for i in range(3):
        remote.put(acme=b"%d" % i)
        until(lambda: local.record("acme"), lambda got, i=i: got == b"%d" % i, what="record")
    follower.stop()
