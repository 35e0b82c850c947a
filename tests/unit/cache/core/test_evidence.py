"""Bins of a score, and evidence and plans as they are stored: what can't be read counts as nothing known."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenantgate.cache.core.evidence import BINS, Evidence, Plan, bin_of, edge

SHARES = st.floats(0, 1).map(lambda share: round(share, 4))


@given(st.floats(0, 1))
def test_a_score_lies_between_its_bins_edges(score: float) -> None:
    number = bin_of(score)
    if number is None:
        assert score < edge(0) + 1e-9
    else:
        assert edge(number) <= score + 1e-9
        assert score <= edge(number + 1) + 1e-9 or number == BINS - 1


@given(st.floats(0, 1), st.floats(0, 1))
def test_a_higher_score_is_in_no_lower_bin(a: float, b: float) -> None:
    low, high = (bin_of(score) for score in sorted((a, b)))
    assert (low if low is not None else -1) <= (high if high is not None else -1)


@given(st.floats(0.01, 1) | st.just(math.inf), st.lists(SHARES, min_size=BINS, max_size=BINS), SHARES, SHARES)
def test_a_plan_survives_being_stored(
    threshold: float, probe: list[float], compare: float, repeat: float
) -> None:
    plan = Plan(threshold, tuple(probe), compare, repeat)
    assert Plan.from_json(plan.to_json().encode()) == plan


@pytest.mark.parametrize(
    "text", ["", "null", "[]", "{}", "[1,2,3]", "[" * 10_000, "[[[1]],[],[],[]]", "[[],[0],[0],[]]", "x"]
)
def test_what_is_no_evidence_counts_as_nothing_known(text: str) -> None:
    assert Evidence.from_json(text) == Evidence()
    assert Plan.from_json(text.encode()) is None


@pytest.mark.parametrize("value", [-1, "NaN", "Infinity", 1e300, "x", None])
def test_a_count_that_can_not_be_makes_it_none(value: object) -> None:
    text = Evidence().to_json().replace("0.0", str(value).replace("None", "null"), 1)
    assert Evidence.from_json(text) == Evidence()
