"""What an engine gets for a tenant: through new versions, damage, deletion, and records that can't be read."""

from __future__ import annotations

import logging
import sqlite3
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from policy_rig import NOTE
from tenantgate.errors import ConfigError
from tenantgate.policy import directory as directory_module
from tenantgate.policy.core.ports import content_hash
from tenantgate.policy.directory import Directory
from tenantgate.policy.sqlite_file import files_of
from tenantgate.policy.sqlite_store import SqlitePolicyStore
from tenantgate.telemetry import metrics, needs
from tenantgate.tenant import TenantId

from support import until

ACME, GLOBEX = TenantId("acme"), TenantId("globex")


class Parser:
    """Texts; refuses those that begin with ``bad``, and breaks at ``broken``."""

    def __init__(self) -> None:
        self.parsed: list[str] = []

    def __call__(self, tenant: str, record: bytes) -> str:
        self.parsed.append(tenant)
        text = record.decode()
        if text.startswith("bad"):
            raise ConfigError("field: secret-free reason")
        if text == "broken":
            raise RecursionError("hidden " + text)
        return text


class Bench:
    def __init__(self, path: Path, **options: Any) -> None:
        self.path, self.parser = path, Parser()
        self.store = SqlitePolicyStore(path)
        self.directory = Directory(path, self.parser, node="n1", background=False, **options)

    def put(self, **records: bytes | None) -> None:
        self.store.publish(records, expected=self.store.head(), note=NOTE)
        self.directory.look()

    def get(self, tenant: TenantId = ACME) -> str | None:
        return self.directory.get(tenant)

    def damage(self, body: bytes, instead: bytes | None = b"damaged") -> None:
        with sqlite3.connect(self.path) as db:
            if instead is None:
                db.execute("DELETE FROM contents WHERE hash = ?", (content_hash(body),))
            else:
                db.execute("UPDATE contents SET body = ? WHERE hash = ?", (instead, content_hash(body)))
        db.close()

    def remove(self) -> None:
        self.store.close()
        for each in files_of(self.path):
            each.unlink(missing_ok=True)


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path / "policy.db")
    yield made
    made.directory.close()
    made.store.close()


def unreadable() -> float:
    return metrics.gauge("tenantgate_policy_unreadable", "").value()


def errors(caplog: pytest.LogCaptureFixture) -> list[dict[str, Any]]:
    return [r.tenantgate_fields for r in caplog.records if r.levelno == logging.ERROR]  # type: ignore[attr-defined]


def test_before_there_is_a_version_nobody_has_a_record(bench: Bench) -> None:
    assert (bench.get(), bench.directory.ready, bench.directory.version) == (None, False, 0)
    assert not bench.path.exists()
    bench.put(acme=b"1")
    assert (bench.get(), bench.directory.ready, bench.directory.version) == ("1", True, 1)
    assert bench.get(GLOBEX) is None


def test_after_a_new_version_changed_records_alone_are_parsed(bench: Bench) -> None:
    bench.put(acme=b"1", globex=b"1")
    assert [bench.get(t) for t in (ACME, GLOBEX, ACME, GLOBEX)] == ["1"] * 4
    assert bench.parser.parsed == ["acme", "globex"]
    bench.put(acme=b"2")
    assert [bench.get(t) for t in (ACME, GLOBEX, ACME)] == ["2", "1", "2"]
    assert bench.parser.parsed == ["acme", "globex", "acme"]


def test_a_removed_tenant_has_no_record(bench: Bench) -> None:
    bench.put(acme=b"1")
    assert bench.get() == "1"
    bench.put(acme=None)
    assert bench.get() is None
    bench.put(acme=b"2")
    assert bench.get() == "2"


def test_memory_is_bounded_and_keeps_who_was_asked_for_last(tmp_path: Path) -> None:
    bench = Bench(tmp_path / "policy.db", most=2)
    bench.put(a=b"1", b=b"1", c=b"1")
    for name in ("a", "b", "a", "c", "a", "b"):
        assert bench.get(TenantId(name)) == "1"
    assert bench.parser.parsed == ["a", "b", "c", "b"]
    assert len(bench.directory._entries) == 2
    bench.directory.close()


