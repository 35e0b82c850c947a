"""Sliding windows against the package `limits`, and against the plain definition of a limit."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from types import SimpleNamespace
from typing import Any

import limits as oracle
import pytest
from hypothesis import given
from hypothesis import strategies as st
from limits.storage import memory

from tenantgate.limits.core.limit import Limit, Period, Subject
from tenantgate.limits.core.window import MICROSECONDS, RUNS, Decision, count, run_width_us

START = 1_700_000_000 * MICROSECONDS + 7
MINUTE = Period.MINUTE * MICROSECONDS


class Windows:
    """The windows of some limits, with a clock of their own."""

    def __init__(self, *limits: Limit) -> None:
        self.limits, self.now_us = limits, START
        self.windows: list[bytes | None] = [None] * len(limits)
        self.counted: list[int] = []

    def ask(self, gap_us: int = 0) -> Decision:
        self.now_us += gap_us
        decision, windows = count(self.windows, self.limits, self.now_us)
        self.windows = [*windows]
        if decision.counted:
            self.counted.append(self.now_us)
        return decision


def per_minute(most: int, subject: Subject = Subject.TENANT) -> Limit:
    return Limit(subject, Period.MINUTE, most)


def most_in_a_period(times: Sequence[int], period_us: int) -> int:
    """The most of these times that lie in any half-open interval of this length."""
    return max((sum(t <= u < t + period_us for u in times) for t in times), default=0)


# -- one limit ---------------------------------------------------------------------------------------------


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
    st.sampled_from(list(Period)),
    # Never a whole period between two requests: the package counts a request that is exactly a period old.
    st.lists(st.sampled_from([0, 0, 7, 7, 14, 70, 700, 1400]), max_size=150),
)
def test_up_to_sixty_requests_a_limit_is_as_exact_as_a_log_of_all(
    clock: Clock, most: int, period: Period, gaps: list[int]
) -> None:
    item = oracle.RateLimitItemPerSecond(most, int(period))
    theirs = oracle.strategies.MovingWindowRateLimiter(memory.MemoryStorage())
    key = str(next(KEYS))
    ours = Windows(Limit(Subject.TENANT, period, most))
    for gap in gaps:
        decision = ours.ask(gap * period * MICROSECONDS // 1100)
        clock.now_s = (ours.now_us - START) / MICROSECONDS
        assert decision.counted == theirs.hit(item, key)
        assert decision.rooms[0].remaining == theirs.get_window_stats(item, key).remaining


@given(
    st.one_of(st.integers(1, RUNS), st.integers(RUNS + 1, 150)),
    st.lists(
        st.tuples(st.sampled_from([0, 1, 900_000, 1_000_000, 7_000_001, MINUTE]), st.integers(1, 90)),
        max_size=30,
    ),
)
def test_no_period_has_too_many_and_none_waits_more_than_a_sixtieth_too_long(
    most: int, bursts: list[tuple[int, int]]
) -> None:
    limit = per_minute(most)
    windows = Windows(limit)
    for gap, requests in bursts:
        for i in range(requests):
            decision = windows.ask(0 if i else gap)
            room, now = decision.rooms[0], windows.now_us
            assert len(windows.windows[0] or b"") <= 4 + 12 * (RUNS + 2)
            if not decision.counted:
                recent = [t for t in windows.counted if t > now - MINUTE - run_width_us(limit)]
                assert len(recent) >= most
            else:
                assert 0 <= room.remaining < most
    assert most_in_a_period(windows.counted, MINUTE) <= most


def test_a_minute_may_begin_at_any_time() -> None:
    # Fixed windows let 20 pass here, GCRA 11 at the end.
    windows = Windows(per_minute(10))
    assert [windows.ask(55_000_000 if i == 0 else 0).counted for i in range(12)] == [True] * 10 + [False] * 2
    assert not windows.ask(10_000_000).counted
    assert windows.ask(50_000_000).counted


@pytest.mark.parametrize("most", [1, 10, RUNS, RUNS + 1, 1000])
def test_a_refusal_says_when_there_is_room(most: int) -> None:
    windows = Windows(per_minute(most))
    for i in range(most):
        assert windows.ask(37).rooms[0].remaining == most - 1 - i
    refused = windows.ask(5)
    assert (refused.counted, refused.rooms[0].remaining) == (False, 0)
    wait = refused.rooms[0].wait_us
    assert not windows.ask(wait - 1).counted
    assert windows.ask(1).counted


@pytest.mark.parametrize(("most", "exact"), [(2, True), (RUNS, True), (RUNS + 1, False)])
def test_each_request_of_a_small_limit_leaves_by_itself(most: int, exact: bool) -> None:
    windows = Windows(per_minute(most))
    windows.windows, windows.now_us = [None], 1_000_000 * MINUTE
    for i in range(most):
        windows.ask(1 if i else 0)
    windows.now_us = 1_000_000 * MINUTE + MINUTE
    assert windows.ask().counted == exact


def test_a_refused_request_costs_nothing() -> None:
    windows = Windows(per_minute(1))
    windows.ask()
    assert not any(windows.ask(1_000_000).counted for _ in range(59))
    assert windows.ask(1_000_000).counted


@pytest.mark.parametrize(("before", "after", "counted"), [(10, 5, False), (5, 10, True), (100, 61, False)])
def test_a_limit_that_is_changed_holds_at_once(before: int, after: int, counted: bool) -> None:
    windows = Windows(per_minute(before))
    for _ in range(before):
        windows.ask(1000)
    windows.limits = (per_minute(after),)
    decision = windows.ask(1000)
    assert (decision.counted, decision.rooms[0].remaining) == (counted, max(0, after - before - 1))
    if not counted:
        assert windows.ask(decision.rooms[0].wait_us).counted


@given(st.integers(1, 100), st.lists(st.integers(-3 * MINUTE, MINUTE - 1), max_size=40))
def test_a_clock_that_goes_back_keeps_nothing_for_longer(most: int, steps: list[int]) -> None:
    windows = Windows(per_minute(most))
    for step in steps:
        windows.ask(step)
    assert windows.ask(MINUTE).rooms[0].remaining == most - 1


@pytest.mark.parametrize("back", [1, 1000, MINUTE, 100 * MINUTE])
def test_a_clock_that_goes_back_forgets_nothing(back: int) -> None:
    windows = Windows(per_minute(2))
    assert windows.ask().counted
    assert windows.ask(-back).counted
    assert not windows.ask(-back).counted
    assert not windows.ask(MINUTE - 1).counted


@pytest.mark.parametrize("window", [b"", b"foreign", b"\0" * 4, b"\0" * 15, b"x" * 17, b"\xff" * 28])
def test_what_is_no_window_counts_as_none(window: bytes) -> None:
    windows = Windows(per_minute(3))
    windows.windows = [window]
    assert windows.ask().rooms[0].remaining == 2
    assert len(windows.windows[0] or b"") == 16


@given(st.binary(max_size=120), st.integers(1, 100))
def test_any_bytes_end_within_a_period(window: bytes, most: int) -> None:
    windows = Windows(per_minute(most))
    windows.windows = [window]
    windows.ask()
    assert windows.ask(MINUTE).counted


# -- several limits ----------------------------------------------------------------------------------------


@given(
    st.lists(
        st.builds(Limit, st.sampled_from(Subject), st.sampled_from(Period), st.integers(1, 12)),
        min_size=1,
        max_size=8,
    ),
    st.lists(st.sampled_from([0, 1000, 400_000, 30_000_000, 1_900_000_000]), max_size=60),
)
def test_all_or_nothing(limits: list[Limit], gaps: list[int]) -> None:
    together = Windows(*limits)
    for gap in gaps:
        before = list(together.windows)
        decision = together.ask(gap)
        alone = [count([w], [limit], together.now_us)[0] for w, limit in zip(before, limits, strict=True)]
        assert decision.counted == all(d.counted for d in alone)
        totals = [int.from_bytes(w[:4]) for w in together.windows if w]
        assert totals == [
            d.rooms[0].limit.most - d.rooms[0].remaining - (d.counted and not decision.counted) for d in alone
        ]
    for limit in limits:
        assert most_in_a_period(together.counted, limit.period * MICROSECONDS) <= limit.most


def test_each_limit_has_its_own_room() -> None:
    windows = Windows(per_minute(3), per_minute(1, Subject.KEY), Limit(Subject.KEY, Period.DAY, 9))
    assert [room.remaining for room in windows.ask().rooms] == [2, 0, 8]
    refused = windows.ask(1000)
    assert [(room.remaining, room.wait_us) for room in refused.rooms] == [
        (2, MINUTE - 1000),
        (0, MINUTE - 1000),
        (8, Period.DAY * MICROSECONDS - 1000),
    ]


def test_windows_and_limits_go_together() -> None:
    made: Any = [None]
    with pytest.raises(ValueError, match="zip"):
        count(made, [per_minute(1), per_minute(2)], START)
