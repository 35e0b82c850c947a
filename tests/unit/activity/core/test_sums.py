from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenantgate.activity.core.sums import Activity, merged, quantile, seen_of
from usage_rig import record

RULES = {"secrets": {"mode": "block", "kinds": {"key": 2}}, "names": {"mode": "alert", "kinds": {}}}


def activity(*records: dict[str, Any]) -> Activity:
    out = Activity()
    for one in records:
        seen = seen_of(one)
        assert seen is not None
        out.add(seen)
    return out


@pytest.mark.parametrize(
    ("changes", "name", "value"),
    [
        ({}, "tokens", 150),
        ({}, "femto", {"USD": 123_400_000_000}),
        ({"cost": None}, "femto", {}),  # not known is in no sum
        ({"response__cache_status": "Hit"}, "hit_rate", 1.0),
        ({"response__cache_status": "Miss"}, "hit_rate", 0.0),
        ({"response__cache_status": "Bypass"}, "hit_rate", None),
        ({"outcome": "upstream_error"}, "errors", 1),
        ({"outcome": "gateway_error"}, "errors", 1),
        ({"outcome": "rate_limited"}, "errors", 0),
        ({"latencies": {"request": 12.5}}, "latencies_ms", [12.5]),
        ({"latencies": {"request": -1}}, "latencies_ms", []),
        (
            {"verdicts": {"tenant-guardrails": {"action": "block", "rules": RULES}}},
            "findings",
            {"secrets (block)": 1, "names (alert)": 1},
        ),
        ({"verdicts": {"tenant-semantic-cache": {"rules": RULES}}}, "findings", {}),
    ],
)
def test_a_record_s_part_in_the_sum(changes: dict[str, Any], name: str, value: object) -> None:
    assert getattr(activity(record(1, **changes)), name) == value


@pytest.mark.parametrize("odd", [{"gap": {}}, {"event": {}}, {"kind": "correction", "reason": "refund"}])
def test_what_is_no_request_isn_t_counted(odd: dict[str, Any]) -> None:
    base = {"id": "x", "tenant": "acme", "time": "2026-11-05T12:00:00Z"}
    assert seen_of({**base, **odd}) is None


OUTCOMES = st.sampled_from(["answered", "cached", "blocked", "upstream_error"])
SOME = st.lists(
    st.tuples(OUTCOMES, st.sampled_from(["Hit", "Miss", "Bypass"]), st.floats(0, 1e6)), max_size=20
)


@given(SOME, st.integers(0, 20))
def test_sums_of_parts_are_the_sum_of_all(some: list[tuple[str, str, float]], at: int) -> None:
    records = [
        record(n, outcome=o, response__cache_status=c, latencies={"request": ms})
        for n, (o, c, ms) in enumerate(some)
    ]
    assert merged([activity(*records[:at]), activity(*records[at:])]) == activity(*records)


@given(st.lists(st.floats(0, 1e6), min_size=1), st.floats(0.01, 1))
def test_a_quantile_is_a_value_with_that_share_at_or_below_it(values: Sequence[float], share: float) -> None:
    found = quantile(values, share)
    assert found in values
    assert sum(v <= found for v in values) >= share * len(values) - 1e-9
    assert sum(v < found for v in values) < share * len(values) + 1e-9


def test_nothing_has_no_quantile() -> None:
    assert quantile([], 0.5) is None
