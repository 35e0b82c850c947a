"""What moves the score that is needed: laws over any evidence, and streams with a known share of errors."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tenantgate.cache.core.bound import (
    BINS,
    Belief,
    Bound,
    Comparison,
    Domain,
    Evidence,
    Plan,
    Seen,
    bin_of,
    domain_of,
    edge,
)

ZEROS = (0.0,) * BINS


def falling(first: float, last: float, size: float = 1000) -> Domain:
    """Traffic whose share of wrong answers falls from bin to bin by a factor."""
    rates = [first * (last / first) ** (i / (BINS - 1)) for i in range(BINS)]
    return Domain(tuple(size * (1 - r) for r in rates), tuple(size * r for r in rates))


EASY, COARSE, HARD = falling(0.15, 0.0005), falling(0.2, 0.015), falling(0.8, 0.04)
DOMAINS = [EASY, COARSE, replace(HARD, weight=0.5)]
BOUND = Bound(DOMAINS, 0.03)

COUNTS = st.lists(st.integers(0, 200), min_size=BINS, max_size=BINS).map(lambda row: tuple(map(float, row)))
EVIDENCE = st.builds(Evidence, right=COUNTS, wrong=COUNTS, seen=COUNTS)
SETTINGS = settings(max_examples=30, deadline=None)


# -- bins ------------------------------------------------------------------------------------------------


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


@pytest.mark.parametrize(
    ("points", "right", "wrong"),
    [
        ([], 0, 0),
        ([(0.7, 10, 2)], 8, 2),
        ([(0.1, 30, 9), (0.7, 10, 2)], 8, 2),  # below the first bin nothing is ever served
        ([(0.5, 30, 9), (0.7, 10, 2), (0.9, 10, 2), (0.99, 0, 0)], 21, 9),
    ],
)
def test_a_domain_from_a_table_has_its_counts(
    points: list[tuple[float, int, int]], right: int, wrong: int
) -> None:
    made = domain_of(points)
    assert (sum(made.right), sum(made.wrong)) == (right, wrong)


# -- laws ------------------------------------------------------------------------------------------------


@SETTINGS
@given(EVIDENCE)
def test_whatever_is_known_the_higher_score_is_thought_the_safer(evidence: Evidence) -> None:
    belief = BOUND.believe(evidence)
    assert all(a >= b - 1e-12 for a, b in itertools.pairwise(belief.chances))
    assert all(0 <= share <= 0.5 for share in belief.plan.probe)
    assert all(
        share == 0 for i, share in enumerate(belief.plan.probe) if edge(i) < belief.plan.threshold - 1e-9
    )


@SETTINGS
@given(EVIDENCE)
def test_what_is_believed_lies_in_its_interval_and_none_is_told_where_none_is_served(
    evidence: Evidence,
) -> None:
    belief = BOUND.believe(evidence)
    if math.isinf(belief.plan.threshold):
        assert (belief.wrong, belief.low, belief.high) == (None, None, None)
    else:
        assert belief.low is not None
        assert belief.wrong is not None
        assert belief.high is not None
        assert 0 <= belief.low <= belief.high <= 1
        assert 0 <= belief.wrong <= 1


@SETTINGS
@given(EVIDENCE, st.floats(0.005, 0.2), st.floats(0.005, 0.2))
def test_the_tighter_bound_needs_the_higher_score(evidence: Evidence, a: float, b: float) -> None:
    tight, loose = (Bound(DOMAINS, bound).believe(evidence).plan.threshold for bound in sorted((a, b)))
    assert tight >= loose


@SETTINGS
@given(st.lists(st.integers(0, BINS - 1), max_size=60))
def test_right_answers_alone_never_raise_it_and_wrong_ones_alone_never_lower_it(bins: list[int]) -> None:
    right, wrong = list(ZEROS), list(ZEROS)
    for number in bins:
        right[number] += 1
        wrong[number] += 1
    assert BOUND.believe(Evidence(right=tuple(right))).plan.threshold <= BOUND.start
    assert BOUND.believe(Evidence(wrong=tuple(wrong))).plan.threshold >= BOUND.start


@SETTINGS
@given(EVIDENCE)
def test_nothing_is_served_below_the_lowest_score_of_the_tables(evidence: Evidence) -> None:
    assert Bound(DOMAINS, 0.3, least=0.9).believe(evidence).plan.threshold >= 0.9


@pytest.mark.parametrize("start", [0.7, 0.95, math.inf])
def test_it_begins_where_it_is_told_to(start: float) -> None:
    assert Bound([EASY], 0.03, start=start).believe(Evidence()).plan.threshold == start


def test_the_worse_the_domains_the_higher_it_begins() -> None:
    starts = [Bound(domains, 0.03).start for domains in ([EASY], [EASY, COARSE], [COARSE], [COARSE, HARD])]
    assert starts == sorted(starts)
    assert starts[0] < starts[2]


# -- writing ---------------------------------------------------------------------------------------------


@SETTINGS
@given(EVIDENCE, st.integers(0, 10**6), st.floats(0, 100))
def test_evidence_and_plans_survive_being_stored(evidence: Evidence, count: int, alarm: float) -> None:
    whole, _ = BOUND.updated(replace(evidence, compared=count, alarm=round(alarm, 3)), Seen(), None, 17.0)
    assert Evidence.from_json(whole.to_json()) == whole
    plan = BOUND.believe(whole).plan
    found = Plan.from_json(plan.to_json().encode())
    assert found is not None
    assert found.threshold == plan.threshold
    assert found.probe == pytest.approx(plan.probe, abs=1e-4)


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


# -- probes ----------------------------------------------------------------------------------------------


def test_a_tenants_first_hits_are_all_served() -> None:
    for count in range(30):
        assert BOUND.believe(Evidence(seen=(*ZEROS[1:], float(count)))).plan.probe == ZEROS


def test_much_is_probed_while_little_is_known_and_least_where_least_is_wrong() -> None:
    seen = (50.0,) * BINS
    early, late = (BOUND.believe(Evidence(seen=seen, probed=n)).plan.probe for n in (0.0, 150.0))
    served = [share for share in early if share > 0]
    assert served == sorted(served, reverse=True)
    assert sum(served) / len(served) == pytest.approx(0.1, abs=0.02)
    assert sum(late) / len(served) == pytest.approx(0.02, abs=0.005)


def test_a_rate_of_0_probes_nothing() -> None:
    bound = Bound(DOMAINS, 0.03, probe_rate=0)
    assert bound.believe(Evidence(seen=(50.0,) * BINS)).plan.probe == ZEROS


# -- streams ---------------------------------------------------------------------------------------------

Chance = Callable[[int], float]
NOTHING = Evidence()


def stream(
    bound: Bound, chance: Chance, count: int, seed: int, known: Evidence = NOTHING, found: float = 0.5
) -> Iterator[tuple[bool, bool, Evidence, Belief]]:
    """Lookups of which a share `found` has a neighbour in a bin that is drawn; served or not, wrong or not."""
    rng, seen = random.Random(seed), Seen()
    belief = bound.believe(known)
    for _ in range(count):
        if rng.random() >= found:
            seen = seen.with_lookup(None)
            yield False, False, known, belief
            continue
        number = rng.randrange(BINS)
        wrong = rng.random() < chance(number)
        reached = edge(number) >= belief.plan.threshold - 1e-9
        probe = reached and rng.random() < belief.plan.probe[number]
        seen = seen.with_lookup(number, hit=reached and not probe)
        if probe or not reached:
            known, belief = bound.updated(known, seen, Comparison(number, wrong, probe), 0.0)
            seen = Seen()
        yield reached and not probe, wrong, known, belief


def share_wrong(rows: list[tuple[bool, bool, Evidence, Belief]]) -> tuple[float, int]:
    served = [wrong for hit, wrong, _, _ in rows if hit]
    return sum(served) / max(1, len(served)), len(served)


def rate(first: float, last: float) -> Chance:
    return lambda number: first * (last / first) ** (number / (BINS - 1))


@pytest.mark.parametrize(
    ("first", "last"), [(0.1, 0.0005), (0.2, 0.004), (0.4, 0.004), (0.8, 0.002)], ids=str
)
def test_the_bound_is_kept_after_2000_requests(first: float, last: float) -> None:
    rows = list(stream(BOUND, rate(first, last), 4000, seed=3))
    wrong, served = share_wrong(rows[2000:])
    assert served > 100
    assert wrong <= 0.03


def test_where_no_score_will_do_little_is_served() -> None:
    rows = list(stream(BOUND, lambda _: 0.15, 4000, seed=5))
    assert share_wrong(rows[2000:])[1] < 40


def test_what_is_served_grows_where_all_is_right() -> None:
    rows = list(stream(BOUND, lambda _: 0.001, 3000, seed=7))
    early, late = share_wrong(rows[:1000])[1], share_wrong(rows[2000:])[1]
    assert late > 1.2 * early
    assert rows[-1][3].plan.threshold < BOUND.start


def test_answers_that_turn_wrong_are_noticed_within_1000_requests() -> None:
    *_, (_, _, known, before) = stream(BOUND, rate(0.05, 0.0005), 4000, seed=11)
    rows = list(stream(BOUND, rate(0.9, 0.3), 2000, seed=12, known=known))
    assert rows[-1][2].restarts > known.restarts
    assert rows[999][3].plan.threshold > before.plan.threshold
    assert share_wrong(rows[1000:])[1] < 60


def test_traffic_that_finds_fewer_neighbours_starts_anew() -> None:
    *_, (_, _, known, before) = stream(BOUND, rate(0.05, 0.0005), 4000, seed=13, found=0.6)
    assert before.plan.threshold < BOUND.start
    *_, (_, _, after, belief) = stream(BOUND, rate(0.05, 0.0005), 400, seed=14, known=known, found=0.05)
    assert after.restarts > known.restarts
    assert sum(after.right) < 0.5 * sum(known.right)
    assert belief.plan.threshold >= before.plan.threshold
    assert after.history[-1].why in {"restart", "raised", "lowered"}


def test_steady_traffic_does_not_start_anew() -> None:
    *_, (_, _, known, _) = stream(BOUND, rate(0.15, 0.001), 5000, seed=17)
    assert known.restarts <= 1


def test_what_is_counted_stays_small_however_long_it_goes_on() -> None:
    known = Evidence(right=(1000.0,) * BINS, seen=(1000.0,) * BINS)
    for _ in range(50):
        known, _ = BOUND.updated(known, Seen(10, 5, 5, {20: 5}), Comparison(20, False, True), 0.0)
    assert sum(known.right) + sum(known.wrong) < 11_000
    assert sum(known.seen) < 11_000
    assert known.hits == 250
    assert len(known.to_json()) < 2000
