"""The policy directory in a SQLite file: the store of one node, and on each node the local copy of another store."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from tenantgate.policy.core.ports import (
    Acknowledgement,
    ConflictError,
    DamagedError,
    PolicyStore,
    PublishNote,
    VersionInfo,
    content_hash,
    difference,
    digest_of,
    pages,
    successor,
    tenant_bytes,
    tenant_text,
    tenants_of,
)
from tenantgate.policy.sqlite_file import SqliteFile

__all__ = ["FORGET_S", "SqlitePolicyStore"]

FORGET_S: Final = 86_400.0
"""After which a process that says nothing is forgotten."""
_BUSY_S: Final = 10.0

# A tenant's record of a version is its last change up to that version; no hash: it was removed.
_SCHEMA: Final = """
CREATE TABLE versions (number INTEGER PRIMARY KEY, at REAL NOT NULL, author TEXT NOT NULL, message TEXT NOT NULL,
  changed INTEGER NOT NULL, digest BLOB NOT NULL);
CREATE TABLE changes (tenant BLOB NOT NULL, version INTEGER NOT NULL, hash BLOB, PRIMARY KEY (tenant, version))
  WITHOUT ROWID;
CREATE TABLE contents (hash BLOB PRIMARY KEY, body BLOB NOT NULL);
CREATE TABLE processes (node TEXT NOT NULL, process TEXT NOT NULL, version INTEGER NOT NULL, at REAL NOT NULL,
  PRIMARY KEY (node, process)) WITHOUT ROWID;
