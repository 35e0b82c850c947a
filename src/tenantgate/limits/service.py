"""The limits of a process: reservations on the client's path, settlements off it, and what was learnt on the way.

A reservation is one call to the ledger. Settlements go through a bounded queue to a thread of their own, so that a
Redis that stalls holds no worker of the log phase; while it is gone they wait (`tenantgate.limits.leases`). What
doesn't fit is charged when its reservation expires.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import threading
import time
import weakref
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, NamedTuple

from tenantgate.bounded import Bounded
from tenantgate.limits.alert_store import AlertStore
from tenantgate.limits.alerts import Alerts
from tenantgate.limits.core.ladder import Level, level
from tenantgate.limits.core.ledger import Certainty, NotCountedError, Settlement, Used
from tenantgate.limits.core.limit import rate_rules
from tenantgate.limits.core.rules import OnStoreDown
from tenantgate.limits.expected import ExpectedTokens
from tenantgate.limits.lease_notes import LeaseNotes
from tenantgate.limits.leases import Leases
from tenantgate.limits.local_ledger import LocalLedger
from tenantgate.limits.redis_ledger import RedisLedger
from tenantgate.store.redis_nodes import connect
from tenantgate.store.shared import Shared
from tenantgate.telemetry import logs, metrics

if TYPE_CHECKING:
    from pathlib import Path

    from tenantgate.limits.alerts import EventLog
    from tenantgate.limits.config import LimitsConfig
    from tenantgate.limits.core.claims import Held
    from tenantgate.limits.core.ledger import Ledger, Reservation, Reserved, Room
    from tenantgate.limits.core.rules import Rule
    from tenantgate.store.config import RedisConfig
    from tenantgate.tenant import TenantId

__all__ = ["PLUGIN", "Limits", "RequestLimits", "flush", "limits_of"]

PLUGIN: Final = "tenant-rate-limits"

_log: Final = logging.getLogger("tenantgate.limits")
_WAITING: Final = 10_000
"""Settlements that wait; about 1 kB each."""
_SETTLED: Final = 5000
"""Of which Kong hasn't been told; it gives the others again, which does nothing."""
_LEVELS: Final = 100_000
"""Budgets' counters whose state is remembered."""
_KNOWN_MS: Final = 10_000
"""How long a state holds that nobody confirms: requests of another model may not count for its budget."""
_EVER_MS: Final = 1 << 62
_FLUSH_S: Final = 0.5
_ALERT_TIMEOUT_MS: Final = 500
_QUIET_S: Final = 60.0

_settled: Final = metrics.counter(
    "tenantgate_limits_settlements_total",
    "Ends of requests by what became of them: settled; dropped, to be charged when the reservation expires.",
    ("outcome",),
)
_waiting: Final = metrics.gauge(
    "tenantgate_limits_settlements_waiting", "Ends of requests that wait to be settled, in this process."
)


class RequestLimits:
    """The limits on requests of one model's settings, which the engine counts with all others.

    Attributes:
        rules: in the order in which clients see them.
    """

    def __init__(self, config: LimitsConfig) -> None:
        closed = config.on_error == "reject"
        self.rules: tuple[Rule, ...] = rate_rules(config.tenant, config.model, config.key, closed=closed)


@dataclass(frozen=True, slots=True)
class _End:
    settlement: Settlement
    held: tuple[Held, ...]


class _Known(NamedTuple):
    """Where a counter stood, and until which Unix time in ms that is taken for granted."""

    level: Level
    until_ms: int


