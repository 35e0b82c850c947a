"""Alerts of budgets: told once for each step, window and fleet, off the client's path.

`Alerts.seen` only notes a counter; a thread reads it in Redis and tells what there is to tell (`limits.core.alerting`).
An event waits in the tenant's outbox in Redis until it is in a node's audit log, so that a node that is killed between
the two loses none: another brings it there, under the same id.

Nobody has to ask for anything: each node looks every two seconds which counters are due. That is how the end of a
window is told to a tenant that sends nothing any more, and what `tenantgate budget raise` has changed.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

import redis

from tenantgate.bounded import Bounded
from tenantgate.errors import EdgeError
from tenantgate.limits.alert_store import MINE_MS, OUTBOX
from tenantgate.limits.core.alerting import About, amount, plan, quiet_until, shown, unit
from tenantgate.limits.core.forecast import BUCKETS
from tenantgate.limits.core.keys import counter_name
from tenantgate.limits.core.rules import Per
from tenantgate.prices.core.price_list import NANO_PER_DOLLAR
from tenantgate.store.threads import BackgroundThread
from tenantgate.telemetry import logs, metrics

if TYPE_CHECKING:
    from tenantgate.limits.alert_store import AlertStore, Event, Seen
    from tenantgate.limits.core.ledger import Room
    from tenantgate.limits.core.rules import Rule, Window
    from tenantgate.tenant import TenantId

__all__ = ["Alerts", "EventLog"]

_log: Final = logging.getLogger("tenantgate.limits")
_GATHER_S: Final = 0.1  # between two rounds, so that a busy counter is read once for many requests
_LOOK_S: Final = 2.0
_AGAIN_S: Final = 30.0  # between two looks at all counters that metrics show
_MOST: Final = 100_000  # counters that are known
_TRIES: Final = 5  # against other nodes that write the same state
_AFTER_MS: Final = 1000  # after a window's end, by which clocks may differ
_SOON_MS: Final = 1000

_events: Final = metrics.counter(
    "tenantgate_budget_events_total", "Events of budgets that this node has told, by type.", ("type",)
)
_waiting: Final = metrics.gauge(
    "tenantgate_budget_events_waiting", "Events that this node couldn't bring to its audit log last time."
)
_lost: Final = metrics.counter(
    "tenantgate_budget_counters_lost_total",
    "Budgets' counters that this process found to begin anew in the middle of a window: Redis has lost its data.",
    (),
)
_spent: Final = metrics.gauge(
    "tenantgate_budget_spent",
    "What is used of a tenant's budget in its window.",
    ("tenant", "budget", "unit"),
)
_held: Final = metrics.gauge(
    "tenantgate_budget_held",
    "What requests in flight hold of a tenant's budget.",
    ("tenant", "budget", "unit"),
)
_limit: Final = metrics.gauge(
    "tenantgate_budget_limit", "A tenant's budget, with its raise.", ("tenant", "budget", "unit")
)
_ends: Final = metrics.gauge(
    "tenantgate_budget_window_end_seconds",
    "Unix time at which the budget's window ends.",
    ("tenant", "budget", "unit"),
)


class EventLog(Protocol):
    """Where events are kept for good."""

    def write(self, tenant: TenantId, identifier: str, time_ms: int, values: Mapping[str, str]) -> None:
        """Bring an event to disk.

        Raises:
            EdgeError: it isn't there.
        """


class _Known(NamedTuple):
    """Below `quiet` and before `until_ms` a counter with this limit and window has nothing to tell."""

    most: int
    end_ms: int
    quiet: int
    until_ms: int


class _Kept(NamedTuple):
    """The version of a counter's state, its window's end, and what was used, when it was last read."""

    version: int
    end_ms: int
    used: int


class Alerts:
    """Tells what budgets have reached; thread-safe."""

    def __init__(self, store: AlertStore) -> None:
        self._store = store
        self._events: EventLog | None = None
        self._lock = threading.Lock()
        self._noted: dict[tuple[TenantId, str], About] = {}
        self._known: Bounded[tuple[TenantId, str], _Known] = Bounded(_MOST)
        self._states: Bounded[tuple[TenantId, str], _Kept] = Bounded(_MOST)
        self._shown: Bounded[tuple[TenantId, str], About] = Bounded(metrics.MAX_SERIES)
        self._look_at_ms = self._again_at_ms = 0
        self._thread = BackgroundThread(
            "budget-alerts", self._step, log=_log, failed="budgets can't be looked at"
        )

    def use(self, log: EventLog | None) -> None:
        """Bring events to this log from now on, and look for those that are due whether requests come or not.

        Without one, as where the gateway has no audit log, events are only counted.
        """
        self._events = log
        if log is not None:
            self._thread.start()

    def seen(self, tenant: TenantId, rule: Rule, subject: str, room: Room, window: Window) -> None:
        """Take the state of a counter, after a reserve or a settle; returns at once and never raises.

        Args:
            tenant: whose budget it is.
            rule: the budget; a rule without steps, or with a sliding window, is nothing to tell.
            subject: of the rule's `per`: a key's id, a model, an end user; empty for the tenant.
            room: what the ledger answered.
            window: the rule's.
        """
        if not rule.steps or window.sliding_s or not room.reset_ms:
            return
        counter = counter_name(rule, subject)
        known = self._known.get((tenant, counter))
        if known is not None and room.reset_ms <= known.end_ms:
            late = room.reset_ms < known.end_ms
            quiet = (
                room.most == known.most and room.used < known.quiet and self._store.now_ms() < known.until_ms
            )
            if late or quiet:
                return
        with self._lock:
            if len(self._noted) < _MOST:
                self._noted[tenant, counter] = About(rule, shown(rule, subject), counter)
        self._thread.wake()

    def stop(self, timeout_s: float = 1.0) -> None:
        """End the thread. What was noted and not told yet the next request or another node tells."""
        self._thread.stop(timeout_s)

    # -- the thread ----------------------------------------------------------------------------------------

    def _step(self) -> float:
        self.look()
        now_ms = self._store.now_ms()
        if now_ms >= self._look_at_ms:
            self._look_at_ms = now_ms + int(_LOOK_S * 1000)
            self.look_at_due()
        if now_ms >= self._again_at_ms:
            self._again_at_ms = now_ms + int(_AGAIN_S * 1000)
            self.look_again()
        self._thread.pause(_GATHER_S)
        return 0.0 if self._noted else _LOOK_S - _GATHER_S

    def look(self) -> None:
        """Tell what there is to tell of the counters that were seen."""
        with self._lock:
            noted, self._noted = self._noted, {}
        while noted:
            key = next(iter(noted))
            try:
                self._look(key[0], noted[key])
            except (redis.RedisError, OSError):
                with self._lock:
                    self._noted = {**noted, **self._noted}
                raise
            del noted[key]

    def look_again(self) -> None:
        """Look at the tenants' budgets that this process has seen, for what nobody else has come to tell.

        A process that is killed between a request's settlement and its look has told nobody that there is one due.
        """
        for (tenant, _), about in self._shown.items():
            self._look(tenant, about)

    def look_at_due(self) -> None:
        """Look at the counters that are due, and bring events to the audit log that nobody else has brought there."""
        # Outboxes first: of a raise is told before what it takes back.
        for tenant, counter, mine_until_ms in sorted(self._store.due(), key=lambda due: due[1] != OUTBOX):
            if counter == OUTBOX:
                self._log_all(tenant, self._store.waiting(tenant))
                self._store.next_look(tenant, OUTBOX, None, instead_of_ms=mine_until_ms)
                continue
            about = self._store.about(tenant, counter)
            if about is None:
                self._store.next_look(tenant, counter, None, instead_of_ms=mine_until_ms)
            else:
                self._look(tenant, about, mine_until_ms)

    def _look(self, tenant: TenantId, about: About, mine_until_ms: int | None = None) -> None:
        """Tell what there is to tell of a counter; `mine_until_ms`: of a look that was due."""
        wrote = False
        for _ in range(_TRIES):
            seen = self._store.read(tenant, about)
            made = plan(about, seen.state, seen.standing)
            if made is None:
                told = bool(seen.state.told) and seen.state.end_ms == seen.standing.end_ms
                break
            told = made.open
            if made.events or told:
                # Before anything is told: whoever dies from here on, another node looks.
                guard_ms = mine_until_ms or seen.standing.now_ms + MINE_MS
                self._store.look_at(tenant, about.counter, guard_ms)
                if made.events:
                    self._store.look_at(tenant, OUTBOX, guard_ms)
                mine_until_ms = guard_ms
            events = self._store.write(tenant, about, seen, made)
            if events is not None:
                wrote = True
                if self._log_all(tenant, events) and events:
                    self._store.next_look(tenant, OUTBOX, None, instead_of_ms=mine_until_ms or 0)
                break
        if mine_until_ms is not None:
            next_ms = seen.standing.end_ms + _AFTER_MS if told else None
            self._store.next_look(tenant, about.counter, next_ms, instead_of_ms=mine_until_ms)
        self._notice_loss(tenant, about, seen, seen.state.version + wrote)
        self._learn(tenant, about, seen)

    def _log_all(self, tenant: TenantId, events: list[Event]) -> bool:
        """Bring events to the audit log; whether all are there."""
        failed = 0
        for event in events:
            try:
                if self._events is not None:
                    self._events.write(tenant, event.id, event.time_ms, event.values)
            except EdgeError:
                self._store.announce(tenant, event, _SOON_MS)
                failed += 1
                continue
            self._store.done(tenant, event)
            _events.inc(type=event.values.get("type", ""))
        _waiting.set(failed)
        return not failed

    def _learn(self, tenant: TenantId, about: About, seen: Seen) -> None:
        standing = seen.standing
        part_ms = max(1, (standing.end_ms - standing.start_ms) // BUCKETS)
        parts = (standing.now_ms - standing.start_ms) // part_ms + 1
        known = _Known(
            standing.most, standing.end_ms, quiet_until(about, standing), standing.start_ms + parts * part_ms
        )
        self._known.put((tenant, about.counter), known)
        if about.rule.per is Per.TENANT:
            self._shown.put((tenant, about.counter), about)
            self._show(tenant, about, seen)

    def _notice_loss(self, tenant: TenantId, about: About, seen: Seen, version: int) -> None:
        """Say that Redis has lost a budget's data: its state's version only ever grows, until a day after its window.

        `version`: that it has now.
        """
        key, state = (tenant, about.counter), seen.state
        before = self._states.get(key)
        self._states.put(key, _Kept(version, seen.standing.end_ms, seen.standing.used))
        if before is None or before.end_ms != seen.standing.end_ms or state.version >= before.version:
            return
        _lost.inc()
        logs.event(
            _log,
            logging.ERROR,
            "Redis has lost what was spent of a budget",
            tenant=str(tenant),
            budget=about.rule.name,
            spent=amount(about.rule.counted, before.used),
            unit=unit(about.rule),
        )

    @staticmethod
    def _show(tenant: TenantId, about: About, seen: Seen) -> None:
        rule, standing = about.rule, seen.standing
        scale = NANO_PER_DOLLAR if unit(rule) == "USD" else 1
        labels = {"tenant": tenant.slug, "budget": rule.name, "unit": unit(rule)}
        _spent.set(standing.used / scale, **labels)
        _held.set(seen.held / scale, **labels)
        _limit.set(standing.most / scale, **labels)
        _ends.set(standing.end_ms / 1000, **labels)
