"""The limits of a process: settlements off the path, an outage that loses none, and what is known of budgets."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from tenantgate.limits import service
from tenantgate.limits.config import LimitsConfig
from tenantgate.limits.core.claims import Held
from tenantgate.limits.core.ledger import (
    Certainty,
    Claim,
    NotCountedError,
    Reservation,
    Reserved,
    Room,
    Settlement,
)
from tenantgate.limits.core.rules import Counted, Degrade, Do, OnStoreDown, Per, Rule, Step, Window
from tenantgate.limits.leases import Leases
from tenantgate.limits.local_ledger import LocalLedger
from tenantgate.limits.service import Limits, RequestLimits
from tenantgate.rate_limit import RateLimit
from tenantgate.tenant import TenantId

TENANT = TenantId("acme")
STEPS = (
    Step(at_permille=500, do=Do.DEGRADE, degrade=Degrade(model="cheap")),
    Step(at_permille=900, do=Do.BLOCK),
)
RULE = Rule(name="b", counted=Counted.COST, most=1000, window=Window(unit="month"), steps=STEPS, budget=True)
CLAIM = Claim(counter="b", counted=Counted.COST, most=900, window=RULE.window, fixed=10)
HELD = Held("b", "", CLAIM, source=RULE)
FAR_MS = 1 << 60


@dataclass
class Scripted:
    """A ledger that answers as it is told."""

    used: int = 0
    fails: bool = False
    settled: list[str] = field(default_factory=list)
    asked: threading.Event = field(default_factory=threading.Event)
    goes_on: threading.Event = field(default_factory=threading.Event)
    error: type[Exception] = NotCountedError

    def __post_init__(self) -> None:
        self.goes_on.set()

    def reserve(self, asked: Reservation) -> Reserved:
        if self.fails:
            raise self.error("gone")
        rooms = tuple(Room(self.used, 10, 900, FAR_MS) for _ in asked.claims)
        return Reserved(refused=None, by=(), max_tokens=0, rooms=rooms, now_ms=0)

    def settle(self, ended: Settlement) -> list[Room]:
        self.asked.set()
        assert self.goes_on.wait(5)
        if self.fails:
            raise self.error("gone")
        self.settled.append(ended.id)
        return [Room(self.used, 0, 900, FAR_MS)]


def end(number: int) -> Settlement:
    return Settlement(tenant=TENANT, id=str(number), certainty=Certainty.EXACT, used=(), started_ms=0)


def ask(limits: Limits, held: Sequence[Held] = (HELD,)) -> Any:
    asked = Reservation(
        tenant=TENANT, id="1", claims=(CLAIM,) * len(held), worst_tokens=0, expected_tokens=0, lifetime_ms=1
    )
    return limits.reserve(asked, held)


def test_ends_are_settled_in_their_order() -> None:
    ledger = Scripted()
    limits = Limits(ledger)
    for number in range(50):
        limits.settle(end(number), [HELD])
    assert limits.flush(5)
    assert ledger.settled == [str(n) for n in range(50)]


def test_an_outage_loses_none() -> None:
    ledger = Scripted(fails=True)
    leases = Leases(ledger)
    limits = Limits(ledger, None, leases)
    for number in range(3):
        limits.settle(end(number), [HELD])
    assert limits.flush(5)
    assert ledger.settled == []
    ledger.fails = False
    limits.close(5)
    assert ledger.settled == ["0", "1", "2"]


def test_what_can_never_be_settled_is_left_to_its_expiry() -> None:
    dropped = service._settled.value(outcome="dropped")
    limits = Limits(Scripted(fails=True, error=TypeError))
    limits.settle(end(1), [HELD])
    assert limits.flush(5)
    assert service._settled.value(outcome="dropped") == dropped + 1


def test_no_more_wait_than_there_is_room_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "_WAITING", 2)
    ledger = Scripted()
    ledger.goes_on.clear()
    limits = Limits(ledger)
    limits.settle(end(0), [HELD])
    assert ledger.asked.wait(5)  # the first one is on its way, and two more wait
    for number in range(1, 9):
        limits.settle(end(number), [HELD])
    ledger.goes_on.set()
    assert limits.flush(5)
    assert ledger.settled == ["0", "1", "2"]


@pytest.mark.parametrize(
    ("on_store_down", "leases", "passes"),
    [
        ((OnStoreDown.OPEN,), False, True),
        ((OnStoreDown.OPEN, OnStoreDown.CLOSED), False, False),
        ((OnStoreDown.LEASE,), False, False),
        ((OnStoreDown.LEASE,), True, False),  # nothing was taken beforehand
    ],
)
def test_without_the_ledger_the_strictest_rule_decides(
    on_store_down: tuple[OnStoreDown, ...], leases: bool, passes: bool
) -> None:
    ledger = Scripted(fails=True)
    limits = Limits(ledger, None, Leases(ledger) if leases else None)
    held = [replace(HELD, source=replace(RULE, on_store_down=how)) for how in on_store_down]
    if passes:
        assert ask(limits, held) == ((), None)
        return
    with pytest.raises(NotCountedError):
        ask(limits, held)


class Slow(LocalLedger):
    """Reserves, and its answer comes too late."""

    def reserve(self, asked: Reservation) -> Reserved:
        """As the ledger does, but for the answer."""
        super().reserve(asked)
        raise NotCountedError("time-out", maybe=True)


def test_what_a_late_ledger_has_reserved_is_given_back_if_the_request_is_refused() -> None:
    ledger = Slow()
    limits = Limits(ledger)
    asked = Reservation(
        tenant=TENANT, id="1", claims=(CLAIM,), worst_tokens=1, expected_tokens=1, lifetime_ms=60_000
    )
    with pytest.raises(NotCountedError):
        limits.reserve(asked, [replace(HELD, source=replace(RULE, on_store_down=OnStoreDown.CLOSED))])
    assert limits.flush(5)
    room = LocalLedger.reserve(ledger, replace(asked, id="2")).rooms[0]
    assert (room.used, room.held) == (0, CLAIM.fixed)


def test_a_budgets_state_is_known_from_the_last_answer() -> None:
    ledger = Scripted(used=499)
    limits = Limits(ledger)
    assert limits.known(TENANT, [HELD], 0) == []
    ask(limits)
    assert [level.degrade.model for _, level in limits.known(TENANT, [HELD], 0)] == [None]
    ledger.used = 500  # half of the limit, and more than half of what the ledger lets through
    limits.settle(end(1), [HELD])
    assert limits.flush(5)
    ((_, level),) = limits.known(TENANT, [HELD], 0)
    assert (level.permille, level.degrade.model, level.block) == (500, "cheap", False)
    assert limits.known(TenantId("globex"), [HELD], 0) == []
    assert limits.known(TENANT, [HELD], FAR_MS) == []  # another window


def test_limits_on_requests_are_rules() -> None:
    config: dict[str, Any] = {"tenant": RateLimit(per_minute=5, per_day=9), "key": RateLimit(per_hour=3)}
    rules = RequestLimits(LimitsConfig(**config, policy="local")).rules
    assert [(r.per, r.window.sliding_s, r.most, r.on_store_down) for r in rules] == [
        (Per.TENANT, 60, 5, OnStoreDown.OPEN),
        (Per.TENANT, 86_400, 9, OnStoreDown.OPEN),
        (Per.KEY, 3600, 3, OnStoreDown.OPEN),
    ]
    config = {"model": RateLimit(per_minute=5), "tenant": RateLimit(per_minute=6), "model_name": "m"}
    (own,) = RequestLimits(LimitsConfig(**config, policy="local", on_error="reject")).rules
    assert (own.per, own.on_store_down) == (Per.MODEL, OnStoreDown.CLOSED)
