"""What holds for a tenant, as an engine asks for it: from memory, else from the node's local file.

What can't be read changes nothing: a record that is damaged, or that this version of the product doesn't understand,
leaves the tenant's last good one in force, and a file that is gone leaves what is in memory and what is still open.
"""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Generic, TypeVar

from tenantgate.errors import TenantgateError
from tenantgate.policy.core.ports import UNREADABLE, DamagedError, pages
from tenantgate.policy.sqlite_store import SqlitePolicyStore
from tenantgate.store.threads import BackgroundThread
from tenantgate.telemetry import logs, metrics, needs
from tenantgate.tenant import TenantId

__all__ = ["Directory"]

T = TypeVar("T")

_log: Final = logging.getLogger("tenantgate.policy")
_EVERY_S: Final = 0.25
_HEARD_S: Final = 5.0  # between two acknowledgements of the same version
_READ_S: Final = 0.1  # longest wait for the file, which readers don't wait for but after a crash
_WRITE_S: Final = 0.2
_TRAIL: Final = 100  # earlier records that are tried
_AGAIN: Final = 100  # tenants that are tried anew at once
_CHECKED: Final = 20  # records that are tried at once

_version: Final = metrics.gauge(
    "tenantgate_policy_version", "Version of the policies that this process goes by."
)
_unreadable: Final = metrics.gauge(
    "tenantgate_policy_unreadable",
    "Tenants whose newest record can't be read; an earlier one is in force, or none.",
)


@dataclass(frozen=True, slots=True)
class _Entry(Generic[T]):
    """A tenant's record in force, None if there is no good one; `bad` is the hash of a newer one that can't be read."""

    seen: tuple[int, int]
    hashed: bytes | None
    value: T | None
    bad: bytes | None = None


