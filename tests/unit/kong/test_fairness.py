"""Who goes on at a checkpoint, on a clock of the test's own."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenantgate.kong.fairness import FREE_S, Turn, Turns, Usage


@dataclass
class Machine:
    """A clock, and the processor time of whoever asks."""

    now: float = 100.0
    cpu: float = 0.0

    def turns(self, slots: int = 2) -> Turns:
        return Turns(slots=slots, clock=lambda: self.now, cpu=lambda: self.cpu)

    def work(self, turns: Turns, turn: Turn, seconds: float) -> bool:
        """`turn` works so long, then asks; whether it may go on."""
        turn.marked_s = self.cpu  # a thread's processor time is its own
        self.now += seconds
        self.cpu += seconds
        return turns.may_go_on(turn)


@pytest.fixture
def machine() -> Machine:
    return Machine()


def begun(turns: Turns, key: str, *, background: bool = False) -> Turn:
    turn = Turn(key, background=background)
    turns.begin(turn)
    return turn


def test_alone_goes_on_for_ever(machine: Machine) -> None:
    turns = machine.turns()
    turn = begun(turns, "a")
    assert all(machine.work(turns, turn, 0.05) for _ in range(20))


def test_long_phases_beyond_the_slots_wait_until_one_ends(machine: Machine) -> None:
    turns = machine.turns(slots=2)
    first, second, third = (begun(turns, "a") for _ in range(3))
    for turn in (first, second, third):
        turn.used_s = FREE_S
    assert machine.work(turns, first, 0.03)
    assert machine.work(turns, second, 0.03)
    assert not machine.work(turns, third, 0.03)
    turns.end(first)
    assert third.go.is_set()
    assert third.holds


def test_a_tenant_that_used_much_has_half_of_the_slots(machine: Machine) -> None:
    turns = machine.turns(slots=2)
    first, second = begun(turns, "a"), begun(turns, "a")
    assert machine.work(turns, first, 0.5)
    assert not machine.work(turns, second, 0.01)
    turns.end(first)
    assert second.go.is_set()


def test_a_short_phase_of_another_tenant_goes_first(machine: Machine) -> None:
    turns = machine.turns()
    hostile = begun(turns, "hostile")
    assert machine.work(turns, hostile, 0.5)
    victim = begun(turns, "victim")
    assert not machine.work(turns, hostile, 0.01)
    assert machine.work(turns, victim, 0.002)
    turns.end(victim)
    assert hostile.go.is_set()


def test_who_used_more_lately_gives_way_even_when_it_has_only_begun(machine: Machine) -> None:
    turns = machine.turns()
    before = begun(turns, "hostile")
    machine.work(turns, before, 0.5)
    turns.end(before)
    again = begun(turns, "hostile")
    victim = begun(turns, "victim")
    assert not machine.work(turns, again, 0.001)
    assert machine.work(turns, victim, 0.001)


def test_who_gives_way_gets_a_slice_now_and_then(machine: Machine) -> None:
    turns = machine.turns()
    hostile = begun(turns, "hostile")
    machine.work(turns, hostile, 0.5)
    begun(turns, "victim")
    assert not machine.work(turns, hostile, 0.01)
    due = turns.next_grant()
    assert due is not None
    turns.grant(due - 0.001)
    assert not hostile.go.is_set()
    machine.now = due
    turns.grant(due)
    assert hostile.go.is_set()
    assert machine.work(turns, hostile, 0.002)
    assert not machine.work(turns, hostile, 0.005)


def test_a_long_log_phase_gives_way_to_whom_a_client_waits_for(machine: Machine) -> None:
    turns = machine.turns()
    log = begun(turns, "a", background=True)
    access = begun(turns, "a")
    machine.work(turns, access, 0.3)
    assert machine.work(turns, log, 0.001)
    assert not machine.work(turns, log, FREE_S)
    assert machine.work(turns, access, 0.001)


def test_short_phases_of_a_tenant_that_uses_little_never_wait(machine: Machine) -> None:
    turns = machine.turns()
    busy = begun(turns, "busy")
    for _ in range(3):
        begun(turns, "small")
    assert machine.work(turns, busy, FREE_S / 2)


def test_short_requests_of_a_tenant_go_before_its_long_ones(machine: Machine) -> None:
    turns = machine.turns()
    long = begun(turns, "a")
    machine.work(turns, long, FREE_S * 2)
    short = begun(turns, "a")
    assert not machine.work(turns, long, 0.01)
    assert machine.work(turns, short, 0.001)


def test_who_waits_for_its_client_holds_nobody_up(machine: Machine) -> None:
    turns = machine.turns()
    hostile = begun(turns, "hostile")
    machine.work(turns, hostile, 0.5)
    slow = begun(turns, "victim")
    turns.away(slow, True)
    assert machine.work(turns, hostile, 0.01)
    turns.away(slow, False)
    assert not machine.work(turns, hostile, 0.01)


def test_a_route_of_many_tenants_counts_for_each_of_them(machine: Machine) -> None:
    turns = machine.turns()
    hostile = begun(turns, "route")
    turns.rename(hostile, "hostile")
    machine.work(turns, hostile, 0.5)
    assert turns.usage("route", machine.now) == 0
    victim = begun(turns, "route")
    turns.rename(victim, "victim")
    assert not machine.work(turns, hostile, 0.01)


def test_a_phase_that_is_stopped_is_waked(machine: Machine) -> None:
    turns = machine.turns(slots=1)
    first, second = begun(turns, "a"), begun(turns, "a")
    machine.work(turns, first, FREE_S)
    assert not machine.work(turns, second, FREE_S)
    turns.stop(second)
    assert second.go.is_set()
    turns.end(second)
    turns.end(first)
    assert turns.next_grant() is None


@given(st.lists(st.tuples(st.integers(0, 5), st.sampled_from("wea")), max_size=200))
def test_law_somebody_always_goes_on(steps: list[tuple[int, str]]) -> None:
    """Whatever happens, who waits gets its slot in the end, and no more than the slots are held."""
    machine = Machine()
    turns = machine.turns()
    live = {i: begun(turns, "abc"[i % 3]) for i in range(6)}
    for i, what in steps:
        turn = live[i]
        if turn.waits:
            continue
        if what == "e":
            turns.end(turn)
            live[i] = begun(turns, "abc"[i % 3])
        else:
            machine.work(turns, turn, 0.004 if what == "w" else 0.06)
        assert sum(t.holds for t in live.values()) <= 2
    for _ in range(100):
        for turn in live.values():
            if not turn.waits:
                turns.end(turn)
        if not any(turn.waits for turn in live.values()):
            return
        machine.now += 0.02
        turns.grant(machine.now)
    raise AssertionError("somebody waits for ever")


def test_use_is_halved_each_second_and_few_keys_are_kept() -> None:
    usage = Usage()
    usage.add("a", 1.0, 0.0)
    assert usage.of("a", 1.0) == pytest.approx(0.5)
    for i in range(20_000):
        usage.add(str(i), 0.001, 0.0)
    assert usage.of("a", 0.0) == pytest.approx(1.0)
    assert len(usage._used) <= 10_000
