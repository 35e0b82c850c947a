"""From a bound on wrong answers to a score, with confidence."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenantgate.cache.core.calibration import Calibration, Point, calibrate, upper_wrong_rate
from tenantgate.errors import ConfigError

SCORED = st.lists(st.tuples(st.floats(0, 1), st.booleans()), max_size=60)


def table(*points: tuple[float, int, int, int]) -> Calibration:
    return Calibration("v", "e", "s", tuple(Point(*p) for p in points))


@given(SCORED, st.floats(0, 1), st.floats(0, 1))
def test_a_tighter_bound_never_asks_for_a_lower_score(
    scored: list[tuple[float, bool]], a: float, b: float
) -> None:
    made = calibrate(scored, verifier="v", embedder="e", source="s")
    tight, loose = (made.threshold_for(bound) for bound in sorted((a, b)))
    if tight is not None:
        assert loose is not None
        assert loose <= tight


@given(SCORED)
def test_a_table_counts_and_survives_json(scored: list[tuple[float, bool]]) -> None:
    made = calibrate(scored, verifier="v", embedder="e", source="s")
    for point in made.points:
        assert point.served == sum(score >= point.score for score, _ in scored)
        assert point.wrong == sum(score >= point.score and not same for score, same in scored)
        assert point.positives == sum(same for _, same in scored)
        assert 0 <= point.wrong_rate <= 1
        assert 0 <= point.recall <= 1
    assert Calibration.from_json(made.to_json()) == made


def test_the_bound_needs_evidence_not_luck() -> None:
    assert table((0.9, 20, 0, 100)).threshold_for(0.02) is None
    assert table((0.9, 2000, 20, 4000)).threshold_for(0.02) == 0.9
    assert table((0.5, 2000, 60, 4000), (0.9, 1000, 5, 4000)).threshold_for(0.02) == 0.9
    assert table((0.9, 0, 0, 100)).threshold_for(0.5) is None
    assert table().threshold_for(0.5) is None


@given(st.integers(0, 500), st.integers(0, 500))
def test_the_upper_end_lies_above_the_rate(wrong: int, right: int) -> None:
    served = wrong + right
    upper = upper_wrong_rate(wrong, served)
    assert (wrong / served if served else 1) <= upper + 1e-12 <= 1 + 1e-9


def test_wilsons_figures() -> None:
    # One-sided 95 % of 5 in 100: the upper end of the two-sided 90 % interval.
    assert upper_wrong_rate(5, 100) == pytest.approx(0.0989, abs=1e-3)
    assert upper_wrong_rate(0, 0) == 1


def test_the_next_point_holds_at_a_score() -> None:
    made = table((0.5, 10, 1, 10), (0.9, 5, 0, 10))
    assert made.at(0.6) == made.points[1]
    assert made.at(0.5) == made.points[0]
    assert made.at(0.95) is None


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        '{"version": 2}',
        '{"version": 1, "verifier": "v", "embedder": "e", "source": "s"}',
        json.dumps({"version": 1, "verifier": "v", "embedder": "e", "source": "s", "points": [{"score": 1}]}),
        json.dumps(
            {
                "version": 1,
                "verifier": "v",
                "embedder": "e",
                "source": "s",
                "points": [
                    {"score": 0.5, "served": 1, "wrong": 0, "positives": 1},
                    {"score": 0.4, "served": 1, "wrong": 0, "positives": 1},
                ],
            }
        ),
        json.dumps(
            {
                "version": 1,
                "verifier": "v",
                "embedder": "e",
                "source": "s",
                "points": [
                    {"score": 0.5, "served": 1, "wrong": 0, "positives": 1},
                    {"score": 0.6, "served": 2, "wrong": 0, "positives": 1},
                ],
            }
        ),
    ],
)
def test_what_is_no_table_is_refused_by_name(text: str) -> None:
    with pytest.raises(ConfigError, match="my file"):
        Calibration.from_json(text, where="my file")