class Directory(Generic[T]):
    """Records of the newest version in the local file `path`, parsed; thread-safe, and safe across forks.

    A new version is noticed by a thread within `every_s`; who is asked for then is compared by hash, and parsed only if
    the record is another one. The thread tries all that a version changes, so that its acknowledgement says whose
    record can't be read here.

    Args:
        path: the local file: the file store itself, or the copy that a `tenantgate.policy.follower.Follower` keeps.
        parse: makes the object of a tenant's id and record; raises `ConfigError` for one that it refuses.
        most: parsed records in memory, the least recently used dropped first.
        every_s: seconds between two looks at the newest version.
        node: name of this node in acknowledgements; the host's, if left out.
        background: whether a thread looks; else the owner calls `look`, `load` and `acknowledge`.
        load: loads what a record that is new to this process needs, and waits for it; not in a request. Other threads
            go by a version as soon as it is seen; it is acknowledged, and the first one makes this process ready, when
            what it needs is loaded.
        check: raises for what `parse` would refuse, or for most of it, in less time; `parse`, if left out. All records
            that are new are tried with it.
    """

    def __init__(
        self,
        path: Path,
        parse: Callable[[str, bytes], T],
        *,
        most: int = 2000,
        every_s: float = _EVERY_S,
        node: str | None = None,
        background: bool = True,
        load: Callable[[bytes], None] | None = None,
        check: Callable[[str, bytes], object] | None = None,
    ) -> None:
        self._readable = check or parse
        self._load, self._loaded_for = load, (0, 0)
        self._checked = (0, 0)
        self._closed = threading.Event()
        self._starting = True  # no version has been checked, nor been missed
        self._settled = threading.Event()
        self._parse, self._most, self._every_s = parse, most, every_s
        self._node, self._background = node or socket.gethostname(), background
        self._store = SqlitePolicyStore(path, busy_s=_READ_S, keep_deleted=True)
        self._writer = SqlitePolicyStore(
            path, busy_s=_WRITE_S
        )  # its own, so that no reader waits for a writer
        self._lock = threading.Lock()
        self._entries: OrderedDict[TenantId, _Entry[T]] = OrderedDict()
        self._bad: dict[TenantId, bytes] = {}
        self._state = (0, 0)  # which file was opened, and its newest version
        self._looked = False
        self._acknowledged: tuple[int, int, tuple[str, ...]] = (
            0,
            0,
            (),
        )  # process, version, who can't be read
        self._acknowledged_at = 0.0  # monotonic
        self._failing: set[str] = set()
        self._thread = BackgroundThread(
            "policy-directory",
            self._step,
            log=_log,
            failed="policy directory: a look at the local file failed",
        )

    def start(self) -> None:
        """Look, and go on looking in the background; `get` does so as well."""
        if not self._looked:
            self.look()
        if self._background:
            self._thread.start()

    def close(self) -> None:
        """End the thread, and close the file."""
        self._closed.set()
        self._thread.stop(1.0)
        needs.forget("policies", owner=self)
        self._store.close()
        self._writer.close()

    @property
    def version(self) -> int:
        """The newest version that is known; 0 if there is none yet."""
        return self._state[1]

    @property
    def ready(self) -> bool:
        """Whether there is a version."""
        return self._state[1] > 0

    def get(self, tenant: TenantId) -> T | None:
        """The tenant's record in force; None for a tenant that isn't in the directory, or before there is a version."""
        self.start()
        state = self._state
        with self._lock:
            entry = self._entries.get(tenant)
            if entry is not None:
                self._entries.move_to_end(tenant)
        if entry is None or entry.seen != state:
            entry = self._refreshed(tenant, entry, state)
        return entry.value if entry is not None else None

    def look(self) -> None:
        """Look for a new version now; what fails is logged."""
        try:
            head = self._store.latest()
        except TenantgateError as error:
            self._fails("read", error)
        else:
            self._failing.discard("read")
            state = (self._store.opened, head.number) if head is not None else self._state
            if state != self._state:
                if state[1] < self._state[1]:
                    logs.event(_log, logging.WARNING, "the local file has an older version", version=state[1])
                self._state = state
                self._again()
            _version.set(self._state[1])
        needs.tell("policies", there=self._loaded, owner=self)
        self._looked = True

    @property
    def _loaded(self) -> bool:
        """Whether there is a version, and what the first one that was seen needs is loaded."""
        return self.ready and (self._load is None or self._loaded_for[1] > 0)

    def load(self) -> None:
        """Load what records need that are new to this process; what fails is logged."""
        state = self._state
        if self._load is not None and state[1] and state != self._loaded_for:
            try:
                opened, number = self._loaded_for
                if number and opened == state[0]:
                    hashes = self._store.changed(number)
                else:  # not what earlier versions need
                    hashes = set(self._store.index().values())
                for page in pages(hashes):
                    for body in self._store.contents(page).values():
                        self._load(body)
            except TenantgateError as error:
                self._fails("read", error)
            self._loaded_for = state
            needs.tell("policies", there=self._loaded, owner=self)
        self._settled.set()

    def _check(self) -> None:
        """Try all records that are new to this process, so that it is known whose can't be read.

        At a process's start, when it has requests to answer meanwhile, it takes a quarter of the time. However long it
        takes, newer versions are seen, and it is said that the process runs.
        """
        state, (opened, number) = self._state, self._checked
        if not state[1]:
            self._starting = False  # who publishes the first version waits for this
        if not state[1] or state == self._checked:
            return
        try:
            newest = self._store.newest(number if opened == state[0] else 0)
            for page in pages(newest.items(), _CHECKED):
                began = time.monotonic()
                found = self._store.contents({hashed for _, hashed in page if hashed is not None})
                for tenant, hashed in page:
                    self._try(TenantId(tenant), hashed, found)
                if len(newest) > _CHECKED:
                    pause_s = 3 * (time.monotonic() - began) if self._starting else 0.0
                    if self._closed.wait(pause_s):
                        return
                    self.look()
                    self._say_version()
        except TenantgateError as error:
            self._fails("read", error)
        self._checked, self._starting = state, False

    def _try(self, tenant: TenantId, hashed: bytes | None, found: Mapping[bytes, bytes]) -> None:
        with self._lock:
            entry, known = self._entries.get(tenant), tenant in self._bad
        if not known and (hashed is None or (entry is not None and entry.hashed == hashed)):
            return
        try:
            if hashed is not None:
                self._readable(str(tenant), found[hashed])
        except Exception:  # noqa: BLE001 - as in `_parsed`; `_refreshed` says what it is
            known = True
        if known:
            self._refreshed(tenant, entry, self._state)

    def wait(self, timeout_s: float) -> None:
        """Wait until what the policies need is loaded, or it is known that there are none yet."""
        self._settled.wait(timeout_s)

    def acknowledge(self) -> None:
        """Try what is new, and say which version this process goes by; what fails is logged.

        It says so when that is another one, or what it can't read is, and now and then.
        """
        self._check()
        self._say_version()

    def _say_version(self) -> None:
        with self._lock:
            unreadable = tuple(sorted(map(str, self._bad))[:UNREADABLE])
        said, now = (os.getpid(), self._checked[1], unreadable), time.monotonic()
        if not said[1] or (self._acknowledged == said and now < self._acknowledged_at + _HEARD_S):
            return
        try:
            if self._writer.latest() is not None:
                self._writer.acknowledge(self._node, str(said[0]), said[1], time.time(), unreadable)
        except TenantgateError as error:
            self._fails("acknowledge", error)
            return
        self._failing.discard("acknowledge")
        self._acknowledged, self._acknowledged_at = said, now
        self._again()  # a record that was damaged may have been repaired

    def _step(self) -> float:
        self.look()
        self.load()
        self.acknowledge()
        return self._every_s

    def _again(self) -> None:
        """Try tenants anew whose newest record couldn't be read."""
        with self._lock:
            some = list(self._bad)[:_AGAIN]
        for tenant in some:
            entry = self._entries.get(tenant)
            if entry is not None:
                entry = _Entry(entry.seen, entry.hashed, entry.value)
            self._refreshed(tenant, entry, self._state)

    def _fails(self, what: str, error: TenantgateError) -> None:
        if what not in self._failing:
            self._failing.add(what)
            logs.event(_log, logging.WARNING, f"policy directory: can't {what}", **logs.describe(error))

    def _refreshed(self, tenant: TenantId, old: _Entry[T] | None, state: tuple[int, int]) -> _Entry[T] | None:
        """The entry as the file has it now, kept in memory."""
        try:
            entry = self._read(tenant, old, state)
        except _NoVersionError:
            return old
        except TenantgateError as error:
            self._fails("read", error)
            return old
        with self._lock:
            if entry is None:
                self._entries.pop(tenant, None)
            else:
                self._entries[tenant] = entry
                self._entries.move_to_end(tenant)
                while len(self._entries) > self._most:
                    self._entries.popitem(last=False)
            self._bad.pop(tenant, None)
            if entry is not None and entry.bad is not None:
                self._bad[tenant] = entry.bad  # as the last one, so that all have their turn
            _unreadable.set(len(self._bad))
        return entry

    def _read(self, tenant: TenantId, old: _Entry[T] | None, state: tuple[int, int]) -> _Entry[T] | None:
        trail = self._store.trail(str(tenant), 1)
        if trail is None:
            raise _NoVersionError
        newest = trail[0] if trail else None
        if newest is None:
            return None
        if old is not None and newest in (old.hashed, old.bad):
            return _Entry(state, old.hashed, old.value, old.bad if newest == old.bad else None)
        try:
            return _Entry(state, newest, self._parsed(tenant, newest))
        except _UnreadableError as error:
            if self._store.trail(str(tenant), 1) != trail:  # pruned meanwhile, in favour of a newer one
                return self._read(tenant, old, state)
            self._say(tenant, newest, error)
        return self._earlier(tenant, old, newest, state)

    def _earlier(
        self, tenant: TenantId, old: _Entry[T] | None, newest: bytes, state: tuple[int, int]
    ) -> _Entry[T]:
        """The newest earlier record that can be read, of those since the tenant was last added.

        Nobody may have asked for it yet, so that the one in memory may be older; where the file has neither, that one.
        """
        for hashed in (self._store.trail(str(tenant), _TRAIL) or [])[1:]:
            if hashed is None:
                return _Entry(state, None, None, newest)
            if old is not None and hashed == old.hashed:
                break
            try:
                return _Entry(state, hashed, self._parsed(tenant, hashed), newest)
            except _UnreadableError:
                continue
        if old is None:
            return _Entry(state, None, None, newest)
        return _Entry(state, old.hashed, old.value, newest)

    def _parsed(self, tenant: TenantId, hashed: bytes) -> T:
        body = self._store.contents([hashed]).get(hashed)
        if body is None:
            raise _UnreadableError(DamagedError(f"tenant {tenant.slug}: the record isn't the published one"))
        try:
            return self._parse(str(tenant), body)
        except Exception as error:  # noqa: BLE001 - whatever a record does to the parser, the last good one stays
            raise _UnreadableError(error) from None

    def _say(self, tenant: TenantId, hashed: bytes, error: _UnreadableError) -> None:
        if self._bad.get(tenant) != hashed:
            logs.event(
                _log,
                logging.ERROR,
                "a tenant's newest record can't be read: the last good one stays in force",
                tenant=tenant.slug,
                version=self._state[1],
                **logs.describe(error.error),
            )


class _NoVersionError(Exception):
    """There is no file, or an empty one: that says nothing about a tenant."""


class _UnreadableError(Exception):
    """A record is damaged, or the parser refuses it."""

    def __init__(self, error: Exception) -> None:
        self.error = error
