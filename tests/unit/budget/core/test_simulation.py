"""Recorded traffic against proposed limits."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenantgate.budget.core.simulation import Finding, sentence, simulate
from tenantgate.budget.core.traffic import Request, estimated, request_of
from tenantgate.limits.core.rules import (
    CachedCost,
    Counted,
    Degrade,
    Do,
    Mode,
    OnTight,
    Per,
    Rule,
    Step,
    Window,
)

DOLLAR = 1_000_000_000
DAY = Window(unit="day", timezone="Europe/Berlin")
NOON_MS = int(datetime(2026, 11, 3, 12, 0, tzinfo=UTC).timestamp() * 1000)
MINUTE_MS = 60_000


def budget(most: int, steps: tuple[Step, ...] = (), **more: Any) -> Rule:
    given: dict[str, Any] = {"window": DAY, "counted": Counted.COST, "on_tight": OnTight.SHRINK, **more}
    return Rule(
        name="day", most=most, steps=steps or (Step(at_permille=1000, do=Do.BLOCK),), budget=True, **given
    )


def asked(minute: int, nano: int = DOLLAR, **more: Any) -> Request:
    return Request(
        tenant="initech", time_ms=NOON_MS + minute * MINUTE_MS, model="openai/m", nano=nano, **more
    )


def run(rule: Rule, requests: list[Request], **more: Any) -> Finding:
    return simulate(requests, {"initech": [rule]}, **more)[0]


def test_initech_would_have_been_blocked() -> None:
    requests = [asked(1440 * day + 10 * n) for day in range(3) for n in range(20)]
    found = run(budget(7 * DOLLAR), requests)
    assert (found.refusals, len(found.refused)) == (39, 3)
    assert sentence(found) == (
        "initech, day: would have been blocked on 3 days, 39 requests, the first on 2026-11-03 from 14:10 on"
    )
    one_day = run(budget(7 * DOLLAR), requests[:20])
    assert sentence(one_day) == "initech, day: would have been blocked on 1 day, 13 requests, from 14:10 on"
    assert sentence(run(budget(20 * DOLLAR), requests)) == "initech, day: nothing blocked of 60 requests"


def test_in_shadow_mode_nothing_is_taken_out_of_the_traffic() -> None:
    rules = [budget(2 * DOLLAR, mode=Mode.SHADOW), budget(5 * DOLLAR)]
    shadow, enforced = simulate([asked(n) for n in range(10)], {"initech": rules})
    assert (shadow.refusals, enforced.refusals) == (8, 5)
    assert "(shadow)" in sentence(shadow)


def test_a_request_that_one_rule_refuses_counts_for_none() -> None:
    rules = [budget(2 * DOLLAR), budget(5 * DOLLAR)]
    narrow, wide = simulate([asked(n) for n in range(10)], {"initech": rules})
    assert (narrow.refusals, wide.refusals, wide.most) == (8, 0, 2 * DOLLAR)


def test_the_ladder_degrades_then_leaves_the_cache_then_blocks() -> None:
    steps = (
        Step(at_permille=500, do=Do.DEGRADE, degrade=Degrade(model="cheap")),
        Step(at_permille=800, do=Do.CACHE_ONLY),
        Step(at_permille=1000, do=Do.BLOCK),
    )
    found = run(budget(10 * DOLLAR, steps), [asked(n) for n in range(12)])
    assert (found.degraded, found.cache_only, found.refusals) == (3, 4, 0)
    assert {name: len(times) for name, times in found.steps.items()} == {
        "50% degrade": 1,
        "80% cache_only": 1,
    }
    cheaper = run(budget(10 * DOLLAR, steps), [asked(n) for n in range(12)], price=lambda *_: DOLLAR // 10)
    assert (cheaper.degraded, cheaper.cache_only) == (7, 0)


@pytest.mark.parametrize(
    ("cached", "factor", "refusals"),
    [(CachedCost.FREE, 0.0, 0), (CachedCost.TOKENS, 0.0, 0), (CachedCost.FACTOR, 0.5, 6)],
)
def test_answers_from_the_cache_are_charged_as_the_rule_says(
    cached: CachedCost, factor: float, refusals: int
) -> None:
    rule = budget(2 * DOLLAR, cached=cached, cached_factor=factor)
    assert run(rule, [asked(n, cached=True) for n in range(10)]).refusals == refusals


def test_each_key_has_a_counter_of_its_own() -> None:
    rule = budget(2 * DOLLAR, per=Per.KEY)
    found = run(rule, [asked(n, key="ab"[n % 2]) for n in range(10)])
    assert found.subjects == {"a": 3, "b": 3}
    assert run(rule, [asked(0)]).unknown == 1, "a record that tells no key"


def test_a_sliding_limit_lets_pass_again() -> None:
    rule = Rule(name="tpm", counted=Counted.TOTAL_TOKENS, most=100, window=Window(sliding_s=60))
    requests = [asked(n // 2, prompt=60, completion=20) for n in range(10)]
    assert run(rule, requests).refusals == 5


def test_rules_count_only_their_models_and_providers() -> None:
    assert run(budget(0, models=("openai/other",)), [asked(0)]).counted == 0
    assert run(budget(0, providers=("azure",)), [asked(0, provider="openai")]).counted == 0


requests_lists = st.lists(st.tuples(st.integers(0, 4000), st.integers(0, 5 * DOLLAR)), max_size=40).map(
    lambda found: sorted((asked(minute, nano) for minute, nano in found), key=lambda r: r.time_ms)
)


@given(requests=requests_lists, most=st.integers(0, 20 * DOLLAR))
def test_with_shrink_no_window_has_more_than_its_budget(requests: list[Request], most: int) -> None:
    found = run(budget(most), requests)
    assert found.most <= most
    assert found.counted == len(requests)


@given(requests=requests_lists)
def test_what_is_enough_for_all_refuses_nothing(requests: list[Request]) -> None:
    total = sum(r.nano or 0 for r in requests)
    assert run(budget(total + 1), requests).refusals == 0


# -- what records tell -------------------------------------------------------------------------------------


def record(**changes: Any) -> dict[str, Any]:
    return {
        "tenant": "initech",
        "time": "2026-11-03T12:00:00.000Z",
        "outcome": "answered",
        "route": {"name": "llm.openai.gpt-4o.mini.initech"},
        "response": {"target": "azure/gpt#2"},
        "gen_ai": {"usage": {"input_tokens": 10, "output_tokens": 5}},
        "cost": {"amount": 0.0001234, "exact": "0.000123400001"},
        **changes,
    }


def test_a_record_is_read() -> None:
    found = request_of(record())
    assert found == Request(
        tenant="initech",
        time_ms=NOON_MS,
        model="openai/gpt-4o.mini",
        provider="azure",
        prompt=10,
        completion=5,
        nano=123_400,
    )


@pytest.mark.parametrize(
    "changes",
    [{"outcome": "unauthorized"}, {"outcome": None}, {"time": "yesterday"}, {"event": {}, "outcome": None}],
)
def test_what_no_limit_counts_is_left_out(changes: dict[str, Any]) -> None:
    assert request_of(record(**changes)) is None


def test_where_usage_is_missing_the_average_stands_for_it() -> None:
    known = [request_of(record(cost={"exact": text})) for text in ("0.1", "0.3")]
    unknown = request_of(record(gen_ai={}, cost=None, outcome="rate_limited"))
    failed = request_of(record(gen_ai={}, cost=None, outcome="upstream_error"))
    found = estimated([r for r in (*known, unknown, failed) if r is not None])
    assert [(r.nano, r.estimated) for r in found] == [
        (DOLLAR // 10, False),
        (3 * DOLLAR // 10, False),
        (DOLLAR // 5, True),
        (0, False),
    ]
    assert (found[2].prompt, found[2].completion) == (10, 5)


def test_days_are_those_of_the_rules_time_zone() -> None:
    late = datetime(2026, 11, 3, 23, 30, tzinfo=UTC)
    requests = [
        Request(
            tenant="initech", time_ms=int((late + timedelta(minutes=n)).timestamp() * 1000), model="", nano=1
        )
        for n in range(3)
    ]
    assert list(run(budget(1), requests).refused) == ["2026-11-04"]
