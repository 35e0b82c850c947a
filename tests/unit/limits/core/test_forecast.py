"""Forecasts: a steady pace is told exactly, and a burst foretells nothing."""

from __future__ import annotations

from hypothesis import assume, given
from hypothesis import strategies as st

from tenantgate.limits.core.forecast import BUCKETS, Forecast, Sample, bucket, forecast

DAY_MS = 86_400_000
MONTH = {"start_ms": 0, "end_ms": 30 * DAY_MS}
whole = st.integers(0, 10**15)


def steady(rate: int, days: int) -> tuple[list[Sample], Sample]:
    """So much a day for so many days, seen twice a day."""
    samples = [Sample(half * DAY_MS // 2, rate * half // 2) for half in range(2 * days)]
    return samples, Sample(days * DAY_MS, rate * days)


@given(rate=st.integers(1, 10**12).map(lambda n: 2 * n), days=st.integers(1, 29), most=st.integers(1, 10**14))
def test_a_steady_pace_is_told_to_the_end(rate: int, days: int, most: int) -> None:
    samples, now = steady(rate, days)
    found = forecast(samples, now, most, **MONTH)
    assert found is not None
    assert found.at_end == 30 * rate
    exact = -(-most * DAY_MS // rate)  # when that much is used
    if most > 30 * rate:
        assert found.exhausted_ms is None
    else:
        assert found.exhausted_ms is not None
        assert found.exhausted_ms == max(exact, now.at_ms)


def test_used_up_on_the_19th_at_this_pace() -> None:
    samples, now = steady(25_000_000_000, 10)
    assert forecast(samples, now, 18 * 25_000_000_000, **MONTH) == Forecast(750_000_000_000, 18 * DAY_MS)


def test_a_burst_that_is_over_foretells_nothing() -> None:
    now = Sample(20 * DAY_MS, 90)
    assert forecast([Sample(DAY_MS, 90)], now, 100, **MONTH) == Forecast(90, None)


def test_a_burst_that_has_only_begun_counts_by_the_whole_window() -> None:
    found = forecast([Sample(20 * DAY_MS, 2)], Sample(20 * DAY_MS + 1000, 20), 100, **MONTH)
    assert found == Forecast(29, None)


@given(
    points=st.lists(st.tuples(st.integers(0, 30 * DAY_MS), whole), max_size=20),
    now_ms=st.integers(-DAY_MS, 40 * DAY_MS),
    used=whole,
    most=whole,
)
def test_whatever_was_seen_a_forecast_is_within_the_window_and_not_before_now(
    points: list[tuple[int, int]], now_ms: int, used: int, most: int
) -> None:
    samples = [Sample(at, n) for at, n in points if at <= now_ms]
    found = forecast(samples, Sample(now_ms, used), most, **MONTH)
    early_or_over = now_ms * BUCKETS < 30 * DAY_MS or now_ms >= 30 * DAY_MS
    assert (found is None) == early_or_over
    if found is not None:
        assert found.at_end >= used
        assert (found.exhausted_ms is not None) == (
            max(used, found.at_end) >= most and (used >= most or found.at_end > used)
        )
        if found.exhausted_ms is not None:
            assert now_ms <= found.exhausted_ms <= 30 * DAY_MS


@given(used=whole, more=whole, most=whole, now_ms=st.integers(DAY_MS, 29 * DAY_MS))
def test_who_spends_more_is_used_up_no_later(used: int, more: int, most: int, now_ms: int) -> None:
    found = [forecast([], Sample(now_ms, n), most, **MONTH) for n in (used, used + more)]
    assume(found[0] is not None and found[1] is not None)
    slow, fast = (f.exhausted_ms or 31 * DAY_MS for f in found if f is not None)
    assert fast <= slow


@given(now_ms=st.integers(-DAY_MS, 31 * DAY_MS))
def test_each_moment_has_a_part_of_the_window(now_ms: int) -> None:
    assert 0 <= bucket(now_ms, 0, 30 * DAY_MS) < BUCKETS