"""
_SCHEMA_VERSION: Final = 1
# Beside the schema's version: files of before hadn't it, and those who read them don't know it.
_UNREADABLE: Final = (
    "CREATE TABLE IF NOT EXISTS unreadable (node TEXT NOT NULL, process TEXT NOT NULL, tenants TEXT NOT NULL, "
    "PRIMARY KEY (node, process)) WITHOUT ROWID"
)
_INFO: Final = "SELECT number, at, author, message, changed, digest FROM versions"
# With max() SQLite takes the other columns from the same row (https://www.sqlite.org/lang_select.html, 2.5).
_INDEX: Final = "SELECT tenant, hash, max(version) FROM changes WHERE version <= ? GROUP BY tenant"


class SqlitePolicyStore(PolicyStore):
    """The store in the file `path`, made by the first `publish` or `take`; as `SqliteFile` for the other arguments."""

    def __init__(self, path: Path, *, busy_s: float = _BUSY_S, keep_deleted: bool = False) -> None:
        self._file = SqliteFile(path, _SCHEMA, _SCHEMA_VERSION, busy_s=busy_s, keep_deleted=keep_deleted)

    @property
    def path(self) -> Path:
        """The file."""
        return self._file.path

    @property
    def opened(self) -> int:
        """Grows each time another file is found under the name."""
        return self._file.opened

    def latest(self) -> VersionInfo | None:
        """The newest version; None if there is none, or no file."""
        return self._one_info(f"{_INFO} ORDER BY number DESC LIMIT 1", ())

    def version(self, number: int) -> VersionInfo | None:
        """A version that is kept, or None."""
        return self._one_info(f"{_INFO} WHERE number = ?", (number,))

    def history(self, limit: int = 20) -> list[VersionInfo]:
        """The newest versions, the newest first."""
        return [VersionInfo(*row) for row in self._all(f"{_INFO} ORDER BY number DESC LIMIT ?", (limit,))]

    def contents(self, hashes: Collection[bytes]) -> dict[bytes, bytes]:
        """Records by SHA-256: those that are there and whole."""
        out: dict[bytes, bytes] = {}
        for page in pages(hashes):
            marks = ",".join("?" * len(page))
            rows = self._all(f"SELECT hash, body FROM contents WHERE hash IN ({marks})", page)  # noqa: S608 - marks
            whole = (row for row in rows if isinstance(row[1], bytes) and content_hash(row[1]) == row[0])
            out.update(whole)
        return out

    def trail(self, tenant: str, limit: int) -> list[bytes | None] | None:
        """The hashes of a tenant's records, the newest first, None for a removal; None if there is no version at all.

        The first one is what holds. It takes one search in the primary key, however many tenants there are.
        """
        rows = self._all(
            "SELECT hash FROM changes WHERE tenant = ? ORDER BY version DESC LIMIT ?",
            (tenant_bytes(tenant), limit),
        )
        if not rows and self.latest() is None:
            return None
        return [hashed for (hashed,) in rows]

    def changed(self, since: int) -> set[bytes]:
        """The hashes of records that versions after `since` have set."""
        rows = self._all("SELECT DISTINCT hash FROM changes WHERE version > ? AND hash IS NOT NULL", (since,))
        return {hashed for (hashed,) in rows}

    def newest(self, since: int) -> dict[str, bytes | None]:
        """The hashes of the newest records of tenants that versions after `since` changed; None: it was removed."""
        rows = self._all(
            "SELECT tenant, hash, max(version) FROM changes WHERE version > ? GROUP BY tenant", (since,)
        )
        return {tenant_text(tenant): hashed for tenant, hashed, _ in rows}

    def missing(self) -> set[bytes]:
        """Hashes of the newest version whose records aren't there, or damaged."""
        hashes = set(self.index().values())
        return {hashed for page in pages(hashes) for hashed in set(page) - self.contents(page).keys()}

    def _publish(
        self,
        changes: Mapping[str, bytes | None],
        bodies: Mapping[bytes, bytes],
        *,
        expected: int,
        note: PublishNote,
        least: int,
    ) -> int:
        with self._file.write() as db:
            head = _head(db)
            if head != expected:
                raise ConflictError(expected, head)
            info, delta = successor(_index(db, head), changes, head=head, note=note, least=least)
            _write(db, info, delta, bodies)
        return info.number

    def take(self, info: VersionInfo, index: Mapping[str, bytes], bodies: Mapping[bytes, bytes]) -> bool:
        """Take over a version of another store, under its number; False if this one is at that version or beyond.

        Records that are in neither `bodies` nor this store can be added by `add` later.

        Raises:
            DamagedError: the index isn't that version's.
        """
        if digest_of(index) != info.digest:
            raise DamagedError(f"version {info.number}: the index isn't the published one")
        with self._file.write() as db:
            head = _head(db)
            if info.number <= head:
                return False
            _write(db, info, difference(_index(db, head), index), bodies)
        return True

    def add(self, bodies: Mapping[bytes, bytes]) -> None:
        """Add records by SHA-256 that were missing or damaged."""
        with self._file.write() as db:
            _add(db, bodies)

    def prune(self, keep: int) -> int:
        """Forget all versions but the newest `keep` (at least 1), and records of no version; how many went."""
        with self._file.write() as db:
            found = db.execute(
                f"{_INFO} ORDER BY number DESC LIMIT 1 OFFSET ?", (max(keep, 1) - 1,)
            ).fetchone()
            if found is None:
                return 0
            floor = found[0]
            gone = db.execute("DELETE FROM versions WHERE number < ?", (floor,)).rowcount
            if not gone:
                return 0
            # What a tenant had at the oldest version that is kept stays; a removal needs no row then.
            db.execute(
                "DELETE FROM changes WHERE version < (SELECT max(version) FROM changes AS later "
                "WHERE later.tenant = changes.tenant AND later.version <= ?)",
                (floor,),
            )
            db.execute("DELETE FROM changes WHERE version <= ? AND hash IS NULL", (floor,))
            db.execute(
                "DELETE FROM contents WHERE hash NOT IN (SELECT hash FROM changes WHERE hash IS NOT NULL)"
            )
        return gone

    def acknowledge(
        self, node: str, process: str, version: int, at: float, unreadable: Sequence[str] = ()
    ) -> None:
        """Note that a process of a node goes by `version` at the Unix time `at`, in seconds, but for these tenants."""
        with self._file.write() as db:
            db.execute("INSERT OR REPLACE INTO processes VALUES (?, ?, ?, ?)", (node, process, version, at))
            db.execute("DELETE FROM processes WHERE at < ?", (at - FORGET_S,))
            if unreadable:
                db.execute(_UNREADABLE)
                values = (node, process, json.dumps(list(unreadable)))
                db.execute("INSERT OR REPLACE INTO unreadable VALUES (?, ?, ?)", values)
            elif _has_unreadable(db):
                db.execute("DELETE FROM unreadable WHERE node = ? AND process = ?", (node, process))

    def acknowledgements(self) -> list[Acknowledgement]:
        """The last one of each process of each node."""
        with self._file.read() as db:
            if db is None:
                return []
            rows = db.execute(
                "SELECT node, process, version, at FROM processes ORDER BY node, process"
            ).fetchall()
            listed = "SELECT node, process, tenants FROM unreadable"
            told = (
                {tuple(key): tenants for *key, tenants in db.execute(listed)} if _has_unreadable(db) else {}
            )
        return [Acknowledgement(n, p, v, at, tenants_of(told.get((n, p)))) for n, p, v, at in rows]

    def close(self) -> None:
        """Close the file; the next use opens it again."""
        self._file.close()

    def _hashes(self, info: VersionInfo) -> dict[str, bytes]:
        with self._file.read() as db:
            return {} if db is None else _index(db, info.number)

    def _hash(self, tenant: str, info: VersionInfo) -> bytes | None:
        rows = self._all(
            "SELECT hash FROM changes WHERE tenant = ? AND version <= ? ORDER BY version DESC LIMIT 1",
            (tenant_bytes(tenant), info.number),
        )
        return rows[0][0] if rows else None

    def _all(self, statement: str, values: Collection[object]) -> list[tuple[Any, ...]]:
        with self._file.read() as db:
            return [] if db is None else db.execute(statement, tuple(values)).fetchall()

    def _one_info(self, statement: str, values: Collection[object]) -> VersionInfo | None:
        rows = self._all(statement, values)
        return VersionInfo(*rows[0]) if rows else None


def _has_unreadable(db: sqlite3.Connection) -> bool:
    return db.execute("SELECT 1 FROM sqlite_master WHERE name = 'unreadable'").fetchone() is not None


def _head(db: sqlite3.Connection) -> int:
    (number,) = db.execute("SELECT coalesce(max(number), 0) FROM versions").fetchone()
    return int(number)


def _index(db: sqlite3.Connection, version: int) -> dict[str, bytes]:
    rows = db.execute(_INDEX, (version,))
    return {tenant_text(tenant): hashed for tenant, hashed, _ in rows if hashed is not None}


def _write(
    db: sqlite3.Connection,
    info: VersionInfo,
    delta: Mapping[str, bytes | None],
    bodies: Mapping[bytes, bytes],
) -> None:
    _add(db, bodies)
    db.execute(
        "INSERT INTO versions VALUES (?, ?, ?, ?, ?, ?)",
        (info.number, info.at, info.author, info.message, info.changed, info.digest),
    )
    db.executemany(
        "INSERT INTO changes VALUES (?, ?, ?)",
        ((tenant_bytes(tenant), info.number, hashed) for tenant, hashed in delta.items()),
    )


def _add(db: sqlite3.Connection, bodies: Mapping[bytes, bytes]) -> None:
    db.executemany(
        "INSERT INTO contents VALUES (?, ?) "
        "ON CONFLICT (hash) DO UPDATE SET body = excluded.body WHERE body <> excluded.body",
        bodies.items(),
    )
