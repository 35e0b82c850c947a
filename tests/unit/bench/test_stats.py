"""Pairs, their differences, and how sure these are."""

from __future__ import annotations

import numpy as np
import pytest

from tenantgate.bench.stats import compare, quantiles

RNG = np.random.default_rng(7)
BARE = list(RNG.lognormal(3, 0.3, 400))


def test_a_constant_delay_is_found_in_every_quantile() -> None:
    found = compare(BARE, [t + 5 for t in BARE])
    for quantile in ("p50", "p95", "p99"):
        assert found.added[quantile].value == pytest.approx(5)
        assert found.by_pair[quantile].value == pytest.approx(5)
        assert found.by_pair[quantile].low == pytest.approx(found.by_pair[quantile].high)


def test_a_target_beside_itself_adds_nothing() -> None:
    found = compare(BARE, BARE)
    assert {e.value for e in found.added.values()} == {0.0}
    assert {e.value for e in found.ratio.values()} == {1.0}


def test_noise_of_the_machine_stays_within_the_interval() -> None:
    other = list(np.asarray(BARE) + RNG.normal(0, 0.5, len(BARE)))
    for estimate in compare(BARE, other).added.values():
        assert estimate.low <= 0 <= estimate.high or abs(estimate.value) < 1


def test_pairs_take_out_what_both_had_to_wait() -> None:
    drift = np.linspace(0, 1000, len(BARE))
    found = compare(list(np.asarray(BARE) + drift), list(np.asarray(BARE) + drift + 3))
    assert found.by_pair["p50"].value == pytest.approx(3)
    assert found.by_pair["p50"].high - found.by_pair["p50"].low < 0.01


def test_ratios_are_of_quantiles() -> None:
    assert compare([10.0] * 9, [15.0] * 9).ratio["p95"].value == pytest.approx(1.5)


def test_the_same_seed_gives_the_same_interval() -> None:
    other = [t + 1 for t in reversed(BARE)]
    assert compare(BARE, other, seed=4) == compare(BARE, other, seed=4)


def test_no_pairs_give_no_numbers() -> None:
    assert compare([], []).plain() == {
        "pairs": 0,
        "bare": {},
        "with_us": {},
        "added": {},
        "by_pair": {},
        "ratio": {},
    }
    assert quantiles([]) == {}


def test_values_without_partners_are_refused() -> None:
    with pytest.raises(ValueError, match="no pairs"):
        compare([1.0], [1.0, 2.0])
