"""Keeps a node's local copy of the policy directory up to date from Redis or PostgreSQL.

Engines read the local copy alone. Of several processes of a node the one that has the lock beside the copy follows;
when it dies another one does. Whatever the store says or doesn't say, the copy only ever gets a whole newer version.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import random
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Final, TypeVar

from tenantgate.errors import TenantgateError
from tenantgate.policy.core.ports import (
    PAGE,
    Acknowledgement,
    DamagedError,
    PolicyStore,
    UnavailableError,
    UnknownVersionError,
    VersionInfo,
    difference,
    pages,
)
from tenantgate.policy.sqlite_file import files_of
from tenantgate.policy.sqlite_store import SqlitePolicyStore
from tenantgate.store.threads import BackgroundThread
from tenantgate.telemetry import logs, metrics

__all__ = ["Follower"]

T = TypeVar("T")

_log: Final = logging.getLogger("tenantgate.policy")
_EVERY_S: Final = 0.25
_KEEP: Final = 20  # versions in the local copy, up to twice as many
_AT_ONCE: Final = 8 << 20  # bytes of records in memory
_REPAIR_S: Final = 5.0  # between two questions for records that were damaged

# A process that doesn't follow shows none of these.
_up: Final = metrics.gauge(
    "tenantgate_policy_store_up", "1 while the policy store answers, and with what was published.", ("store",)
)
_age: Final = metrics.gauge(
    "tenantgate_policy_age_seconds",
    "Seconds since the local copy was last known to be the newest version.",
    ("store",),
)
_behind: Final = metrics.gauge(
    "tenantgate_policy_store_behind",
    "1 while the policy store's newest version is older than the local copy, or another one of the same number.",
    ("store",),
)


class Follower:
    """Follows `store`, known as `name` in metrics, into the file `path`.

    Args:
        every_s: seconds between two looks at the store's newest version, give or take a tenth.
    """

    def __init__(self, store: PolicyStore, path: Path, *, name: str, every_s: float = _EVERY_S) -> None:
        self._store, self._path, self._name, self._every_s = store, path, name, every_s
        self._local = SqlitePolicyStore(path)
        self._lock: tuple[int, int] | None = None  # descriptor, and the process that took it
        self._current_at = time.monotonic()
        self._down = self._was_behind = False
        self._missing: set[bytes] | None = None
        self._repair_at = 0.0
        self._forwarded: dict[tuple[str, str], Acknowledgement] = {}
        self._thread = BackgroundThread(
            "policy-follower", self._step, log=_log, failed="policy follower: the local copy can't be written"
        )

    def start(self) -> None:
        """Follow in the background."""
        self._thread.start()

    def stop(self, timeout_s: float = 1.0) -> None:
        """End that, and let another process follow."""
        self._thread.stop(timeout_s)
        self._unlock()
        self._local.close()
        self._store.close()

    def _step(self) -> float:
        pause_s = self._every_s * random.uniform(0.9, 1.1)
        if self.follow():
            with contextlib.suppress(UnavailableError):  # the next look says so
                if self._store.wait(pause_s):
                    return 0.0
        return pause_s

    def follow(self) -> bool:
        """Look once, and take what is new; False if another process of the node follows, or the store fails.

        Raises:
            UnavailableError: the local copy can't be written.
            ConfigError: what lies in its place is something else.
        """
        if not self._locked():
            return False
        try:
            self._look()
        except _StoreFailedError as failed:
            self._failed(failed.error)
            return False
        finally:
            _age.set(round(time.monotonic() - self._current_at, 3), store=self._name)
        _up.set(1, store=self._name)
        if self._down:
            self._down = False
            logs.event(_log, logging.INFO, "the policy store answers again", store=self._name)
        return True

    def _look(self) -> None:
        found = self._ask(self._store.latest)
        try:
            local, index = self._local.latest(), None
            if found is not None and _newer(found, local):
                index = self._local.index()
        except DamagedError as error:
            logs.event(
                _log, logging.ERROR, "the local copy of the policies is damaged", **logs.describe(error)
            )
            if found is not None:
                self._rebuild(found)
            return
        if found is not None and index is not None:
            self._take(found, self._local, index)
            local = found
        behind = local is not None and (found is None or found.digest != local.digest)
        self._tell_behind(behind, found, local)
        if not behind:
            self._current_at = time.monotonic()
            self._repair()
        self._forward()

    def _take(self, info: VersionInfo, target: SqlitePolicyStore, old: Mapping[str, bytes]) -> None:
        """Take a version over; records that the store lost don't keep the others from what is new."""
        index = self._ask(partial(self._store.index, info.number))
        wanted = {hashed for hashed in difference(old, index).values() if hashed is not None}
        missing = set(self._missing or ()) | wanted
        bodies: dict[bytes, bytes] = {}
        for page in pages(wanted):
            bodies |= self._ask(partial(self._store.contents, page))
            missing -= bodies.keys()
            if sum(map(len, bodies.values())) > _AT_ONCE:
                target.add(bodies)
                bodies = {}
        target.take(info, index, bodies)
        self._missing = missing & set(index.values())
        if missing:
            logs.event(_log, logging.ERROR, "the policy store has lost records", records=len(self._missing))
        if len(target.history(2 * _KEEP + 1)) > 2 * _KEEP:
            target.prune(_KEEP)
        logs.event(_log, logging.INFO, "policies taken over", version=info.number, records=len(wanted))

    def _rebuild(self, info: VersionInfo) -> None:
        """Make the copy anew beside the damaged one, and put it in its place once it is whole."""
        fresh = self._path.with_name(f".{self._path.name}.rebuilt")
        for each in files_of(fresh):
            each.unlink(missing_ok=True)
        target = SqlitePolicyStore(fresh)
        self._missing = set()
        self._take(info, target, {})
        target.close()
        self._local.close()
        for each in reversed(files_of(self._path)):  # its log first: it must not be taken for the new file's
            with contextlib.suppress(FileNotFoundError):
                each.replace(each.with_name(each.name + ".damaged"))
        fresh.replace(self._path)

    def _tell_behind(self, behind: bool, found: VersionInfo | None, local: VersionInfo | None) -> None:
        _behind.set(int(behind), store=self._name)
        if behind and not self._was_behind:
            logs.event(
                _log,
                logging.ERROR,
                "the policy store was emptied or replaced: the local copy goes on",
                store=self._name,
                version=found.number if found else 0,
                local=local.number if local else 0,
            )
        self._was_behind = behind

    def _repair(self) -> None:
        """Ask again for records that were damaged."""
        if self._missing is None:
            self._missing = self._local.missing()
        if self._missing and time.monotonic() >= self._repair_at:
            self._repair_at = time.monotonic() + _REPAIR_S
            wanted = list(self._missing)[:PAGE]
            found = self._ask(partial(self._store.contents, wanted))
            if found:
                self._local.add(found)
                self._missing -= found.keys()

    def _forward(self) -> None:
        """Tell the store what the node's processes have said."""
        for one in self._local.acknowledgements():
            key = one.node, one.process
            if self._forwarded.get(key) != one:
                said = one.node, one.process, one.version, one.at, one.unreadable
                self._ask(partial(self._store.acknowledge, *said))
                self._forwarded[key] = one

    def _failed(self, error: TenantgateError) -> None:
        _up.set(0, store=self._name)
        if not self._down:
            self._down = True
            logs.event(
                _log,
                logging.ERROR if isinstance(error, DamagedError) else logging.WARNING,
                "the policy store fails: the local copy goes on",
                store=self._name,
                **logs.describe(error),
            )

    def _ask(self, call: Callable[[], T]) -> T:
        """What the store gives, apart from what the local copy does."""
        try:
            return call()
        except (UnavailableError, DamagedError, UnknownVersionError) as error:
            raise _StoreFailedError(error) from None

    def _locked(self) -> bool:
        """Whether this process has the lock beside the copy, which ends with the process."""
        if self._lock is not None:
            if self._lock[1] == os.getpid():
                return True
            self._unlock()  # the process that this one was forked from has it
        path = self._path.with_name(self._path.name + ".lock")
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o640)
        except OSError as error:
            raise UnavailableError(f"{path}: {error.strerror}") from None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(descriptor)
            return False
        self._lock = descriptor, os.getpid()
        return True

    def _unlock(self) -> None:
        if self._lock is not None:
            os.close(self._lock[0])
            self._lock = None


class _StoreFailedError(Exception):
    """The store failed, not the local copy."""

    def __init__(self, error: TenantgateError) -> None:
        self.error = error


def _newer(found: VersionInfo, local: VersionInfo | None) -> bool:
    return local is None or found.number > local.number
