"""The policy directory in PostgreSQL (12 or newer), by psycopg 3: the extra ``postgres``.

The tables lie in the first schema of the connection's ``search_path``; the first use makes them. Publishers exclude one
another by an advisory lock, and followers are woken by NOTIFY. Who may write to the tables decides about the rules.
"""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, Final

from tenantgate.errors import ConfigError
from tenantgate.policy.core.ports import (
    Acknowledgement,
    ConflictError,
    PolicyStore,
    PublishNote,
    UnavailableError,
    VersionInfo,
    content_hash,
    pages,
    successor,
    tenant_bytes,
    tenant_text,
    tenants_of,
)

__all__ = ["PostgresPolicyStore"]

_LOCK: Final = 0x7467_7064  # of publishers and of migrations: any number that others don't use
_CHANNEL: Final = "tenantgate_policy"
_FORGET_S: Final = 86_400.0
_CONNECT: Final[Mapping[str, object]] = {
    "connect_timeout": 2,
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 2,
    "tcp_user_timeout": 5000,
    "application_name": "tenantgate",
}
_STATEMENT_MS: Final = 30_000

_MIGRATIONS: Final = (
    """
    CREATE TABLE tenantgate_policy_versions (number bigint PRIMARY KEY, at double precision NOT NULL,
      author text NOT NULL, message text NOT NULL, changed integer NOT NULL, digest bytea NOT NULL);
    CREATE TABLE tenantgate_policy_changes (tenant bytea NOT NULL, version bigint NOT NULL, hash bytea,
      PRIMARY KEY (tenant, version));
    CREATE TABLE tenantgate_policy_contents (hash bytea PRIMARY KEY, body bytea NOT NULL);
    CREATE TABLE tenantgate_policy_processes (node text NOT NULL, process text NOT NULL, version bigint NOT NULL,
      at double precision NOT NULL, PRIMARY KEY (node, process));
    """,
)
"""What makes the tables of each version from those of the one before; only ever added to."""
# Not a version of the tables: earlier versions of the product go on with a column that they don't know.
_UNREADABLE: Final = "ALTER TABLE tenantgate_policy_processes ADD COLUMN IF NOT EXISTS unreadable text"
_MAY_ADD: Final = (
    "SELECT pg_has_role(relowner, 'USAGE') FROM pg_class WHERE oid = 'tenantgate_policy_processes'::regclass"
)
_HAS_UNREADABLE: Final = (
    "SELECT EXISTS (SELECT 1 FROM pg_attribute WHERE attrelid = 'tenantgate_policy_processes'::regclass "
    "AND attname = 'unreadable' AND NOT attisdropped)"
)

_INFO: Final = "SELECT number, at, author, message, changed, digest FROM tenantgate_policy_versions"
_INDEX: Final = (
    "SELECT DISTINCT ON (tenant) tenant, hash FROM tenantgate_policy_changes WHERE version <= %s "
    "ORDER BY tenant, version DESC"
)


