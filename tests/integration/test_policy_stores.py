"""What holds for every store of the policy directory, and what is one store's own."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from policy_rig import KEY, NOTE, put
from tenantgate.devhost.redis_server import RedisCluster, RedisServer
from tenantgate.errors import ConfigError
from tenantgate.policy.core.ports import (
    PAGE,
    RECORD_BYTES,
    Acknowledgement,
    ConflictError,
    DamagedError,
    PolicyStore,
    PublishNote,
    UnknownVersionError,
    roll_back,
)
from tenantgate.policy.directory import Directory
from tenantgate.policy.follower import Follower
from tenantgate.policy.postgres_store import PostgresPolicyStore
from tenantgate.policy.redis_store import RedisPolicyStore
from tenantgate.policy.sqlite_store import SqlitePolicyStore
from tenantgate.store.url import redis_config
from tenantgate.tenant import TenantId

from support import until

HEAD, CONTENTS = "tg:policy:1:{policy}:head", "tg:policy:1:{policy}:contents"
ODD = ("acme", "a b\n{}:*", "é\ud800", "nul\0", "x" * 300)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisCluster]:
    made = RedisCluster(tmp_path_factory.mktemp("cluster"))
    made.start()
    yield made
    made.stop()


Opener = Callable[[], PolicyStore]


@pytest.fixture(params=["sqlite", "redis", "cluster", "postgres"])
def opener(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Opener]:
    """Opens the store once more, as another process would."""
    opened: list[PolicyStore] = []
    make: Opener
    if request.param == "sqlite":
        make = lambda: SqlitePolicyStore(tmp_path / "policy.db")  # noqa: E731
    elif request.param == "redis":
        server = request.getfixturevalue("redis_server")
        request.getfixturevalue("store").flushall()
        make = lambda: RedisPolicyStore(redis_config(server.url), KEY)  # noqa: E731
    elif request.param == "cluster":
        nodes = request.getfixturevalue("cluster")
        for port in nodes.ports:
            nodes.client(port).flushall()
        make = lambda: RedisPolicyStore(redis_config(nodes.url), KEY)  # noqa: E731
    else:
        server = request.getfixturevalue("postgres")
        server.clear()
        make = lambda: PostgresPolicyStore(server.conninfo)  # noqa: E731

    def opens() -> PolicyStore:
        opened.append(make())
        return opened[-1]

    yield opens
    for each in opened:
        each.close()


# -- every store


def test_an_empty_store_is_version_0(opener: Opener) -> None:
    store = opener()
    assert (store.head(), store.latest(), store.version(1), store.history()) == (0, None, None, [])
    assert (store.record("acme"), list(store.records()), store.index(), store.changes(0)) == (
        None,
        [],
        {},
        set(),
    )
    assert (store.acknowledgements(), store.prune(1)) == ([], 0)
    with pytest.raises(UnknownVersionError):
        store.record("acme", 1)


def test_what_one_publishes_the_others_read(opener: Opener) -> None:
    ours, others = opener(), opener()
    records = {tenant: tenant.encode("utf-8", "surrogatepass") * 2 for tenant in ODD} | {"empty": b""}
    assert ours.publish(records, expected=0, note=PublishNote("ö\n'\"", "why {}", 12.5)) == 1
    assert dict(others.records()) == records
    assert {tenant: others.record(tenant) for tenant in records} == records
    assert dict(others.records(only=["acme", "nobody"])) == {"acme": records["acme"]}
    info = others.latest()
    assert info is not None
    assert (info.number, info.at, info.author, info.message, info.changed) == (1, 12.5, "ö\n'\"", "why {}", 6)
    assert others.history() == [info]
    assert others.version(1) == info


def test_each_version_stays_as_it_was(opener: Opener) -> None:
    store = opener()
    put(store, acme=b"1", globex=b"1")
    put(store, acme=b"2", initech=b"2")
    put(store, acme=None)
    put(store, acme=b"1")
    versions = [dict(store.records(n)) for n in range(5)]
    assert versions == [
        {},
        {"acme": b"1", "globex": b"1"},
        {"acme": b"2", "globex": b"1", "initech": b"2"},
        {"globex": b"1", "initech": b"2"},
        {"acme": b"1", "globex": b"1", "initech": b"2"},
    ]
    assert [store.record("acme", n) for n in range(1, 5)] == [b"1", b"2", None, b"1"]
    assert store.changes(1, 4) == {"initech"}
    assert store.changes(4, 1) == {"initech"}
    assert store.changes(2) == {"acme"}
    assert [info.changed for info in store.history()] == [1, 1, 2, 2]
    assert [info.number for info in store.history(2)] == [4, 3]


def test_equal_contents_have_equal_digests(opener: Opener) -> None:
    store = opener()
    put(store, acme=b"1", globex=b"2")
    put(store, acme=b"2", globex=b"1")
    put(store, acme=b"1", globex=b"2")
    third, second, first = (info.digest for info in store.history())
    assert first == third != second
    assert len(first) == 32


def test_what_is_as_it_was_is_no_change(opener: Opener) -> None:
    store = opener()
    put(store, acme=b"1")
    assert put(store, acme=b"1", nobody=None) == 2
    assert [info.changed for info in store.history()] == [0, 1]
    assert store.publish({}, expected=2, note=NOTE) == 3
    assert dict(store.records()) == {"acme": b"1"}


def test_who_expects_another_version_publishes_nothing(opener: Opener) -> None:
    store = opener()
    put(store, acme=b"1")
    for expected in (0, 2):
        with pytest.raises(ConflictError, match="newest version is 1") as caught:
            store.publish({"acme": b"2"}, expected=expected, note=NOTE)
        assert caught.value.head == 1
    assert (store.head(), store.record("acme")) == (1, b"1")


def test_of_publishers_at_the_same_time_one_wins(opener: Opener) -> None:
    stores = [opener() for _ in range(4)]
    put(stores[0], acme=b"0")
    start = threading.Barrier(len(stores))

    def race(i: int) -> int | None:
        start.wait()
        try:
            return stores[i].publish({"acme": b"%d" % i, f"t{i}": b"x"}, expected=1, note=NOTE)
        except ConflictError:
            return None

    with ThreadPoolExecutor(len(stores)) as pool:
        numbers = list(pool.map(race, range(len(stores))))
    assert sorted(n for n in numbers if n) == [2]
    winner = numbers.index(2)
    assert dict(stores[0].records()) == {"acme": b"%d" % winner, f"t{winner}": b"x"}


def test_many_records_come_in_pages(opener: Opener) -> None:
    store = opener()
    records: dict[str, bytes | None] = {f"t{i:04}": b"%d" % i for i in range(2 * PAGE + 1)}
    store.publish(records, expected=0, note=NOTE)
    assert dict(opener().records()) == records


def test_rolling_back_is_a_new_version(opener: Opener) -> None:
    store = opener()
    put(store, acme=b"1", globex=b"1")
    put(store, acme=b"2", globex=None, initech=b"2")
    assert roll_back(store, 1, expected=2, note=NOTE) == 3
    assert dict(store.records()) == {"acme": b"1", "globex": b"1"}
    assert roll_back(store, 0, expected=3, note=NOTE) == 4
    assert dict(store.records()) == {}
    with pytest.raises(UnknownVersionError):
        roll_back(store, 9, expected=4, note=NOTE)


def test_numbers_may_be_left_out(opener: Opener) -> None:
    store = opener()
    assert store.publish({"acme": b"1"}, expected=0, note=NOTE, least=40) == 40
    assert store.publish({"acme": b"2"}, expected=40, note=NOTE, least=7) == 41
    assert (store.record("acme", 40), store.version(3)) == (b"1", None)


@pytest.mark.parametrize("keep", [1, 2, 3, 9])
def test_pruned_versions_are_gone_and_the_others_whole(opener: Opener, keep: int) -> None:
    store = opener()
    put(store, acme=b"1", globex=b"1", initech=b"1")
    put(store, acme=b"2", globex=None)
    put(store, acme=b"3")
    put(store, globex=b"4")
    before = {n: dict(store.records(n)) for n in range(1, 5)}
    assert store.prune(keep) == max(0, 4 - keep)
    kept = range(max(1, 5 - keep), 5)
    assert [info.number for info in store.history()] == [*reversed(kept)]
    assert {n: dict(store.records(n)) for n in kept} == {n: before[n] for n in kept}
    for gone in range(1, kept[0]):
        with pytest.raises(UnknownVersionError):
            store.index(gone)
    bodies = {hashlib.sha256(body).digest() for n in kept for body in before[n].values()}
    every = [hashlib.sha256(b"%d" % i).digest() for i in range(1, 5)]
    assert store.contents(every).keys() == bodies
    assert put(store, acme=b"5") == 5


def test_the_last_word_of_each_process_is_kept_for_a_day(opener: Opener) -> None:
    store = opener()
    put(store, acme=b"1")
    for node, process, version, at in [
        ("n1", "1", 1, 5.0),
        ("n1", "2", 1, 6.0),
        ("n1", "1", 2, 7.0),
        ("n2", "é", 2, 8.5),
    ]:
        store.acknowledge(node, process, version, at)
    assert opener().acknowledgements() == [
        Acknowledgement("n1", "1", 2, 7.0),
        Acknowledgement("n1", "2", 1, 6.0),
        Acknowledgement("n2", "é", 2, 8.5),
    ]
    store.acknowledge("n2", "é", 3, 86_407.5)
    assert store.acknowledgements() == [Acknowledgement("n2", "é", 3, 86_407.5)]
    unreadable = ("acme", "\ud800 é")
    store.acknowledge("n2", "é", 4, 86_408.0, unreadable)
    assert opener().acknowledgements() == [Acknowledgement("n2", "é", 4, 86_408.0, unreadable)]
    store.acknowledge("n2", "é", 4, 86_409.0)
    assert store.acknowledgements() == [Acknowledgement("n2", "é", 4, 86_409.0)]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"": b"1"}, "tenant id"),
        ({"x" * 5000: b"1"}, "tenant id"),
        ({"acme": bytes(RECORD_BYTES + 1)}, "acme: the record"),
    ],
)
def test_what_is_too_long_is_refused(opener: Opener, changes: dict[str, bytes | None], said: str) -> None:
    store = opener()
    with pytest.raises(ConfigError, match=said):
        store.publish({"fine": b"1", **changes}, expected=0, note=NOTE)
    assert store.head() == 0


class Model(RuleBasedStateMachine):
    """A store beside a list of dicts."""

    open: Opener

    @initialize()
    def begin(self) -> None:
        self.store = self.open()
        self.base = self.store.head()
        self.versions: list[dict[str, bytes]] = [dict(self.store.records())]

    @property
    def head(self) -> int:
        return self.base + len(self.versions) - 1

    @rule(changes=st.dictionaries(st.sampled_from(ODD), st.none() | st.sampled_from([b"", b"1", b"2"])))
    def publish(self, changes: dict[str, bytes | None]) -> None:
        assert self.store.publish(changes, expected=self.head, note=NOTE) == self.head + 1
        new = {**self.versions[-1], **{t: b for t, b in changes.items() if b is not None}}
        self.versions.append({t: b for t, b in new.items() if changes.get(t, b"") is not None})

    @rule(data=st.data())
    def roll_back(self, data: Any) -> None:
        i = data.draw(st.integers(0, len(self.versions) - 1))
        assert roll_back(self.store, self.base + i, expected=self.head, note=NOTE) == self.head + 1
        self.versions.append(self.versions[i])

    @rule(tenant=st.sampled_from(ODD), data=st.data())
    def read(self, tenant: str, data: Any) -> None:
        i = data.draw(st.integers(0, len(self.versions) - 1))
        assert self.store.record(tenant, self.base + i) == self.versions[i].get(tenant)

    @rule(data=st.data())
    def compare(self, data: Any) -> None:
        i, j = (data.draw(st.integers(0, len(self.versions) - 1)) for _ in range(2))
        one, two = self.versions[i], self.versions[j]
        differ = {t for t in one.keys() | two.keys() if one.get(t) != two.get(t)}
        assert self.store.changes(self.base + i, self.base + j) == differ

    @precondition(lambda self: len(self.versions) > 3)
    @rule()
    def prune(self) -> None:
        self.store.prune(2)
        self.base, self.versions = self.head - 1, self.versions[-2:]

    @invariant()
    def the_newest_is_whole(self) -> None:
        assert self.store.head() == self.head
        assert dict(self.store.records()) == self.versions[-1]


def test_a_store_is_a_list_of_dicts(opener: Opener) -> None:
    class Machine(Model):
        open = staticmethod(opener)

    run_state_machine_as_test(
        Machine, settings=settings(max_examples=8, stateful_step_count=12, deadline=None)
    )


# -- damage


def damage(opener: Opener, request: pytest.FixtureRequest, tmp_path: Path, body: bytes | None) -> None:
    """Overwrite or remove the record ``b"secret"`` behind the store's back."""
    hashed = hashlib.sha256(b"secret").digest()
    kind = request.node.callspec.params["opener"]
    if kind == "sqlite":
        import sqlite3

        db, table, mark = sqlite3.connect(tmp_path / "policy.db"), "contents", "?"
    elif kind == "postgres":
        import psycopg

        db = psycopg.connect(request.getfixturevalue("postgres").conninfo)
        table, mark = "tenantgate_policy_contents", "%s"
    else:
        nodes = opener()._nodes  # type: ignore[attr-defined]
        if body is None:
            nodes.ask(HEAD, lambda client: client.hdel(CONTENTS, hashed.hex()))
        else:
            nodes.ask(HEAD, lambda client: client.hset(CONTENTS, hashed.hex(), body))
        return
    if body is None:
        db.execute(f"DELETE FROM {table} WHERE hash = {mark}", (hashed,))
    else:
        db.execute(f"UPDATE {table} SET body = {mark} WHERE hash = {mark}", (body, hashed))
    db.commit()
    db.close()


