"""Slices of limits: what passes without Redis, and that all of it is told when Redis is back."""

from __future__ import annotations

import os
import resource
import signal
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from ledger_rig import ACME, LIFE_MS, Clock, claim, reservation, settlement
from tenantgate.limits import lease_notes, local_ledger
from tenantgate.limits import leases as leases_module
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
from tenantgate.limits.lease_notes import LeaseNotes, NotedSpend
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


def dies(leases: Leases) -> None:
    """What a process' end does: its locks are gone, and what it has in its memory."""
    notes: Any = leases._notes
    if notes._fd >= 0:
        os.close(notes._fd)


class Outages(RuleBasedStateMachine):
    """Two processes that may be killed, a budget, a Redis that comes and goes; Kong keeps ends that aren't settled."""

    running = Bundle("running")

    def __init__(self) -> None:
        super().__init__()
        self.patch, self.clock = patched()
        self.store, self.number, self.spent = Store(), 0, 0
        self.open: dict[str, Any] = {}
        self.kept: dict[str, Settlement] = {}
        self.folder = tempfile.TemporaryDirectory()
        self.leases = [self.process() for _ in range(2)]
        self.claim = claim(most=2000, window=MONTH, fixed=PRICE, per_million=0)

    def process(self) -> Leases:
        made = Leases(self.store, LeaseNotes(Path(self.folder.name)))
        made.settled = lambda id_: self.kept.pop(id_, None)
        return made

    def teardown(self) -> None:
        self.store.gone = False
        for process, asked, answer in self.open.values():
            self.leases[process].settle(settlement(asked, answer, 0, Certainty.NONE))
        self.clock.us += 6_000_000
        for one in self.leases:
            one.step()
        for ended in list(self.kept.values()):
            self.leases[0].settle(ended)
        for one in self.leases:
            one.close()
        room = self.room()
        assert (room.used, room.held) == (
            self.spent,
            0,
        )  # all of it was told, nothing else, and nothing is held
        assert not list(Path(self.folder.name).iterdir())
        self.folder.cleanup()
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
        ended = self.kept[asked.id] = settlement(asked, answer, amount, how)
        self.leases[process].settle(ended)

    @rule(process=st.integers(0, 1))
    def is_killed(self, process: int) -> None:
        dies(self.leases[process])
        self.leases[process] = self.process()

    @rule(process=st.integers(0, 1))
    def kong_gives_ends_again(self, process: int) -> None:
        for ended in list(self.kept.values()):
            self.leases[process].settle(ended)

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


def test_a_killed_process_has_its_slices_given_back(world: Any, tmp_path: Path) -> None:
    store, clock = world
    dead = Leases(store, LeaseNotes(tmp_path))
    asked = reservation("first", claim(most=5000, fixed=PRICE, per_million=0))
    dead.note(asked, store.reserve(asked), [0])
    dead.step()
    store.gone = True
    passing = [reservation(f"q{i}", claim(most=5000, fixed=PRICE, per_million=0)) for i in range(2)]
    answers = [dead.reserve(one) for one in passing]
    dead.settle(settlement(passing[0], answers[0], 7))  # waits for Redis, and so does its end in Kong
    store.gone = False
    living = Leases(store, LeaseNotes(tmp_path))

    def room() -> tuple[int, int]:
        found = store.reserve(reservation("r", claim(most=5000, fixed=0), worst=0)).rooms[0]
        return found.used, found.held

    living.step()
    assert room() == (0, PRICE + 50)  # it lives
    dies(dead)
    clock.us += 6_000_000
    living.step()
    assert room() == (0, PRICE + 2 * PRICE)
    assert not list(tmp_path.iterdir())
    living.settle(settlement(passing[0], answers[0], 7))
    assert room() == (7, PRICE + PRICE)


def test_after_a_full_disk_all_that_passed_is_noted_and_nothing_else(tmp_path: Path) -> None:
    def spend(id_: str) -> NotedSpend:
        return NotedSpend(ACME, id_, (("c", MONTH, 3, 9),), 5)

    notes, limits = LeaseNotes(tmp_path), resource.getrlimit(resource.RLIMIT_FSIZE)
    notes.spend(spend("before"))
    (path,) = tmp_path.iterdir()
    resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + 10, limits[1]))
    try:
        with pytest.raises(NotCountedError):  # ten bytes of it are written
            notes.spend(spend("refused"))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    notes.spend(spend("after"))
    os.close(notes._fd)  # as the process' end does
    with LeaseNotes(tmp_path).left() as left:
        assert left is not None
        assert [id_ for _, id_ in left.spends] == ["before", "after"]


def test_a_lock_ends_with_the_process_that_was_killed(tmp_path: Path) -> None:
    if (child := os.fork()) == 0:
        LeaseNotes(tmp_path).spend(NotedSpend(ACME, "q", (("c", MONTH, 3, 9),), 5))
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(child, 0)
    (path,) = tmp_path.iterdir()
    with path.open("ab") as file:
        file.write(b'["s","acme","torn')
    with LeaseNotes(tmp_path).left() as left:
        assert left is not None
        assert list(left.spends.values()) == [NotedSpend(ACME, "q", (("c", MONTH, 3, 9),), 5)]
        with LeaseNotes(tmp_path).left() as nobody_elses:
            assert nobody_elses is None
    assert not list(tmp_path.iterdir())


def test_what_cannot_be_noted_is_not_spent(world: Any, tmp_path: Path) -> None:
    store, _ = world
    leases = Leases(store, LeaseNotes(tmp_path / "leases"))
    asked = reservation("first", claim(most=5000, fixed=PRICE, per_million=0))
    leases.note(asked, store.reserve(asked), [0])
    leases.step()
    store.gone = True
    notes: Any = leases._notes
    os.close(notes._fd)
    assert passed(leases, 5000) == 0
    notes._fd = -1
    assert passed(leases, 5000) == 5


def test_notes_stay_small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease_notes, "_MOST_BYTES", 500)
    notes = LeaseNotes(tmp_path)
    for n in range(100):
        notes.spend(NotedSpend(ACME, f"q{n}", (("c", MONTH, 3, 9),), 5))
        if n % 10:
            notes.told(ACME, f"q{n}")
        assert sum(path.stat().st_size for path in tmp_path.iterdir()) < 1500
    with LeaseNotes(tmp_path).left() as left:
        assert left is None  # it lives
    os.close(notes._fd)
    with LeaseNotes(tmp_path).left() as left:
        assert left is not None
        assert sorted(id_ for _, id_ in left.spends) == sorted(f"q{n}" for n in range(0, 100, 10))


def test_a_killed_process_without_a_successor_leaves_a_slice_that_is_charged(world: Any) -> None:
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
