from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenantgate.usage.core.entries import Entry, entries_of
from tenantgate.usage.core.sums import DIMENSIONS, SPANS, grouped, span_of, total
from usage_rig import FEW, records

ZONES = st.sampled_from(
    ["UTC", "Europe/Berlin", "Asia/Kathmandu", "Australia/Lord_Howe", "Pacific/Kiritimati"]
)


def of(found: Sequence[dict[str, Any]]) -> list[Entry]:
    return [entry for one in found for entry in entries_of(one)]


@FEW
@given(records(), st.lists(st.sampled_from(DIMENSIONS), max_size=4, unique=True), ZONES, st.randoms())
def test_every_grouping_has_the_same_sum_in_any_order(
    found: list[dict[str, Any]], by: list[str], zone: str, random: Any
) -> None:
    entries = of(found)
    sums = grouped(entries, by, ZoneInfo(zone))
    assert total(sums) == total(grouped(entries, ()))
    random.shuffle(entries)
    assert grouped(entries, by, ZoneInfo(zone)) == sums
    assert list(sums) == sorted(sums)


@FEW
@given(records())
def test_a_request_with_several_tries_is_one(found: list[dict[str, Any]]) -> None:
    assert total(grouped(of(found), ("provider",))).requests == len(found)


@given(st.integers(0, 4 * 10**12), ZONES)
def test_spans_nest_and_are_those_of_the_calendar(time_ms: int, zone: str) -> None:
    hour, day, month = (span_of(time_ms, span, ZoneInfo(zone)) for span in SPANS)
    local = (datetime.fromtimestamp(0, UTC) + timedelta(milliseconds=time_ms)).astimezone(ZoneInfo(zone))
    assert (day, month) == (local.date().isoformat(), local.date().isoformat()[:7])
    assert hour.startswith(f"{day}T{local.hour:02}")
    assert day.startswith(month)


@pytest.mark.parametrize(
    ("utc", "zone", "hour"),
    [
        ("2026-10-25T00:30", "Europe/Berlin", "2026-10-25T02+02:00"),
        ("2026-10-25T01:30", "Europe/Berlin", "2026-10-25T02+01:00"),
        ("2026-03-29T01:00", "Europe/Berlin", "2026-03-29T03+02:00"),
        ("2026-10-31T23:00", "Europe/Berlin", "2026-11-01T00+01:00"),
        ("2026-04-04T14:45", "Australia/Lord_Howe", "2026-04-05T01+11:00"),
        ("2026-04-04T15:15", "Australia/Lord_Howe", "2026-04-05T01+10:30"),
        ("2026-01-01T00:00", "Asia/Kathmandu", "2026-01-01T05+05:45"),
    ],
)
def test_the_hour_that_comes_twice_is_two_hours(utc: str, zone: str, hour: str) -> None:
    time_ms = int(datetime.fromisoformat(utc + "+00:00").timestamp() * 1000)
    assert span_of(time_ms, "hour", ZoneInfo(zone)) == hour