@pytest.mark.parametrize("body", [b"forged", None], ids=["changed", "removed"])
def test_a_damaged_record_is_named_by_its_tenant_and_can_be_published_again(
    opener: Opener, request: pytest.FixtureRequest, tmp_path: Path, body: bytes | None
) -> None:
    store = opener()
    put(store, acme=b"secret", globex=b"1")
    damage(opener, request, tmp_path, body)
    for read in (lambda: store.record("acme"), lambda: list(store.records())):
        with pytest.raises(DamagedError, match="tenant acme") as caught:
            read()
        assert "secret" not in str(caught.value)
        assert "forged" not in str(caught.value)
    assert store.record("globex") == b"1"
    put(store, acme=b"secret")
    assert dict(store.records()) == {"acme": b"secret", "globex": b"1"}


# -- a node that follows


def test_a_node_starts_and_goes_on_without_its_store(tmp_path: Path) -> None:
    server = RedisServer(tmp_path / "redis")
    server.start()
    config = redis_config(server.url)
    ours = RedisPolicyStore(config, KEY)
    put(ours, acme=b"1", globex=b"1")
    follower = Follower(RedisPolicyStore(config, KEY), tmp_path / "policy.db", name="redis")
    directory = Directory(tmp_path / "policy.db", lambda _tenant, record: record, node="n1", background=False)
    assert follower.follow()
    directory.look()
    assert directory.get(TenantId("acme")) == b"1"
    directory.acknowledge()
    assert follower.follow()
    assert [(a.node, a.version) for a in ours.acknowledgements()] == [("n1", 1)]
    server.stop()
    follower.stop()
    directory.close()

    follower = Follower(RedisPolicyStore(config, KEY), tmp_path / "policy.db", name="redis")
    directory = Directory(tmp_path / "policy.db", lambda _tenant, record: record, background=False)
    assert not follower.follow()
    assert [directory.get(TenantId(t)) for t in ("acme", "globex")] == [b"1", b"1"]

    server.start()  # empty
    assert follower.follow()
    directory.look()
    assert [directory.get(TenantId(t)) for t in ("acme", "globex")] == [b"1", b"1"]
    assert ours.publish({"acme": b"2"}, expected=0, note=NOTE, least=2) == 2
    assert follower.follow()
    directory.look()
    assert [directory.get(TenantId(t)) for t in ("acme", "globex")] == [b"2", None]
    follower.stop()
    directory.close()
    ours.close()
    server.stop()


def test_a_follower_takes_from_every_store(opener: Opener, tmp_path: Path) -> None:
    ours = opener()
    records = {tenant: tenant.encode("utf-8", "surrogatepass") for tenant in ODD}
    ours.publish(dict(records), expected=0, note=NOTE)
    put(ours, acme=None)
    follower, local = (
        Follower(opener(), tmp_path / "copy.db", name="any"),
        SqlitePolicyStore(tmp_path / "copy.db"),
    )
    assert follower.follow()
    assert local.latest() == ours.latest()
    assert dict(local.records()) == dict(ours.records())
    put(ours, acme=b"back")
    follower.start()
    until(lambda: local.record("acme"), lambda got: got == b"back", what="record")
    follower.stop()
    local.close()
