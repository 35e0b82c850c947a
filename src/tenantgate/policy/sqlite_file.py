"""A SQLite file that other processes write, replace or delete: opened when needed, and anew when it is another one.

WAL mode: a writer that is killed leaves the last whole transaction, and readers don't wait for writers. The file is
never opened but through SQLite: closing another descriptor of it would drop SQLite's locks
(https://www.sqlite.org/howtocorrupt.html, 2.2).
"""

from __future__ import annotations

import contextlib
import os
import secrets
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Final
from urllib.parse import quote

from tenantgate.errors import ConfigError
from tenantgate.policy.core.ports import DamagedError, UnavailableError

__all__ = ["SqliteFile", "files_of"]

_MODE: Final = 0o640
_APPLICATION: Final = 0x7467_7064  # "tgpd", https://www.sqlite.org/pragma.html#pragma_application_id
_WAL_BYTES: Final = 4 << 20  # that the log is cut to after a long transaction

_inherited: Final[list[sqlite3.Connection]] = []
"""Connections of the process that this one was forked from: using or closing them here could damage the file."""


class SqliteFile:
    """A file with the tables of `schema`; thread-safe, and safe across forks.

    Args:
        path: the file. Its folder has to be there; `write` makes the file, readable for its owner and group.
        schema: statements that make the tables.
        version: of the schema, from 1.
        busy_s: seconds that a writer waits for another one.
        keep_deleted: go on with the file that was open when there is none under its name any more.
    """

    def __init__(
        self, path: Path, schema: str, version: int, *, busy_s: float, keep_deleted: bool = False
    ) -> None:
        self.path = path
        self.opened = 0
        """How many times a file was opened: two different files never have the same number."""
        self._schema, self._version, self._busy_s, self._keep_deleted = schema, version, busy_s, keep_deleted
        self._lock = threading.RLock()
        self._connection: sqlite3.Connection | None = None
        self._identity: tuple[object, ...] | None = None
        self._log_identity: tuple[int, int] | None = None
        self._immutable = False
        self._pid = os.getpid()

    @contextlib.contextmanager
    def read(self) -> Iterator[sqlite3.Connection | None]:
        """A connection for single statements; None if there is no file.

        Raises:
            UnavailableError: it can't be read.
            DamagedError: it is damaged, or of another version of the product.
            ConfigError: it is another program's.
        """
        with self._lock, self._wrapped():
            yield self._current()

    @contextlib.contextmanager
    def write(self) -> Iterator[sqlite3.Connection]:
        """A transaction that no other process writes in; made durable at the end, undone if anything is raised.

        Raises:
            UnavailableError: it can't be written, or another writer takes too long.
            DamagedError: it is damaged, or of another version of the product.
            ConfigError: it is another program's.
        """
        with self._lock, self._wrapped():
            connection = self._current()
            if connection is None or not self.path.exists():
                self._create()
                connection = self._current()
                if connection is None:
                    raise UnavailableError(f"{self.path}: is gone")
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                with contextlib.suppress(sqlite3.Error):
                    connection.execute("ROLLBACK")
                raise

    def close(self) -> None:
        """Close the file; the next use opens it again."""
        with self._lock, contextlib.suppress(sqlite3.Error):
            self._identity = self._log_identity = None
            self._drop()

    def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None and self._pid == os.getpid():
            connection.close()
        elif connection is not None:
            _inherited.append(connection)

    def _current(self) -> sqlite3.Connection | None:
        if self._pid != os.getpid():
            self._drop()
            self._pid = os.getpid()
        now = self._identify()
        if self._connection is not None and (now == self._identity or (now is None and self._keep_deleted)):
            return self._connection
        self._drop()
        if now is not None:
            if self._identity is not None and now[:2] != self._identity[:2]:
                self._remove_log_of_another_file()
            self._connection = self._open()
            # Another file may lie there since: then the next use finds that out.
            self._identity = (*now[:2], *self._state()) if self._immutable else now
            self.opened += 1
            self._log_identity = _identity(
                self._log
            )  # SQLite has made it, and it stays while the file is open
        return self._connection

    def _identify(self) -> tuple[object, ...] | None:
        try:
            found = _identity(self.path)
        except OSError as error:
            raise UnavailableError(f"{self.path}: {error.strerror}") from None
        return None if found is None else (*found, *(self._state() if self._immutable else ()))

    def _state(self) -> tuple[object, ...]:
        """What tells that somebody has written a file that can't be written here: SQLite doesn't look for it then."""
        with contextlib.suppress(OSError):
            found = self.path.stat()
            return found.st_mtime_ns, found.st_size, self._log.exists()
        return ()

    def _remove_log_of_another_file(self) -> None:
        """What lay beside the file that was open before: SQLite would take it for this one's, and mix the two."""
        known, self._log_identity = self._log_identity, None
        if known is None or known != _identity(self._log):
            return
        try:
            for each in files_of(self.path)[1:]:
                each.unlink(missing_ok=True)
        except OSError as error:
            raise UnavailableError(
                f"{self._log}: has to be removed, the file was replaced: {error.strerror}"
            ) from None

    @property
    def _log(self) -> Path:
        return self.path.with_name(self.path.name + "-wal")

    def _open(self) -> sqlite3.Connection:
        self._immutable = False
        try:
            return self._connected("mode=rw")
        except sqlite3.OperationalError:
            # Without its log SQLite has to make one, even to read.
            if not _read_only_mount(self.path) or self._log.exists():
                raise
        self._immutable = True
        return self._connected("mode=ro&immutable=1")

    def _connected(self, options: str) -> sqlite3.Connection:
        connection = sqlite3.connect(
            f"file:{quote(str(self.path.absolute()))}?{options}",
            uri=True,
            isolation_level=None,
            check_same_thread=False,
            timeout=self._busy_s,
        )
        try:
            self._check(connection)
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute(f"PRAGMA journal_size_limit = {_WAL_BYTES}")
        except BaseException:
            connection.close()
            raise
        return connection

    def _check(self, connection: sqlite3.Connection) -> None:
        (application,) = connection.execute("PRAGMA application_id").fetchone()
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        if application != _APPLICATION:
            raise ConfigError(f"{self.path}: isn't a policy directory")
        if version != self._version:
            raise DamagedError(f"{self.path}: is of another version of Tenantgate")

    def _create(self) -> None:
        """Make an empty file beside its place, and put it there unless another process was faster."""
        made = self.path.with_name(f".{self.path.name}.{secrets.token_hex(8)}")
        try:
            os.close(os.open(made, os.O_CREAT | os.O_EXCL | os.O_WRONLY, _MODE))
            connection = sqlite3.connect(made, isolation_level=None)
            try:
                connection.execute("PRAGMA journal_mode = WAL")
                connection.executescript(self._schema)
                connection.execute(f"PRAGMA application_id = {_APPLICATION}")
                connection.execute(f"PRAGMA user_version = {self._version}")
            finally:
                connection.close()
            if self._log.exists() and not self.path.exists():  # of a file that was deleted
                for each in files_of(self.path)[1:]:
                    each.unlink(missing_ok=True)
            with contextlib.suppress(FileExistsError):
                os.link(made, self.path)
        except OSError as error:
            raise UnavailableError(f"{self.path}: can't be made: {error.strerror}") from None
        finally:
            with contextlib.suppress(OSError):
                made.unlink()

    @contextlib.contextmanager
    def _wrapped(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            name = getattr(error, "sqlite_errorname", "")
            if name.startswith(("SQLITE_CORRUPT", "SQLITE_NOTADB")):
                with contextlib.suppress(sqlite3.Error):
                    self._drop()
                raise DamagedError(f"{self.path}: is damaged") from None
            reason = next((text for start, text in _REASONS.items() if name.startswith(start)), name)
            raise UnavailableError(f"{self.path}: {reason or type(error).__name__}") from None


_REASONS: Final = {
    "SQLITE_BUSY": "another process writes it, and takes too long",
    "SQLITE_CANTOPEN": "can't be opened: the file, or its folder for SQLite's log, isn't accessible for this user",
    "SQLITE_FULL": "the disk is full",
    "SQLITE_IOERR": "the disk fails",
    "SQLITE_PERM": "isn't accessible for this user",
    "SQLITE_READONLY": "can't be written: the file or the file system is read-only",
}


def files_of(path: Path) -> list[Path]:
    """All files of a SQLite database: itself, its log, and the index of that."""
    return [path, *(path.with_name(path.name + end) for end in ("-wal", "-shm"))]


def _identity(path: Path) -> tuple[int, int] | None:
    """Which file lies there; a file that is open keeps its number, so another one can't have it."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino


def _read_only_mount(path: Path) -> bool:
    try:
        return bool(os.statvfs(path).f_flag & os.ST_RDONLY)
    except OSError:
        return False
