from __future__ import annotations

import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from tenantgate.limits.core.limit import Limit, Period, Subject
from tenantgate.limits.local_counters import LocalCounters

DAY = Limit(Subject.TENANT, Period.DAY, 5)


def test_a_window_is_kept_by_its_key() -> None:
    counters = LocalCounters()
    assert [counters.count(["a"], [DAY]).counted for _ in range(7)] == [True] * 5 + [False] * 2
    assert counters.count(["b"], [DAY]).counted


def test_several_windows_are_written_together_or_not_at_all() -> None:
    counters, once = LocalCounters(), Limit(Subject.KEY, Period.DAY, 1)
    assert counters.count(["a", "k"], [DAY, once]).counted
    assert not counters.count(["a", "k"], [DAY, once]).counted
    assert counters.count(["a"], [DAY]).rooms[0].remaining == 3


@pytest.fixture
def _restless() -> Iterator[None]:
    """Threads that take turns after each few instructions."""
    usual = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(usual)


@pytest.mark.usefixtures("_restless")
def test_threads_count_each_request_once() -> None:
    counters, limit = LocalCounters(), Limit(Subject.TENANT, Period.DAY, 300)
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: counters.count(["a"], [limit]).counted, range(500)))
    assert sum(found) == 300


def test_memory_is_bounded_and_what_is_in_use_stays() -> None:
    for counters in (LocalCounters(most=10), LocalCounters(most_bytes=3200)):
        for i in range(200):
            counters.count([f"tenant-{i}"], [DAY])
            if i < 5:
                counters.count(["busy"], [DAY])
            elif i % 5 == 0:
                counters.count(["busy"], [Limit(Subject.TENANT, Period.DAY, 10_000)])
        assert len(counters._windows) <= 10
        assert not counters.count(["busy"], [DAY]).counted
