"""Slices of limits: what passes without Redis, and that all of it is told when Redis is back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from ledger_rig import ACME, LIFE_MS, Clock, claim, reservation, settlement
from tenantgate.limits import leases as leases_module
from tenantgate.limits import local_ledger
from tenantgate.limits.core.ledger import (
    Certainty,
    NotCountedError,
    Reservation,
    Reserved,
    Room,
    Settlement,
    Used,
)
from tenantgate.limits.core.rules import OnTight, Window
from tenantgate.limits.leases import Leases
from tenantgate.limits.local_ledger import LocalLedger

MONTH = Window(unit="month")
PRICE = 10
ENDS = Certainty.EXACT, Certainty.NONE


class Store:
    """A ledger that may be gone."""

    def __init__(self) -> None:
        self.ledger, self.gone = LocalLedger(), False

    def reserve(self, asked: Reservation) -> Reserved:
        self._ask()
        return self.ledger.reserve(asked)

    def settle(self, ended: Settlement) -> Sequence[Room]:
        self._ask()
        return self.ledger.settle(ended)

    def _ask(self) -> None:
        if self.gone:
            raise NotCountedError("gone")


class Times(Clock):
    def monotonic(self) -> float:
        return self.us / 1e6


def patched() -> tuple[pytest.MonkeyPatch, Times]:
    patch, clock = pytest.MonkeyPatch(), Times()
    patch.setattr(local_ledger, "time", clock)
    patch.setattr(leases_module, "time", clock)
    patch.setattr(leases_module.BackgroundThread, "start", lambda _self: None)  # the test steps by itself
    return patch, clock


class Outages(RuleBasedStateMachine):
    """Two processes, a budget, and a Redis that comes and goes."""

    running = Bundle("running")

    def __init__(self) -> None:
        super().__init__()
        self.patch, self.clock = patched()
        self.store, self.number, self.spent = Store(), 0, 0
        self.open: dict[str, Any] = {}
        self.leases = [Leases(self.store) for _ in range(2)]
        self.claim = claim(most=2000, window=MONTH, fixed=PRICE, per_million=0)

    def teardown(self) -> None:
        self.store.gone = False
        for process, asked, answer in self.open.values():
            self.leases[process].settle(settlement(asked, answer, 0, Certainty.NONE))
        for one in self.leases:
            one.close()
        room = self.room()
        assert (room.used, room.held) == (
            self.spent,
            0,
        )  # all of it was told, nothing else, and nothing is held
        self.patch.undo()

    def room(self) -> Room:
        ended = Settlement(
            tenant=ACME, id="nobody", certainty=Certainty.NONE, used=(Used("c", MONTH, 0, most=2000),),
            started_ms=self.clock.us // 1000,
        )  # fmt: skip
        return self.store.ledger.settle(ended)[0]

    @rule(seconds=st.sampled_from([0.1, 5, 25, 61]))
    def time_passes(self, seconds: float) -> None:
        self.clock.us += round(seconds * 1e6)
        for one in self.leases:
            one.step()

    @rule(gone=st.booleans())
    def redis_comes_or_goes(self, gone: bool) -> None:
        self.store.gone = gone

    @rule(target=running, process=st.integers(0, 1))
    def reserve(self, process: int) -> Any:
        self.number += 1
        asked = reservation(f"q{self.number}", self.claim, lifetime_ms=3_600_000)
        leases = self.leases[process]
        try:
            answer = self.store.reserve(asked)
            if answer.refused is None:
                leases.note(asked, answer, [0])
        except NotCountedError:
            try:
                answer = leases.reserve(asked)
            except NotCountedError:
                return None
        if answer.refused:
            return None
        self.open[asked.id] = process, asked, answer
        return self.open[asked.id]

    @rule(
        request=consumes(running),
        amount=st.integers(0, PRICE),
        how=st.sampled_from([Certainty.EXACT, Certainty.NONE]),
    )
    def settle(self, request: Any, amount: int, how: Certainty) -> None:
        if request is None:
            return
        process, asked, answer = request
        del self.open[asked.id]
        self.spent += 0 if how is Certainty.NONE else amount
        self.leases[process].settle(settlement(asked, answer, amount, how))

    @invariant()
    def what_is_spent_was_held(self) -> None:
        room = self.room()
        assert self.spent + PRICE * len(self.open) <= room.used + room.held <= 2000


TestOutages = Outages.TestCase
TestOutages.settings = settings(max_examples=60, stateful_step_count=40, phases=[Phase.generate])


@pytest.fixture
def world() -> Any:
    patch, clock = patched()
    yield Store(), clock
    patch.undo()


def lease(store: Store, clock: Times, most: int, **changes: Any) -> Leases:
    leases, asked = (
        Leases(store),
        reservation("first", claim(most=most, fixed=PRICE, per_million=0, **changes)),
    )
    answer = store.reserve(asked)
    leases.note(asked, answer, [0])
    leases.step()
    return leases


def passed(leases: Leases, most: int, **changes: Any) -> int:
    """How many requests pass without Redis."""
    for i in range(1000):
        try:
            leases.reserve(reservation(f"q{i}", claim(most=most, fixed=PRICE, per_million=0, **changes)))
        except NotCountedError:
            return i
    return 1000


@pytest.mark.parametrize(
    ("most", "requests"),
    [
        (10**6, 10),
        (5000, 5),
        (1000, 1),
        (60, 1),
        (40, 0),
    ],  # ten requests', a hundredth, one; none where little is left
)
def test_a_slice_is_small_and_then_used_up(world: Any, most: int, requests: int) -> None:
    store, clock = world
    leases = lease(store, clock, most)
    store.gone = True
    assert passed(leases, most) == requests


def test_a_slice_holds_in_redis_what_it_may_spend(world: Any) -> None:
    store, clock = world
    leases = lease(store, clock, 5000)
    asked = reservation("other", claim(most=5000, on_tight=OnTight.ADMIT), worst=5000)
    assert store.reserve(asked).rooms[0].held == 5000
    store.gone = True
    assert passed(leases, 5000) == 5


def test_a_slice_of_another_window_is_none(world: Any) -> None:
    store, clock = world
    leases = lease(store, clock, 5000, window=Window(unit="hour"))
    store.gone = True
    clock.us += 3_600_000_000
    assert passed(leases, 5000, window=Window(unit="hour")) == 0


def test_a_quiet_counter_has_its_slice_back(world: Any) -> None:
    store, clock = world
    leases = lease(store, clock, 5000)
    clock.us += 61_000_000
    leases.step()
    assert store.reserve(reservation("q", claim(most=5000), worst=1)).rooms[0].held == 1


def test_a_killed_process_leaves_a_slice_that_is_charged(world: Any) -> None:
    store, clock = world
    lease(store, clock, 5000)
    clock.us += 60_000_000 + 2_000_000
    room = store.reserve(reservation("q", claim(most=5000), worst=1)).rooms[0]
    assert (room.used, room.held) == (PRICE + 50, 1)
    assert LIFE_MS < 60_000


def test_what_is_never_settled_is_charged_and_held_no_longer(world: Any) -> None:
    store, clock = world
    leases = lease(store, clock, 5000)
    store.gone = True
    assert passed(leases, 5000) == 5
    store.gone = False
    for _ in range(3):
        clock.us += 61_000_000
        leases.step()
    room = store.reserve(reservation("q", claim(most=5000), worst=1)).rooms[0]
    assert (room.used, room.held) == (PRICE + 5 * PRICE, 1)


def test_settlements_that_wait_are_bounded(world: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    store, clock = world
    monkeypatch.setattr(leases_module, "_PENDING", 3)
    leases, store.gone = lease(store, clock, 5000), True
    asked = [reservation(f"q{i}", claim()) for i in range(5)]
    before = leases_module._lost.value()
    for one in asked:
        assert leases.settle(settlement(one, LocalLedger().reserve(one), 7)) == ()
    assert leases_module._lost.value() - before == 2
    store.gone = False
    leases.step()
    assert store.reserve(reservation("q", claim(), worst=1)).rooms[0].used == 21
