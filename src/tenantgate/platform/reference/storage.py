"""The reference platform's state: a SQLite database, in memory or in a file. What `take` has answered is durable."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import Context, Decimal
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

from tenantgate.errors import ConfigError, EdgeError
from tenantgate.platform.core import intake
from tenantgate.platform.core.intake import Event, Row, Run

__all__ = ["Result", "Storage"]

_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS version (number INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS tenants (id TEXT PRIMARY KEY, body TEXT NOT NULL, version INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS events (source TEXT, id TEXT, PRIMARY KEY (source, id)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS ledger
    (tenant TEXT, day TEXT, provider TEXT, model TEXT, body TEXT NOT NULL, PRIMARY KEY (tenant, day, provider, model));
CREATE TABLE IF NOT EXISTS corrections (number INTEGER PRIMARY KEY, tenant TEXT, body TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS sources
    (source TEXT, tenant TEXT, runs TEXT NOT NULL, PRIMARY KEY (source, tenant));
"""
_SUM: Final = Context(prec=100)


@dataclass(frozen=True, slots=True)
class Result:
    """What became of one event of a batch: accepted, duplicate, ignored or rejected, and why."""

    status: str
    source: str = ""
    id: str = ""
    problem: str = ""


class Storage:
    """The state; `path` None: in memory. Of one thread.

    Raises:
        EdgeError: the file can't be used.
    """

    def __init__(self, path: Path | None) -> None:
        try:
            self._db = sqlite3.connect(path or ":memory:", isolation_level=None)
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute("PRAGMA synchronous = FULL")
            self._db.executescript(_SCHEMA)
        except sqlite3.Error as error:
            raise EdgeError(f"{path}: {error}") from None

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._db.execute("COMMIT")
        except BaseException:
            self._db.execute("ROLLBACK")
            raise

    # -- tenants ------------------------------------------------------------------------------------------

    @property
    def version(self) -> int:
        """Of the list of tenants; it grows with every change, from 1."""
        found = self._db.execute("SELECT number FROM version").fetchone()
        return int(found[0]) if found else 1

    def put(self, tenants: Sequence[Mapping[str, Any]], *, whole: bool) -> int:
        """Set tenants, each with an ``id``; as the `whole` list, or beside the others. The new version."""
        with self._transaction():
            version = self.version + 1
            if whole:
                self._db.execute("DELETE FROM tenants")
            for tenant in tenants:
                values = (tenant["id"], json.dumps(tenant), version)
                self._db.execute("INSERT OR REPLACE INTO tenants VALUES (?, ?, ?)", values)
            self._set_version(version)
        return version

    def remove(self, tenant: str) -> bool:
        """Remove a tenant; whether there was one."""
        with self._transaction():
            gone = self._db.execute("DELETE FROM tenants WHERE id = ?", (tenant,)).rowcount > 0
            if gone:
                self._set_version(self.version + 1)
        return gone

    def set_version(self, version: int) -> None:
        """Pretend that the list has this version, as after a restore."""
        with self._transaction():
            self._set_version(version)

    def _set_version(self, version: int) -> None:
        self._db.execute("DELETE FROM version")
        self._db.execute("INSERT INTO version VALUES (?)", (version,))

    def tenants(self, *, after: str, limit: int) -> list[dict[str, Any]]:
        """Tenants by rising id."""
        rows = self._db.execute("SELECT body FROM tenants WHERE id > ? ORDER BY id LIMIT ?", (after, limit))
        return [json.loads(body) for (body,) in rows]

    def tenant(self, identifier: str) -> tuple[dict[str, Any], int] | None:
        """A tenant, and the version of the list since which it is so."""
        found = self._db.execute("SELECT body, version FROM tenants WHERE id = ?", (identifier,)).fetchone()
        return None if found is None else (json.loads(found[0]), int(found[1]))

    # -- usage --------------------------------------------------------------------------------------------

    def take(self, batch: Sequence[Any]) -> list[Result]:
        """Take a batch of events, each once; all of it is durable when this returns, or nothing."""
        rows: dict[tuple[str, str, str, str], Row] = {}
        sources: dict[tuple[str, str], list[Run]] = {}
        out = []
        with self._transaction():
            for value in batch:
                try:
                    event = intake.read(value)
                except ConfigError as error:
                    out.append(Result("rejected", *_named(value), str(error)))
                    continue
                out.append(Result(self._taken(event, value, rows, sources), event.source, event.id))
            for row_key, row in rows.items():
                self._db.execute(
                    "INSERT OR REPLACE INTO ledger VALUES (?, ?, ?, ?, ?)", (*row_key, _dump(row))
                )
            for source_key, runs in sources.items():
                text = json.dumps([[run.first, run.last] for run in runs])
                self._db.execute("INSERT OR REPLACE INTO sources VALUES (?, ?, ?)", (*source_key, text))
        return out

    def _taken(
        self,
        event: Event,
        value: Mapping[str, Any],
        rows: dict[tuple[str, str, str, str], Row],
        sources: dict[tuple[str, str], list[Run]],
    ) -> str:
        if not event.known:
            return "ignored"
        key = (event.source, event.id)
        if not self._db.execute("INSERT OR IGNORE INTO events VALUES (?, ?)", key).rowcount:
            return "duplicate"
        if event.run is not None:
            at = event.source, event.tenant
            sources[at] = intake.merged(sources.get(at) or self._runs(*at), event.run)
            return "accepted"
        row_key = event.tenant, event.day, event.provider, event.model
        row = rows.get(row_key)
        if row is None:
            row = rows[row_key] = self._row(row_key)
        intake.add(row, event)
        if event.type == intake.CORRECTION:
            self._db.execute(
                "INSERT INTO corrections (tenant, body) VALUES (?, ?)", (event.tenant, json.dumps(value))
            )
        return "accepted"

    def _row(self, key: tuple[str, str, str, str]) -> Row:
        found = self._db.execute(
            "SELECT body FROM ledger WHERE tenant = ? AND day = ? AND provider = ? AND model = ?", key
        ).fetchone()
        return Row() if found is None else _load(found[0])

    def _runs(self, source: str, tenant: str) -> list[Run]:
        found = self._db.execute(
            "SELECT runs FROM sources WHERE source = ? AND tenant = ?", (source, tenant)
        ).fetchone()
        return [] if found is None else [Run(first=a, last=b) for a, b in json.loads(found[0])]

    def sources(self, *, after: Sequence[str], limit: int) -> list[dict[str, Any]]:
        """Of each node and tenant the numbers that are there."""
        rows = self._db.execute(
            "SELECT source, tenant, runs FROM sources WHERE (source, tenant) > (?, ?) "
            "ORDER BY source, tenant LIMIT ?",
            (*after, limit),
        )
        return [_source(source, tenant, json.loads(runs)) for source, tenant, runs in rows]

    def ledger(
        self, *, where: Mapping[str, str], since: str, until: str, after: Sequence[str], limit: int
    ) -> list[dict[str, Any]]:
        """Rows by rising tenant, day, provider and model; `where` names columns of the ledger."""
        conditions = "".join(f" AND {name} = ?" for name in where)
        rows = self._db.execute(
            "SELECT tenant, day, provider, model, body FROM ledger WHERE day >= ? AND day <= ? "  # noqa: S608
            f"AND (tenant, day, provider, model) > (?, ?, ?, ?){conditions} "
            "ORDER BY tenant, day, provider, model LIMIT ?",
            (since, until, *after, *where.values(), limit),
        )
        return [_shown(*row) for row in rows]

    def corrections(self, *, tenant: str, after: int, limit: int) -> list[tuple[int, dict[str, Any]]]:
        """Corrections as they came, each with its number."""
        rows = self._db.execute(
            "SELECT number, body FROM corrections WHERE number > ? AND (? = '' OR tenant = ?) ORDER BY number LIMIT ?",
            (after, tenant, tenant, limit),
        )
        return [(int(number), json.loads(body)) for number, body in rows]