class PostgresPolicyStore(PolicyStore):
    """The store in the database of a connection URI or string of libpq.

    Raises:
        ConfigError: psycopg isn't installed, or the connection string can't be read; it is never quoted.
    """

    def __init__(self, conninfo: str) -> None:
        try:
            import psycopg
        except ImportError:
            raise ConfigError("PostgreSQL needs an extra: pip install 'tenantgate[postgres]'") from None
        self._psycopg: Any = psycopg
        try:
            given = psycopg.conninfo.conninfo_to_dict(conninfo)
        except psycopg.Error:
            raise ConfigError("PostgreSQL: the connection string can't be read") from None
        self._options: dict[str, Any] = {**_CONNECT, **given}
        self._lock, self._listening = threading.RLock(), threading.Lock()
        self._connection: Any = None
        self._listener: Any = None

    def latest(self) -> VersionInfo | None:
        """The newest version; None if there is none."""
        return self._one_info(f"{_INFO} ORDER BY number DESC LIMIT 1", ())

    def version(self, number: int) -> VersionInfo | None:
        """A version that is kept, or None."""
        return self._one_info(f"{_INFO} WHERE number = %s", (number,))

    def history(self, limit: int = 20) -> list[VersionInfo]:
        """The newest versions, the newest first."""
        return [VersionInfo(*row) for row in self._all(f"{_INFO} ORDER BY number DESC LIMIT %s", (limit,))]

    def contents(self, hashes: Collection[bytes]) -> dict[bytes, bytes]:
        """Records by SHA-256: those that are there and whole."""
        out: dict[bytes, bytes] = {}
        for page in pages(hashes):
            rows = self._all(
                "SELECT hash, body FROM tenantgate_policy_contents WHERE hash = ANY(%s::bytea[])", (page,)
            )
            out.update({hashed: body for hashed, body in rows if content_hash(body) == hashed})
        return out

    def _publish(
        self,
        changes: Mapping[str, bytes | None],
        bodies: Mapping[bytes, bytes],
        *,
        expected: int,
        note: PublishNote,
        least: int,
    ) -> int:
        with self._writing() as db:
            (head,) = db.execute("SELECT coalesce(max(number), 0) FROM tenantgate_policy_versions").fetchone()
            if head != expected:
                raise ConflictError(expected, head)
            index = _index(db.execute(_INDEX, (head,)))
            info, delta = successor(index, changes, head=head, note=note, least=least)
            many = db.cursor().executemany
            many(
                "INSERT INTO tenantgate_policy_contents AS old VALUES (%s, %s) "
                "ON CONFLICT (hash) DO UPDATE SET body = excluded.body WHERE old.body <> excluded.body",
                list(bodies.items()),
            )
            db.execute(
                "INSERT INTO tenantgate_policy_versions VALUES (%s, %s, %s, %s, %s, %s)",
                (info.number, info.at, info.author, info.message, info.changed, info.digest),
            )
            many(
                "INSERT INTO tenantgate_policy_changes VALUES (%s, %s, %s)",
                [(tenant_bytes(tenant), info.number, hashed) for tenant, hashed in delta.items()],
            )
            db.execute("SELECT pg_notify(%s, %s)", (_CHANNEL, str(info.number)))
        return info.number

    def prune(self, keep: int) -> int:
        """Forget all versions but the newest `keep` (at least 1), and records of no version; how many went."""
        with self._writing() as db:
            found = db.execute(
                "SELECT number FROM tenantgate_policy_versions ORDER BY number DESC LIMIT 1 OFFSET %s",
                (max(keep, 1) - 1,),
            ).fetchone()
            if found is None:
                return 0
            floor = found[0]
            gone = db.execute("DELETE FROM tenantgate_policy_versions WHERE number < %s", (floor,)).rowcount
            # What a tenant had at the oldest version that is kept stays; a removal needs no row then.
            db.execute(
                "DELETE FROM tenantgate_policy_changes AS old WHERE version < (SELECT max(version) "
                "FROM tenantgate_policy_changes AS later WHERE later.tenant = old.tenant AND later.version <= %s)",
                (floor,),
            )
            db.execute("DELETE FROM tenantgate_policy_changes WHERE version <= %s AND hash IS NULL", (floor,))
            db.execute(
                "DELETE FROM tenantgate_policy_contents AS old WHERE NOT EXISTS "
                "(SELECT 1 FROM tenantgate_policy_changes AS used WHERE used.hash = old.hash)"
            )
        return int(gone)

    def acknowledge(
        self, node: str, process: str, version: int, at: float, unreadable: Sequence[str] = ()
    ) -> None:
        """Note that a process of a node goes by `version` at the Unix time `at`, in seconds, but for these tenants."""
        with self._transaction() as db:
            db.execute(
                "INSERT INTO tenantgate_policy_processes (node, process, version, at) VALUES (%s, %s, %s, %s) "
                "ON CONFLICT (node, process) DO UPDATE SET version = excluded.version, at = excluded.at",
                (node, process, version, at),
            )
            if _value(db, _HAS_UNREADABLE):
                db.execute(
                    "UPDATE tenantgate_policy_processes SET unreadable = %s WHERE node = %s AND process = %s",
                    (json.dumps(list(unreadable)) if unreadable else None, node, process),
                )
            db.execute("DELETE FROM tenantgate_policy_processes WHERE at < %s", (at - _FORGET_S,))

    def acknowledgements(self) -> list[Acknowledgement]:
        """The last one of each process of each node."""
        with self._connected() as db:
            column = "unreadable" if _value(db, _HAS_UNREADABLE) else "NULL"
            rows = db.execute(
                f"SELECT node, process, version, at, {column} FROM tenantgate_policy_processes ORDER BY 1, 2"  # noqa: S608
            ).fetchall()
        return [Acknowledgement(n, p, v, at, tenants_of(listed)) for n, p, v, at, listed in rows]

    def wait(self, seconds: float) -> bool:
        """Wait for the NOTIFY of a new version, so long at most."""
        with self._listening:
            try:
                if self._listener is None or self._listener.closed:
                    self._listener = self._connect()
                    self._listener.execute(f"LISTEN {_CHANNEL}")
                for _ in self._listener.notifies(timeout=seconds, stop_after=1):
                    pass
            except self._psycopg.Error as error:
                self._listener = None
                raise _unavailable(error) from None
        return True

    def close(self) -> None:
        """Close the connections; the next use opens them again."""
        with self._lock, self._listening:
            for connection in (self._connection, self._listener):
                if connection is not None:
                    connection.close()
            self._connection = self._listener = None

    def _hashes(self, info: VersionInfo) -> dict[str, bytes]:
        return _index(self._all(_INDEX, (info.number,)))

    def _hash(self, tenant: str, info: VersionInfo) -> bytes | None:
        rows = self._all(
            "SELECT hash FROM tenantgate_policy_changes WHERE tenant = %s AND version <= %s "
            "ORDER BY version DESC LIMIT 1",
            (tenant_bytes(tenant), info.number),
        )
        return rows[0][0] if rows else None

    def _one_info(self, statement: str, values: Collection[object]) -> VersionInfo | None:
        rows = self._all(statement, values)
        return VersionInfo(*rows[0]) if rows else None

    def _all(self, statement: str, values: Collection[object]) -> list[Any]:
        with self._connected() as db:
            return list(db.execute(statement, values).fetchall())

    @contextlib.contextmanager
    def _writing(self) -> Iterator[Any]:
        with self._transaction() as db:
            db.execute("SELECT pg_advisory_xact_lock(%s)", (_LOCK,))
            yield db

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[Any]:
        with self._connected() as db, db.transaction():
            yield db

    @contextlib.contextmanager
    def _connected(self) -> Iterator[Any]:
        with self._lock:
            try:
                if self._connection is None or self._connection.closed:
                    connection = self._connect()
                    _migrate(connection)
                    self._connection = connection
                yield self._connection
            except self._psycopg.Error as error:
                if isinstance(error, self._psycopg.OperationalError) and self._connection is not None:
                    self._connection.close()
                    self._connection = None
                raise _unavailable(error) from None

    def _connect(self) -> Any:
        connection = self._psycopg.connect(**self._options, autocommit=True)
        connection.execute("SELECT set_config('statement_timeout', %s, false)", (str(_STATEMENT_MS),))
        return connection