def test_what_is_in_memory_needs_no_file(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.put(acme=b"1")
    bench.get()
    monkeypatch.setattr(SqlitePolicyStore, "trail", lambda *_: pytest.fail("asked the file"))
    assert bench.get() == "1"


@pytest.mark.parametrize("body", [b"bad", b"broken", b"\xff"])
def test_a_record_that_cant_be_read_leaves_the_last_good_one(
    bench: Bench, body: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    bench.put(acme=b"1", globex=b"1")
    assert bench.get() == "1"
    bench.put(acme=body)
    assert [bench.get(), bench.get(), bench.get(GLOBEX)] == ["1", "1", "1"]
    assert unreadable() == 1
    (said,) = errors(caplog)
    assert (said["tenant"], said["version"]) == ("acme", 2)
    assert "hidden" not in caplog.text
    bench.put(globex=b"2")
    assert bench.get() == "1"
    assert len(errors(caplog)) == 1
    bench.put(acme=b"bad again")
    assert (bench.get(), len(errors(caplog))) == ("1", 2)
    bench.put(acme=b"3")
    assert unreadable() == 0
    assert bench.get() == "3"


@pytest.mark.parametrize(
    ("history", "found"),
    [
        ([b"1", b"2", b"bad"], "2"),
        ([b"1", b"bad", b"broken", b"bad"], "1"),
        ([b"bad"], None),
        ([b"1", None, b"bad"], None),  # what was removed doesn't come back
        ([b"1", None, b"2", b"bad"], "2"),
    ],
)
def test_a_process_that_starts_takes_the_newest_record_that_can_be_read(
    bench: Bench, history: list[bytes | None], found: str | None
) -> None:
    for body in history:
        bench.put(acme=body)
    assert [bench.get(), bench.get()] == [found, found]
    assert unreadable() == 1
    tries = len(bench.parser.parsed)
    bench.get()
    assert len(bench.parser.parsed) == tries
    bench.put(acme=b"9")
    assert (bench.get(), unreadable()) == ("9", 0)


@pytest.mark.parametrize("instead", [b"forged", None])
def test_a_damaged_record_leaves_the_last_good_one_until_it_is_repaired(
    bench: Bench, instead: bytes | None, caplog: pytest.LogCaptureFixture
) -> None:
    bench.put(acme=b"1")
    bench.store.publish({"acme": b"2"}, expected=1, note=NOTE)
    bench.damage(b"2", instead)
    bench.directory.look()
    assert (bench.get(), unreadable()) == ("1", 1)
    assert [said["tenant"] for said in errors(caplog)] == ["acme"]
    bench.store.add({content_hash(b"2"): b"2"})
    bench.directory.acknowledge()  # with which it looks again
    assert (bench.get(), unreadable()) == ("2", 0)


def test_a_file_that_is_gone_changes_nothing_for_anybody(bench: Bench) -> None:
    bench.put(acme=b"1", globex=b"1")
    assert bench.get() == "1"
    bench.remove()
    bench.directory.look()
    assert [bench.get(), bench.get(GLOBEX), bench.directory.version] == ["1", "1", 1]
    bench.put(acme=b"2")  # a new file, that begins with version 1 again
    assert [bench.get(), bench.get(GLOBEX)] == ["2", None]


def test_a_damaged_file_leaves_what_is_in_memory(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    bench.put(acme=b"1", globex=b"1")
    assert bench.get() == "1"
    bench.remove()
    bench.path.write_bytes(b"x" * 9999)
    for _ in range(3):
        bench.directory.look()
        assert [bench.get(), bench.get(GLOBEX), bench.directory.version] == ["1", None, 1]
    assert sum("can't read" in r.message for r in caplog.records) == 1
    bench.path.unlink()
    bench.put(acme=b"2", globex=b"2")
    assert [bench.get(), bench.get(GLOBEX)] == ["2", "2"]


def test_an_empty_file_says_nothing_about_a_tenant(bench: Bench) -> None:
    bench.put(acme=b"1")
    assert bench.get() == "1"
    bench.remove()
    SqlitePolicyStore(bench.path).acknowledge("n", "1", 1, 5.0)  # makes it
    bench.directory.look()
    assert (bench.get(), bench.directory.version) == ("1", 1)


def test_a_file_that_is_emptied_after_a_new_version_was_noticed_leaves_what_is_in_memory(
    bench: Bench,
) -> None:
    bench.put(acme=b"1")
    assert bench.get() == "1"
    bench.put(acme=b"2")
    bench.remove()
    SqlitePolicyStore(bench.path).acknowledge("n", "1", 1, 5.0)  # makes it
    assert bench.get() == "1"
    bench.put(acme=b"3")
    assert bench.get() == "3"


def test_it_says_which_version_it_goes_by(bench: Bench) -> None:
    bench.directory.acknowledge()
    assert not bench.path.exists()
    for version in (1, 2):
        bench.put(acme=b"%d" % version)
        bench.directory.acknowledge()
        (said,) = bench.store.acknowledgements()
        assert (said.node, said.version) == ("n1", version)


def test_it_says_whose_record_it_cant_read_though_nobody_asked_for_it(bench: Bench) -> None:
    def said() -> tuple[int, tuple[str, ...]]:
        bench.directory.acknowledge()
        (found,) = bench.store.acknowledgements()
        return found.version, found.unreadable

    bench.put(acme=b"1", globex=b"bad", initech=b"1", **{f"t{i}": b"1" for i in range(50)})
    assert said() == (1, ("globex",))
    assert (unreadable(), bench.get(GLOBEX), bench.get()) == (1, None, "1")
    bench.put(initech=b"broken", acme=b"2")
    assert said() == (2, ("globex", "initech"))
    assert bench.get(TenantId("initech")) == "1"
    bench.put(globex=b"3")
    assert said() == (3, ("initech",))
    bench.put(initech=None)
    assert said() == (4, ())
    bench.parser.parsed.clear()
    bench.put(acme=b"3")
    assert (said(), bench.parser.parsed) == ((5, ()), ["acme"])  # what hasn't changed isn't tried again


def test_while_it_tries_many_records_it_sees_newer_versions_and_says_that_it_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(directory_module, "_HEARD_S", 0.0)
    said: list[tuple[int, int]] = []

    def check(tenant: str, _record: bytes) -> None:
        said.extend((a.version, bench.directory.version) for a in bench.store.acknowledgements())
        if tenant == "t00" and bench.store.head() == 2:
            bench.store.publish({"acme": b"3"}, expected=2, note=NOTE)

    bench = Bench(tmp_path / "policy.db", check=check)
    bench.put(acme=b"1")
    bench.directory.acknowledge()
    bench.put(**{f"t{i:02}": b"2" for i in range(60)})
    bench.directory.acknowledge()
    assert set(said) == {(1, 2), (1, 3)}
    assert bench.get() == "3"
    assert [a.version for a in bench.store.acknowledgements()] == [2]
    bench.directory.acknowledge()
    assert [a.version for a in bench.store.acknowledgements()] == [3]
    bench.directory.close()
    bench.store.close()


def test_a_version_counts_when_what_its_records_need_is_loaded(tmp_path: Path) -> None:
    loaded: list[tuple[bytes, list[int], list[str]]] = []

    def load(record: bytes) -> None:
        said = [each.version for each in bench.store.acknowledgements()]
        loaded.append((record, said, needs.missing()))

    bench = Bench(tmp_path / "policy.db", load=load)
    for records in ({"acme": b"1"}, {"acme": b"1", "globex": b"2"}):
        bench.put(**records)
        bench.directory.load()
        bench.directory.acknowledge()
    bench.directory.close()
    assert loaded == [(b"1", [], ["policies"]), (b"2", [1], [])]  # a node that serves stays ready
    assert needs.missing() == []


def test_where_it_cant_say_so_it_goes_on(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    bench.put(acme=b"1")
    with bench.store._file.write():
        bench.directory.acknowledge()
        bench.directory.acknowledge()
        assert bench.get() == "1"
    assert sum("can't acknowledge" in r.message for r in caplog.records) == 1
    bench.directory.acknowledge()
    assert len(bench.store.acknowledgements()) == 1


def test_a_new_version_is_noticed_in_the_background(tmp_path: Path) -> None:
    store = SqlitePolicyStore(tmp_path / "policy.db")
    directory = Directory(store.path, Parser(), node="n1", every_s=0.01)
    assert directory.get(ACME) is None
    for version in (b"1", b"2"):
        store.publish({"acme": version}, expected=store.head(), note=NOTE)
        until(lambda: directory.get(ACME), lambda got, v=version: got == v.decode(), what="record")
    until(store.acknowledgements, lambda said: [a.version for a in said] == [2], what="acknowledgement")
    directory.close()


def test_nobody_gets_an_older_record_than_of_the_version_that_is_known(bench: Bench) -> None:
    bench.put(acme=b"0")
    stop = threading.Event()

    def read() -> int:
        while True:
            last, known = stop.is_set(), bench.directory.version
            assert int(bench.get() or -1) >= known - 1
            if last:
                return known

    with ThreadPoolExecutor(3) as pool:
        readers = [pool.submit(read) for _ in range(3)]
        for i in range(1, 50):
            bench.put(acme=b"%d" % i)
        stop.set()
        for reader in readers:
            assert reader.result() == 50
    assert bench.get() == "49"


@settings(max_examples=40)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["put", "get", "get", "prune"]),
            st.sampled_from(["a", "b", "c"]),
            st.sampled_from([None, b"1", b"2", b"bad1", b"bad2"]),
        ),
        max_size=14,
    )
)
@example(
    [("put", "a", b"1"), ("get", "a", None), ("put", "a", b"2"), ("put", "a", b"bad1"), ("get", "a", None)]
)
@example(
    [("put", "a", b"1"), ("get", "a", None), ("put", "a", None), ("put", "a", b"bad1"), ("get", "a", None)]
)
def test_a_tenant_has_the_last_record_that_could_be_read_since_it_was_added(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, str, bytes | None]]
) -> None:
    bench = Bench(tmp_path_factory.mktemp("d") / "policy.db")
    good: dict[str, str | None] = {}
    for what, tenant, body in steps:
        if what == "put":
            bench.put(**{tenant: body})
            if body is None:
                good[tenant] = None
            elif not body.startswith(b"bad"):
                good[tenant] = body.decode()
        elif what == "prune":
            for each in good:  # what is in memory outlives the history
                bench.get(TenantId(each))
            bench.store.prune(1)
        else:
            assert bench.get(TenantId(tenant)) == good.get(tenant)
    bench.directory.close()
    bench.store.close()
