"""The calibration table: known Wilson bounds, and tables that can't be."""

from __future__ import annotations

import json
from statistics import NormalDist
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenantgate.cache.core.calibration import Calibration, Point, calibrate, upper_wrong_rate
from tenantgate.errors import ConfigError

Z = NormalDist().inv_cdf(0.95)  # the confidence that `upper_wrong_rate` states


@given(st.integers(0, 2000), st.integers(0, 2000))
def test_the_bound_solves_the_equation_that_defines_it(wrong: int, right: int) -> None:
    # The highest rate p that a one-sided score test at 5 % doesn't exclude: p - w/n = z sqrt(p (1 - p) / n).
    served = wrong + right
    upper = upper_wrong_rate(wrong, served)
    if served == 0 or right == 0:
        assert upper == pytest.approx(1)
        return
    assert upper - wrong / served == pytest.approx(Z * (upper * (1 - upper) / served) ** 0.5, abs=1e-4)


@pytest.mark.parametrize("served", [1, 10, 100, 1000, 100_000])
def test_none_wrong_has_a_closed_form(served: int) -> None:
    assert upper_wrong_rate(0, served) == pytest.approx(Z**2 / (served + Z**2), rel=1e-4)


@given(st.integers(0, 1000), st.integers(1, 1000), st.integers(1, 50))
def test_the_bound_rises_with_wrong_ones_and_falls_with_evidence(wrong: int, right: int, times: int) -> None:
    served = wrong + right
    assert upper_wrong_rate(wrong, served) < upper_wrong_rate(wrong + 1, served + 1) or wrong == served
    assert upper_wrong_rate(wrong * times, served * times) <= upper_wrong_rate(wrong, served) + 1e-12


def test_pairs_that_a_rule_excludes_are_never_served() -> None:
    made = calibrate([(-1.0, True), (-1.0, False), (0.9, True)], verifier="v", embedder="e", source="s")
    assert made.points[0].score == 0
    assert (made.points[0].served, made.points[0].positives) == (1, 2)
    assert made.points[0].recall == 0.5


POINT = {"score": 0.5, "served": 10, "wrong": 1, "positives": 20}


def table(*points: Any, **head: Any) -> str:
    return json.dumps(
        {"version": 1, "verifier": "v", "embedder": "e", "source": "s", "points": points, **head}
    )


def test_the_table_of_these_tests_is_one() -> None:
    assert Calibration.from_json(table(POINT)).points == (Point(0.5, 10, 1, 20),)


@pytest.mark.parametrize(
    "text",
    [
        "null",
        "1",
        "[" * 100_000,
        table(POINT, version="1"),
        table(points=None),
        table(None),
        table([0.5, 10, 1, 20]),
        table({**POINT, "score": "high"}),
        table({**POINT, "score": None}),
        table({**POINT, "score": float("nan")}),
        table({**POINT, "served": float("inf")}),
        table({**POINT, "served": float("nan")}),
        table({**POINT, "wrong": 11}),  # more wrong than served
        table({**POINT, "wrong": -1}),
        table({**POINT, "served": -1, "wrong": -2}),
        table({**POINT, "positives": -20}),
        table(POINT, POINT),
        table({**POINT, "score": 0.9}, POINT),
    ],
    ids=lambda text: text[-60:],
)
def test_a_table_that_can_not_be_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="calibration"):
        Calibration.from_json(text)