class Limits:
    """The ledger of one process, and its thread; thread-safe.

    Args:
        ledger: where counters and reservations are.
        alerts: told of budgets' states; None: nobody is.
        leases: slices of limits for the time when the ledger can't be asked; None: there is no such time.
    """

    def __init__(self, ledger: Ledger, alerts: Alerts | None = None, leases: Leases | None = None) -> None:
        self._ledger, self.alerts, self._leases = ledger, alerts, leases
        self.expected = ExpectedTokens()
        self._levels: Bounded[tuple[str, str], _Known] = Bounded(_LEVELS)
        self._ends: deque[_End] = deque()
        self._done: deque[str] = deque(maxlen=_SETTLED)
        if leases is not None:
            leases.settled = self.done
        self._changed = threading.Condition()
        self._busy = False
        self._thread: threading.Thread | None = None
        self._logged = -_QUIET_S
        _instances.add(self)

    # -- on the client's path -----------------------------------------------------------------------------

    def reserve(self, asked: Reservation, held: Sequence[Held]) -> tuple[Sequence[Held], Reserved | None]:
        """Hold what a request may take: for all of its claims or for none. One call.

        Args:
            asked: its claims, in the order of `held`.
            held: the claims with their rules.

        Returns:
            Those that the answer is about, and the answer. Without Redis these are the ones with a lease, and where
            there is none, there is no answer, and the request passes uncounted.

        Raises:
            NotCountedError: the ledger can't tell, and a rule lets nothing pass then.
        """
        leased = [i for i, h in enumerate(held) if _when_gone(h) is OnStoreDown.LEASE]
        try:
            answer = self._ledger.reserve(asked)
        except NotCountedError as error:
            try:
                return self._without_ledger(asked, held, leased, error)
            except NotCountedError:
                if error.maybe:
                    self.settle(_given_back(asked), ())
                raise
        self._learn(asked.tenant, held, answer.rooms)
        if self._leases is not None and leased and answer.refused is None:
            self._leases.note(asked, answer, leased)
        return held, answer

    def _without_ledger(
        self, asked: Reservation, held: Sequence[Held], leased: Sequence[int], error: NotCountedError
    ) -> tuple[Sequence[Held], Reserved | None]:
        if any(_when_gone(h) is OnStoreDown.CLOSED for h in held):
            raise error
        if not leased:
            return (), None
        if self._leases is None:
            raise error
        claims = tuple(asked.claims[i] for i in leased)
        return [held[i] for i in leased], self._leases.reserve(replace(asked, claims=claims))

    def known(self, tenant: TenantId, held: Sequence[Held], now_ms: int) -> list[tuple[Rule, Level]]:
        """Where the budgets stood when this process last heard of them."""
        found = []
        for each in held:
            if each.source is None or not each.source.steps:
                continue
            last = self._levels.get((tenant.slug, each.claim.counter))
            if last is not None and now_ms < last.until_ms:
                found.append((each.source, last.level))
        return found

    def levels(self, held: Sequence[Held], rooms: Sequence[Room]) -> list[tuple[Rule, Level]]:
        """Where the budgets stand by an answer of the ledger."""
        pairs = zip(held, rooms, strict=False)
        return [(h.source, _level(h, h.source, room)) for h, room in pairs if h.source and h.source.steps]

    # -- off it -------------------------------------------------------------------------------------------

    def settle(self, ended: Settlement, held: Sequence[Held]) -> None:
        """Put a request's end into the ledger, soon. Never waits."""
        with self._changed:
            if len(self._ends) >= _WAITING:
                _settled.inc(outcome="dropped")
                return
            self._ends.append(_End(ended, tuple(held)))
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="limits-settle", daemon=True)
                self._thread.start()
            self._changed.notify()

    def done(self, request: str) -> None:
        """Nothing is left to do for a request, so that nobody has to keep its end."""
        self._done.append(request)

    def take_settled(self) -> Sequence[str]:
        """The requests for which that was said since the last call."""
        found: list[str] = []
        with contextlib.suppress(IndexError):  # another thread has taken the last one
            while self._done:
                found.append(self._done.popleft())
        return found

    def close(self, timeout_s: float) -> None:
        """Settle what waits, and give back what this process holds for itself."""
        self.flush(timeout_s)
        if self._leases is not None:
            self._leases.close()

    def flush(self, timeout_s: float = _FLUSH_S) -> bool:
        """Wait until all ends are with the ledger, or wait for it to come back; whether they are."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._ends and not self._busy, timeout_s)

    def _run(self) -> None:
        while True:
            with self._changed:
                self._busy = False
                self._changed.notify_all()
                while not self._ends:
                    self._changed.wait()
                end, self._busy = self._ends.popleft(), True
                _waiting.set(float(len(self._ends)))
            try:
                rooms = (self._leases or self._ledger).settle(end.settlement)
            except Exception as error:  # noqa: BLE001 - the thread must live
                self._failed(error)
                continue
            _settled.inc(outcome="settled")
            if self._leases is None:
                self.done(end.settlement.id)
            self._learn(end.settlement.tenant, end.held, rooms)

    def _failed(self, error: Exception) -> None:
        _settled.inc(outcome="dropped")
        now = time.monotonic()
        if now - self._logged >= _QUIET_S:
            self._logged = now
            logs.event(_log, logging.WARNING, "a request can't be settled", **logs.describe(error))

    def _learn(self, tenant: TenantId, held: Sequence[Held], rooms: Sequence[Room]) -> None:
        for each, room in zip(held, rooms, strict=False):
            rule = each.source
            if rule is None or not rule.steps:
                continue
            until_ms = min(time.time_ns() // 1_000_000 + _KNOWN_MS, room.reset_ms or _EVER_MS)
            self._levels.put((tenant.slug, each.claim.counter), _Known(_level(each, rule, room), until_ms))
            if self.alerts is not None:
                self.alerts.seen(tenant, rule, each.subject, _whole(each, rule, room), rule.window)


def _given_back(asked: Reservation) -> Settlement:
    """The end of a request that is refused although the ledger may have reserved for it."""
    claims = {claim.counter: claim for claim in (*asked.replaces, *asked.claims)}
    return Settlement(
        tenant=asked.tenant,
        id=asked.id,
        certainty=Certainty.NONE,
        used=tuple(Used(c.counter, c.window, 0, c.counted, c.most) for c in claims.values()),
        started_ms=time.time_ns() // 1_000_000,
    )


def _when_gone(held: Held) -> OnStoreDown:
    """What happens to a request without Redis, by one of its rules."""
    if held.source is None or held.claim.shadow:
        return OnStoreDown.OPEN
    return held.source.on_store_down


def _level(held: Held, rule: Rule, room: Room) -> Level:
    return level(rule, _whole(held, rule, room))


def _whole(held: Held, rule: Rule, room: Room) -> Room:
    """The room by the rule's own limit: the claim's may end before, at the step that blocks."""
    beyond = rule.most - held.claim.most
    return replace(room, most=room.most + beyond) if beyond else room


# -- of the process --------------------------------------------------------------------------------------

_REDISES: Final = 64
_by_ledger: Final[Shared[Limits]] = Shared(_REDISES)
_LOCAL: Final = LocalLedger()


def limits_of(
    policy: str, redis: RedisConfig, events: EventLog | None = None, leases: Path | None = None
) -> Limits:
    """The process's limits whose counters are in this Redis, or with the policy ``local`` in its memory.

    What is to be told of budgets in Redis is told to `events`, the newest that was given. `leases` is a folder for
    what processes on this machine note for one another, of the first call.
    """
    if policy == "local":
        return _by_ledger.get(policy, lambda: Limits(_LOCAL))
    limits = _by_ledger.get(redis, lambda: _in_redis(redis, leases))
    if limits.alerts is not None:
        limits.alerts.use(events)
    return limits


def _in_redis(config: RedisConfig, folder: Path | None) -> Limits:
    # Nobody waits for alerts, other than for a reservation.
    store = AlertStore(connect(config, timeout_ms=_ALERT_TIMEOUT_MS))
    ledger = RedisLedger(connect(config))
    leases = Leases(ledger, None if folder is None else LeaseNotes(folder / _digest(config)))
    leases.start()
    return Limits(ledger, Alerts(store), leases)


def _digest(config: RedisConfig) -> str:
    """Tells one Redis from another: what is held in one is never given back in another."""
    where = config.cluster_nodes or f"{config.host}:{config.port}/{config.database}"
    return hashlib.sha256(repr(where).encode()).hexdigest()[:16]


_instances: Final[weakref.WeakSet[Limits]] = weakref.WeakSet()


def flush() -> None:
    """Settle what waits, before the process ends; at most half a second."""
    ends = time.monotonic() + _FLUSH_S
    for limits in tuple(_instances):
        limits.close(max(0.0, ends - time.monotonic()))
