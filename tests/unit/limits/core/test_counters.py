"""Counters as such: how exact sliding windows are, beside another implementation, and what a refusal promises."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from types import SimpleNamespace

import limits as oracle
import pytest
from hypothesis import given
from hypothesis import strategies as st
from limits.storage import memory

from ledger_rig import MINUTE, requests, reservation
from tenantgate.limits.core.counters import RUNS, Counter, reserve, run_width_us
from tenantgate.limits.core.ledger import Reserved
from tenantgate.limits.core.rules import Window

US = 1_000_000
MINUTE_US = 60 * US
START = 1_700_000_000 * US


class Requests:
    """Requests of one limit, with a clock of their own."""

    def __init__(self, most: int, window: Window = MINUTE) -> None:
        self.window, self.most, self.now_us = window, most, START
        self.counter, self.counted, self._number = Counter(window.sliding_s * US), list[int](), 0

    def ask(self, gap_us: int = 0) -> Reserved:
        self.now_us += gap_us
        self._number += 1
        asked = reservation(f"q{self._number}", requests(self.most, self.window))
        answer = reserve([self.counter], asked, [0], self.now_us)
        if answer.refused is None:
            self.counted.append(self.now_us)
        return answer

    def passes(self, gap_us: int = 0) -> bool:
        return self.ask(gap_us).refused is None


def most_in_a_period(times: Sequence[int], period_us: int) -> int:
    """The most of these times that lie in any half-open interval of this length."""
    return max((sum(t <= u < t + period_us for u in times) for t in times), default=0)


class Clock(SimpleNamespace):
    now_s: float = 0.0

    def time(self) -> float:
        return self.now_s


@pytest.fixture(scope="module")
def clock() -> Iterator[Clock]:
    """The clock of the package's windows in memory."""
    made = Clock()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(memory, "time", made)
        yield made


KEYS = itertools.count()


@given(
    st.integers(1, RUNS),
    st.sampled_from([1, 60, 3600, 86_400]),
    # Never a whole period between two requests: the package counts a request that is exactly a period old.
    st.lists(st.sampled_from([0, 0, 7, 7, 14, 70, 700, 1400]), max_size=150),
)
def test_up_to_sixty_requests_a_limit_is_as_exact_as_a_log_of_all(
    clock: Clock, most: int, period: int, gaps: list[int]
) -> None:
    item = oracle.RateLimitItemPerSecond(most, period)
    theirs = oracle.strategies.MovingWindowRateLimiter(memory.MemoryStorage())
    key = str(next(KEYS))
    ours = Requests(most, Window(sliding_s=period))
    for gap in gaps:
        answer = ours.ask(gap * period * US // 1100)
        clock.now_s = (ours.now_us - START) / US
        assert (answer.refused is None) == theirs.hit(item, key)
        assert most - answer.rooms[0].used == theirs.get_window_stats(item, key).remaining


@given(
    st.one_of(st.integers(1, RUNS), st.integers(RUNS + 1, 150)),
    st.lists(
        st.tuples(st.sampled_from([0, 1, 900_000, 1_000_000, 7_000_001, MINUTE_US]), st.integers(1, 90)),
        max_size=30,
    ),
)
def test_no_period_has_too_many_and_none_waits_more_than_a_sixtieth_too_long(
    most: int, bursts: list[tuple[int, int]]
) -> None:
    ours = Requests(most)
    for gap, number in bursts:
        for i in range(number):
            answer = ours.ask(0 if i else gap)
            assert len(ours.counter.runs) <= RUNS + 2
            if answer.refused is not None:
                since = ours.now_us - MINUTE_US - run_width_us(MINUTE, most)
                assert sum(t > since for t in ours.counted) >= most
            else:
                assert 0 < answer.rooms[0].used <= most
    assert most_in_a_period(ours.counted, MINUTE_US) <= most


def test_a_minute_may_begin_at_any_time() -> None:
    # Fixed windows let 20 pass here, GCRA 11 at the end.
    ours = Requests(10)
    assert [ours.passes(55_000_000 if i == 0 else 0) for i in range(12)] == [True] * 10 + [False] * 2
    assert not ours.passes(10_000_000)
    assert ours.passes(50_000_000)


@pytest.mark.parametrize("most", [1, 10, RUNS, RUNS + 1, 1000])
def test_a_refusal_says_when_there_is_room(most: int) -> None:
    ours = Requests(most)
    for i in range(most):
        assert ours.ask(1000).rooms[0].used == i + 1
    refused = ours.ask(1000)
    wait_us = refused.rooms[0].reset_ms * 1000 - ours.now_us
    assert refused.refused is not None
    assert not ours.passes(wait_us - 1000)
    assert ours.passes(1000)


@pytest.mark.parametrize(("most", "exact"), [(2, True), (RUNS, True), (RUNS + 1, False)])
def test_each_request_of_a_small_limit_leaves_by_itself(most: int, exact: bool) -> None:
    ours = Requests(most)
    ours.now_us = 1_000_000 * MINUTE_US
    for i in range(most):
        ours.ask(1 if i else 0)
    ours.now_us = 1_000_000 * MINUTE_US + MINUTE_US
    assert ours.passes() == exact


def test_a_refused_request_costs_nothing() -> None:
    ours = Requests(1)
    ours.ask()
    assert not any(ours.passes(1_000_000) for _ in range(59))
    assert ours.passes(1_000_000)


@pytest.mark.parametrize(("before", "after", "counted"), [(10, 5, False), (5, 10, True), (100, 61, False)])
def test_a_limit_that_is_changed_holds_at_once(before: int, after: int, counted: bool) -> None:
    ours = Requests(before)
    for _ in range(before):
        ours.ask(1000)
    ours.most = after
    answer = ours.ask(1000)
    assert (answer.refused is None) == counted
    if not counted:
        assert ours.passes(answer.rooms[0].reset_ms * 1000 - ours.now_us)


@given(st.integers(1, 100), st.lists(st.integers(-3 * MINUTE_US, MINUTE_US - 1), max_size=40))
def test_a_clock_that_goes_back_keeps_nothing_for_longer(most: int, steps: list[int]) -> None:
    ours = Requests(most)
    for step in steps:
        ours.ask(step)
    assert ours.ask(MINUTE_US).rooms[0].used == 1


@pytest.mark.parametrize("back", [1, 1000, MINUTE_US, 100 * MINUTE_US])
def test_a_clock_that_goes_back_forgets_nothing(back: int) -> None:
    ours = Requests(2)
    assert ours.passes()
    assert ours.passes(-back)
    assert not ours.passes(-back)
    assert not ours.passes(MINUTE_US - 1)
