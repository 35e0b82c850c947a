"""Slices of limits that this process holds in Redis beforehand, to go on for a while when Redis is gone.

A slice is a reservation like others, by the name of the process, so that it never takes a limit beyond its most: what
is spent of it was held already. The bound of what passes without Redis is thus the sum of the slices. What a request
used meanwhile is settled in Redis by its own id when Redis is back, and its slice covers it until then. The slices of a
process that was killed are given back by another one on its machine: what it had let pass is then held by the requests'
own ids (`tenantgate.limits.lease_notes`). Where there is none they expire, and are charged as uncertain.
"""

from __future__ import annotations

import logging
import math
import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

from tenantgate.limits.core import counters
from tenantgate.limits.core.counters import Counter, amounts_of
from tenantgate.limits.core.ledger import (
    LIFETIME_MAX_MS,
    Certainty,
    Claim,
    NotCountedError,
    Reservation,
    Reserved,
    Room,
    Settlement,
    Used,
)
from tenantgate.limits.core.rules import Counted, OnTight, Reserve, Window
from tenantgate.limits.lease_notes import NotedLease, NotedSpend
from tenantgate.store.threads import BackgroundThread
from tenantgate.telemetry import metrics

if TYPE_CHECKING:
    from tenantgate.limits.core.ledger import Ledger
    from tenantgate.limits.lease_notes import LeaseNotes, Left
    from tenantgate.tenant import TenantId

__all__ = ["Leases"]

_log: Final = logging.getLogger("tenantgate.limits")
_PART: Final = 100  # of a limit that a slice is at most, unless a single request takes more
_REQUESTS: Final = 10  # that a slice is to last for
_ROOM: Final = 4  # times a slice must be left for others
_SLICES: Final = 256  # of a process
_PENDING: Final = 10_000
_LIFE_MS: Final = 60_000
_RENEW_S: Final = 20.0
_IDLE_S: Final = 60.0  # after the last request of a counter its slice is given back
_STEP_S: Final = 1.0
_LOOK_S: Final = 5.0
_FOREVER: Final = Window(unit="month")  # within a slice nothing passes with time

_pending: Final = metrics.gauge(
    "tenantgate_limits_settlements_pending", "Settlements that wait for Redis.", total=True
)
_lost: Final = metrics.counter(
    "tenantgate_limits_settlements_lost_total",
    "Settlements that were given up, so that the reservations are charged as uncertain.",
)

_taken_over: Final = metrics.counter(
    "tenantgate_limits_leases_taken_over_total", "Dead processes whose slices of limits were given back."
)
_PREFIX: Final = "lease-"
"""Of the ids of their reservations, by which `counters.lua` knows them."""

Key = tuple["TenantId", str]


@dataclass(slots=True)
class _Slice:
    """Of one counter: what is wanted, what Redis holds, and what of it is spent but not yet settled there."""

    claim: Claim
    wanted: int
    noted_s: float
    room: Room | None = None
    amount: int = 0
    spent: Counter = field(default_factory=Counter)
    held: Claim | None = None
    held_ms: int = 0
    renewed_s: float = -math.inf
    id: str = ""
    """Of the reservation that holds it; a new one each time, since one that is settled can't be had again."""