def _named(value: Any) -> tuple[str, str]:
    """Source and id of what is no event, for the sender."""
    if not isinstance(value, Mapping):
        return "", ""
    source, identifier = value.get("source"), value.get("id")
    return (
        source[:512] if isinstance(source, str) else "",
        identifier[:512] if isinstance(identifier, str) else "",
    )


def _source(source: str, tenant: str, runs: list[list[int]]) -> dict[str, Any]:
    between = pairwise(runs)
    return {
        "source": source,
        "tenant": tenant,
        "first": runs[0][0],
        "watermark": runs[0][1],
        "highest": runs[-1][1],
        "gaps": [{"from": before[1] + 1, "to": after[0] - 1} for before, after in between],
    }


def _dump(row: Row) -> str:
    costs = [[*key, format(amount, "f")] for key, amount in row.costs.items()]
    counts = {name: getattr(row, name) for name in _COUNTS}
    return json.dumps({**counts, "tokens": row.tokens, "costs": costs})


def _load(body: str) -> Row:
    tree = json.loads(body)
    costs = {(currency, certainty): Decimal(amount) for currency, certainty, amount in tree.pop("costs")}
    return Row(**tree, costs=costs)


_COUNTS: Final = ("requests", "cached", "tries", "uncertain", "unpriced", "corrections")


def _shown(tenant: str, day: str, provider: str, model: str, body: str) -> dict[str, Any]:
    row = _load(body)
    totals: dict[str, Decimal] = {}
    for (currency, _), amount in row.costs.items():
        totals[currency] = _SUM.add(totals.get(currency, Decimal(0)), amount)
    return {
        "tenant": tenant,
        "day": day,
        "provider": provider,
        "model": model,
        **{name: getattr(row, name) for name in _COUNTS},
        "usage": row.tokens,
        "costs": [
            {"currency": currency, "exact": _exact(amount)} for currency, amount in sorted(totals.items())
        ],
        "by_certainty": [
            {"currency": currency, "certainty": certainty, "exact": _exact(amount)}
            for (currency, certainty), amount in sorted(row.costs.items())
        ],
    }


def _exact(amount: Decimal) -> str:
    text = format(amount, "f")
    return (text.rstrip("0").rstrip(".") if "." in text else text) if amount else "0"
