"""The breaker over any course of events: closed without failures, one try a pause while open."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenantgate.store.breaker import Breaker

EVENTS = st.lists(
    st.tuples(st.sampled_from(["ok", "fail", "ask"]), st.sampled_from([0.0, 0.1, 0.5, 1.0])), max_size=60
)


@given(EVENTS, st.integers(1, 4))
def test_it_is_open_after_so_many_failures_in_a_row(events: list[tuple[str, float]], failures: int) -> None:
    breaker, now, in_row = Breaker(failures=failures), 0.0, 0
    for event, pause in events:
        now += pause
        if event == "ok":
            breaker.succeeded()
            in_row = 0
        elif event == "fail":
            breaker.failed(now)
            in_row += 1
        else:
            breaker.allows(now)
        assert breaker.open == (in_row >= failures)
        if not breaker.open:
            assert breaker.allows(now)


@given(st.lists(st.floats(0, 0.5), min_size=1, max_size=80))
def test_while_open_one_try_a_pause_is_allowed(steps: list[float]) -> None:
    breaker, now = Breaker(failures=1, pause_s=1.0), 0.0
    breaker.failed(now)
    tries = [0.0]
    for step in steps:
        now += step
        if breaker.allows(now):
            tries.append(now)
    assert all(later - earlier >= 1.0 - 1e-9 for earlier, later in itertools.pairwise(tries))
    assert now - tries[-1] < 1.0 + 1e-9


@pytest.mark.parametrize("count", [3, 10, 1000])
def test_one_success_closes_it_however_long_it_failed(count: int) -> None:
    breaker = Breaker()
    for _ in range(count):
        breaker.failed(0.0)
    assert breaker.open
    breaker.succeeded()
    assert breaker.allows(0.0)
    breaker.failed(0.0)
    assert not breaker.open


def test_the_breaker_opens_after_failures_in_a_row_and_lets_one_try() -> None:
    breaker = Breaker(failures=3, pause_s=1.0)
    for _ in range(2):
        breaker.failed(0.0)
    breaker.succeeded()
    for _ in range(2):
        breaker.failed(0.0)
    assert not breaker.open
    breaker.failed(0.0)
    assert breaker.open
    assert not breaker.allows(0.9)
    assert breaker.allows(1.0)
    assert not breaker.allows(1.5)  # someone is trying
    breaker.failed(1.5)
    assert not breaker.allows(2.4)
    assert breaker.allows(2.5)
    breaker.succeeded()
    assert not breaker.open
    assert breaker.allows(2.5)