class Leases:
    """The slices of one process, and its settlements that Redis has not yet taken; thread-safe.

    Args:
        ledger: where they are held.
        notes: what another process needs after this one's death; None: then its slices expire.

    Attributes:
        settled: called with the id of a request whose end the ledger has.
    """

    def __init__(self, ledger: Ledger, notes: LeaseNotes | None = None) -> None:
        self._ledger, self._notes = ledger, notes
        self.settled: Callable[[str], None] = lambda _: None
        self._looked_s = -math.inf
        self._lock = threading.Lock()
        self._slices: OrderedDict[Key, _Slice] = OrderedDict()
        self._pending: OrderedDict[tuple[TenantId, str], Settlement] = OrderedDict()
        self._thread = BackgroundThread(
            "limits-leases", self.step, log=_log, failed="limits: leases can't be renewed"
        )

    def start(self) -> None:
        """Give back what dead processes hold, if any has left something."""
        if self._notes is not None and self._notes.any_other():
            self._thread.start()

    def note(self, asked: Reservation, answer: Reserved, leased: Sequence[int]) -> None:
        """Have slices of the counters of a request that was counted; `leased` are the indexes of these claims."""
        now_s = time.monotonic()
        with self._lock:
            for i in leased:
                claim, room = asked.claims[i], answer.rooms[i]
                fixed, each, rest = amounts_of(claim)
                amount = max(1, fixed + answer.max_tokens * each + -(-answer.max_tokens * rest // 1_000_000))
                wanted = max(amount, min(room.most // _PART, _REQUESTS * amount))
                if wanted * _ROOM > room.most - room.used - room.held:
                    wanted = 0
                key = asked.tenant, claim.counter
                found = self._slices.get(key)
                if found is None:
                    self._slices[key] = _Slice(claim, wanted, now_s, room)
                    self._trim()
                else:
                    found.claim, found.wanted, found.noted_s, found.room = claim, wanted, now_s, room
                    self._slices.move_to_end(key)
        self._thread.start()

    def reserve(self, asked: Reservation) -> Reserved:
        """Hold what a request may take of this process' slices, while Redis can't be asked.

        Raises:
            NotCountedError: there is no slice for one of the claims, or nothing left of it.
        """
        now_us = time.time_ns() // 1000
        with self._lock:
            found = [self._slices.get((asked.tenant, claim.counter)) for claim in asked.claims]
            slices = [
                part
                for part in found
                if part is not None and part.held is not None and _in_window(part, now_us)
            ]
            if len(slices) < len(asked.claims):
                raise NotCountedError("no lease")
            claims = tuple(
                replace(claim, most=part.amount, window=_FOREVER, reserve=Reserve.WORST)
                for claim, part in zip(asked.claims, slices, strict=True)
            )
            answer = counters.reserve(
                [part.spent for part in slices],
                replace(asked, claims=claims, replaces=claims if asked.replaces else ()),
                [0] * len(claims),
                now_us,
            )
            if answer.refused is not None:
                raise NotCountedError("lease: used up")
            try:
                self._note_spend(asked, slices, now_us // 1000)
            except NotCountedError:
                for part in slices:
                    part.spent.forget(asked.id, now_us)
                raise
            rooms = tuple(
                part.room or Room(0, 0, claim.most, 0)
                for part, claim in zip(slices, asked.claims, strict=True)
            )
            return replace(answer, rooms=rooms)

    def settle(self, ended: Settlement) -> Sequence[Room]:
        """Put what was used in the place of what was held, now or when Redis is back; empty if it waits for that."""
        with self._lock:
            waits = bool(self._pending)
        if not waits:
            try:
                rooms = self._ledger.settle(ended)
            except NotCountedError:
                pass
            else:
                self._told(ended)
                return rooms
        with self._lock:
            for used in ended.used:
                part = self._slices.get((ended.tenant, used.counter))
                if part is not None:
                    part.spent.spend(used, ended)
            self._pending[ended.tenant, ended.id] = ended
            if len(self._pending) > _PENDING:
                self._pending.popitem(last=False)
                _lost.inc()
            _pending.set(float(len(self._pending)))
        self._thread.start()
        return ()

    def step(self) -> float:
        """What the thread does: settle what waits, renew slices, give back those of counters that are quiet."""
        try:
            self._settle_pending()
            self._charge_expired()
            self._renew()
            self._take_over()
        except NotCountedError:
            pass
        return _STEP_S

    def close(self) -> None:
        """Give all slices back, as far as Redis can be asked."""
        self._thread.stop()
        try:
            self._settle_pending()
            for key, part in list(self._slices.items()):
                part.wanted = 0
                self._renew_one(key, part)
        except NotCountedError:
            pass
        if self._notes is not None:
            with self._lock:
                self._notes.close()

    # -- in the background ---------------------------------------------------------------------------------

    def _settle_pending(self) -> None:
        while True:
            with self._lock:
                first = next(iter(self._pending.values()), None)
            if first is None:
                return
            self._ledger.settle(first)
            self._told(first)

    def _charge_expired(self) -> None:
        """Charge what requests hold whose end never came: a slice would hold it for as long as it knows them."""
        now_ms = time.time_ns() // 1_000_000
        found: dict[tuple[TenantId, str], list[Used]] = {}
        started_ms: dict[tuple[TenantId, str], int] = {}
        with self._lock:
            for (tenant, counter), part in self._slices.items():
                for id_, own in part.spent.reservations.items():
                    if own.deadline_ms <= now_ms and (tenant, id_) not in self._pending:
                        used = Used(counter, part.claim.window, own.amount, most=part.claim.most, known=0)
                        found.setdefault((tenant, id_), []).append(used)
                        started_ms[tenant, id_] = own.time_us // 1000
        for (tenant, id_), all_used in found.items():
            ended = Settlement(
                tenant=tenant,
                id=id_,
                certainty=Certainty.UNCERTAIN,
                used=tuple(all_used),
                started_ms=started_ms[tenant, id_],
            )
            self._ledger.settle(ended)
            self._told(ended)

    def _told(self, ended: Settlement) -> None:
        self.settled(ended.id)
        with self._lock:
            if self._notes is not None:
                self._notes.told(ended.tenant, ended.id)
            if self._pending.pop((ended.tenant, ended.id), None) is not None:
                _pending.set(float(len(self._pending)))
            for used in ended.used:
                part = self._slices.get((ended.tenant, used.counter))
                if part is not None:
                    part.spent.forget(ended.id, 0)
                    if not part.spent.reservations:
                        part.spent = Counter()

    def _renew(self) -> None:
        now_s = time.monotonic()
        for key, part in list(self._slices.items()):
            if now_s - part.noted_s > _IDLE_S:
                part.wanted = 0
            if now_s - part.renewed_s >= _RENEW_S or (
                part.held is not None and part.wanted == 0 != part.amount
            ):
                self._renew_one(key, part)
                part.renewed_s = now_s

    def _renew_one(self, key: Key, part: _Slice) -> None:
        """Hold in Redis what is spent and not yet settled there, and what is wanted beside."""
        tenant, counter = key
        with self._lock:
            part.spent.open(time.time_ns() // 1000, LIFETIME_MAX_MS)
            if not part.spent.reservations:
                part.spent = Counter()
            amount = part.spent.total + part.wanted
            held, held_ms = part.held, part.held_ms or time.time_ns() // 1_000_000
            # Meanwhile only what is held in any case is spent: without an answer it isn't known what Redis did.
            part.amount = min(part.amount, amount)
        if amount == 0:
            if held is not None:
                self._ledger.settle(
                    Settlement(
                        tenant=tenant,
                        id=part.id,
                        certainty=Certainty.NONE,
                        used=(Used(counter, held.window, 0, Counted.COST, held.most),),
                        started_ms=held_ms,
                    )
                )
            with self._lock:
                if self._notes is not None:
                    self._notes.given_back(part.id)
                part.held, part.held_ms, part.id = None, 0, ""
                if part.spent.total == 0 and time.monotonic() - part.noted_s > _IDLE_S:
                    self._slices.pop(key, None)
            return
        if not part.id:
            part.id = f"{_PREFIX}{secrets.token_hex(12)}"
        if self._notes is not None:
            window, most = part.claim.window, part.claim.most
            with self._lock:
                self._notes.lease(NotedLease(tenant, part.id, counter, window, most, held_ms))
        # Counted as money whatever it is, since a slice of requests is settled as others are.
        claim = replace(
            part.claim,
            counted=Counted.COST,
            fixed=amount,
            per_million=0,
            reserve=Reserve.WORST,
            on_tight=OnTight.REFUSE,
            shadow=part.spent.total > 0,  # what is spent is held in any case
        )
        asked = Reservation(
            tenant=tenant,
            id=part.id,
            claims=(claim,),
            worst_tokens=1,
            expected_tokens=0,
            lifetime_ms=_LIFE_MS,
            # Also where nothing is known to be held: an earlier call may have been done and not answered.
            replaces=(held or claim,),
            replaces_ms=held_ms,
        )
        answer = self._ledger.reserve(asked)
        with self._lock:
            if answer.refused is None:
                part.held, part.amount, part.held_ms, part.room = (
                    claim,
                    amount,
                    answer.now_ms,
                    answer.rooms[0],
                )

    def _note_spend(self, asked: Reservation, slices: Sequence[_Slice], now_ms: int) -> None:
        if self._notes is None:
            return
        own = [part.spent.reservations[asked.id] for part in slices]
        amounts = tuple(
            (claim.counter, part.claim.window, held.amount, claim.most)
            for claim, part, held in zip(asked.claims, slices, own, strict=True)
        )
        deadline_ms = min((held.deadline_ms for held in own), default=now_ms)
        self._notes.spend(NotedSpend(asked.tenant, asked.id, amounts, deadline_ms))

    def _take_over(self) -> None:
        """Give back what dead processes hold."""
        now_s = time.monotonic()
        if self._notes is None or now_s - self._looked_s < _LOOK_S:
            return
        self._looked_s = now_s
        while True:
            with self._notes.left() as left:
                if left is None:
                    return
                self._give_back(left)
                _taken_over.inc()

    def _give_back(self, left: Left) -> None:
        """Hold what passed by the slices for the requests themselves, then settle the slices; twice does no harm.

        Raises:
            NotCountedError: the ledger can't be asked.
        """
        now_ms = time.time_ns() // 1_000_000
        for spend in left.spends.values():
            claims = tuple(
                Claim(
                    counter=counter, counted=Counted.COST, most=most, window=window, fixed=amount, shadow=True
                )
                for counter, window, amount, most in spend.amounts
            )
            asked = Reservation(
                tenant=spend.tenant,
                id=spend.id,
                claims=claims,
                worst_tokens=0,
                expected_tokens=0,
                lifetime_ms=min(max(1, spend.deadline_ms - now_ms), LIFETIME_MAX_MS),
            )
            self._ledger.reserve(asked)
        for lease in left.leases.values():
            self._ledger.settle(
                Settlement(
                    tenant=lease.tenant,
                    id=lease.id,
                    certainty=Certainty.NONE,
                    used=(Used(lease.counter, lease.window, 0, most=lease.most),),
                    started_ms=lease.held_ms,
                )
            )

    def _trim(self) -> None:
        while len(self._slices) > _SLICES:
            for key, part in self._slices.items():
                if part.held is None:
                    del self._slices[key]
                    break
            else:
                return


def _in_window(part: _Slice, now_us: int) -> bool:
    """Whether the window in which a slice is held lasts."""
    return bool(part.claim.window.sliding_s) or part.room is None or now_us // 1000 < part.room.reset_ms