def _migrate(connection: Any) -> None:
    with connection.transaction():
        connection.execute("SELECT pg_advisory_xact_lock(%s)", (_LOCK,))
        # A role that only reads and acknowledges may make no table, not even one that is there.
        if connection.execute("SELECT to_regclass('tenantgate_policy_schema')").fetchone()[0] is None:
            connection.execute("CREATE TABLE tenantgate_policy_schema (version integer NOT NULL)")
        found = connection.execute("SELECT version FROM tenantgate_policy_schema").fetchone()
        done = found[0] if found else 0
        if done > len(_MIGRATIONS):
            raise UnavailableError(
                "policy store: PostgreSQL: the tables are of a newer version of Tenantgate"
            )
        for migration in _MIGRATIONS[done:]:
            connection.execute(migration)
        if done != len(_MIGRATIONS):
            connection.execute("DELETE FROM tenantgate_policy_schema")
            connection.execute("INSERT INTO tenantgate_policy_schema VALUES (%s)", (len(_MIGRATIONS),))
        if not _value(connection, _HAS_UNREADABLE) and _value(connection, _MAY_ADD):
            connection.execute(_UNREADABLE)


def _value(connection: Any, statement: str) -> Any:
    return connection.execute(statement).fetchone()[0]


def _index(rows: Any) -> dict[str, bytes]:
    return {tenant_text(tenant): hashed for tenant, hashed in rows if hashed is not None}


def _unavailable(error: Exception) -> UnavailableError:
    """By kind alone: psycopg's messages may hold what the statement was given."""
    code = getattr(error, "sqlstate", None)
    if code is None and type(error).__name__ == "OperationalError":
        return UnavailableError("policy store: PostgreSQL can't be reached, or refuses its user")
    return UnavailableError(f"policy store: PostgreSQL: {type(error).__name__}")
