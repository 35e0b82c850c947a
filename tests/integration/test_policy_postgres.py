"""The policy directory in PostgreSQL: waking, locks, restarts, and tables of another version."""

from __future__ import annotations

import re
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from policy_rig import NOTE, Postgres, put
from tenantgate.errors import ConfigError
from tenantgate.policy import postgres_store
from tenantgate.policy.core.ports import ConflictError, UnavailableError
from tenantgate.policy.postgres_store import PostgresPolicyStore

from support import ROOT, until


def test_a_follower_is_woken_by_a_new_version(postgres: Postgres) -> None:
    postgres.clear()
    ours, other = PostgresPolicyStore(postgres.conninfo), PostgresPolicyStore(postgres.conninfo)
    other.wait(0.0)  # listens from here on
    woken = threading.Event()
    thread = threading.Thread(target=lambda: (other.wait(600.0), woken.set()), daemon=True)
    thread.start()
    put(ours, acme=b"1")
    assert woken.wait(30)
    ours.close()
    other.close()


def test_publishers_wait_for_one_another(postgres: Postgres) -> None:
    import psycopg

    postgres.clear()
    store = PostgresPolicyStore(postgres.conninfo)
    put(store, acme=b"1")
    with ThreadPoolExecutor(1) as pool, psycopg.connect(postgres.conninfo) as db:
        db.execute("SELECT pg_advisory_xact_lock(%s)", (postgres_store._LOCK,))
        db.execute(
            "INSERT INTO tenantgate_policy_versions "
            "SELECT 2, at, author, message, 0, digest FROM tenantgate_policy_versions"
        )
        published = pool.submit(store.publish, {"acme": b"2"}, expected=1, note=NOTE)
        waiting = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
        until(lambda: db.execute(waiting).fetchone(), lambda row: row == (1,), what="publishers that wait")
        db.commit()
        with pytest.raises(ConflictError):
            published.result()
    store.close()


def test_after_a_restart_of_the_server_it_goes_on(postgres: Postgres) -> None:
    postgres.clear()
    store = PostgresPolicyStore(postgres.conninfo)
    put(store, acme=b"1")
    store.wait(0.0)
    postgres.stop()
    for call in (store.head, lambda: store.wait(600.0)):
        with pytest.raises(UnavailableError, match="PostgreSQL can't be reached"):
            call()
    postgres.start()
    assert (store.record("acme"), store.wait(0.0)) == (b"1", True)
    store.close()


def test_tables_of_a_newer_version_are_left_alone(postgres: Postgres) -> None:
    import psycopg

    postgres.clear()
    store = PostgresPolicyStore(postgres.conninfo)
    put(store, acme=b"1")
    with psycopg.connect(postgres.conninfo, autocommit=True) as db:
        db.execute("UPDATE tenantgate_policy_schema SET version = 99")
    store.close()
    with pytest.raises(UnavailableError, match="newer version"):
        store.head()


def test_a_connection_string_that_cant_be_read_is_never_quoted() -> None:
    pytest.importorskip("psycopg")
    with pytest.raises(ConfigError) as caught:
        PostgresPolicyStore("host=a pass word=hidden'")
    assert "hidden" not in str(caught.value)


def test_the_roles_of_the_deployment_page(postgres: Postgres) -> None:
    """A node reads, hears, and says its version; it changes nothing else."""
    import psycopg

    page = (ROOT / "docs" / "deploy.md").read_text("utf-8")
    before, after = re.findall(r"```sql\n(.*?)```", page, re.DOTALL)
    with psycopg.connect(postgres.conninfo, autocommit=True) as db:
        db.execute(before)
        try:
            writer, node = (
                PostgresPolicyStore(f"host={postgres.folder} dbname=postgres user=tenantgate_{role}")
                for role in ("apply", "node")
            )
            with pytest.raises(UnavailableError, match="InsufficientPrivilege"):
                node.head()  # no tables yet, and it may make none
            put(writer, acme=b"1")
            db.execute(after)
            node.wait(0.0)
            put(writer, acme=b"2")
            assert node.wait(600.0)
            assert node.record("acme") == b"2"
            node.acknowledge("n", "1", 2, 1000.0)
            assert [a.version for a in writer.acknowledgements()] == [2]
            # Tables of before: a node that may add nothing goes on, and tells when the publisher has.
            db.execute("ALTER TABLE tenantgate.tenantgate_policy_processes DROP COLUMN unreadable")
            node.acknowledge("n", "1", 2, 1001.0, ["acme"])
            assert [a.unreadable for a in writer.acknowledgements()] == [()]
            writer.close()
            assert [a.at for a in writer.acknowledgements()] == [1001.0]
            node.acknowledge("n", "1", 2, 1002.0, ["acme"])
            assert [a.unreadable for a in writer.acknowledgements()] == [("acme",)]
            for change in (lambda: put(node, acme=b"3"), lambda: node.prune(1)):
                with pytest.raises(UnavailableError, match="InsufficientPrivilege"):
                    change()
            assert (writer.head(), writer.record("acme")) == (2, b"2")
            writer.close()
            node.close()
        finally:
            db.execute("DROP SCHEMA tenantgate CASCADE; DROP OWNED BY tenantgate_apply, tenantgate_node")
            db.execute("DROP ROLE tenantgate_apply, tenantgate_node")
