"""Costs are exact sums of tokens times prices, and no request costs more than was held for it."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenantgate.llm.token_usage import TokenUsage
from tenantgate.prices.core.cost import Cost, CostCertainty, cost, dollars, prices_at, prices_for, worst
from tenantgate.prices.core.price_list import KINDS, PriceList, Prices, Tier

PRICE = st.integers(0, 10**12)
KINDED = st.dictionaries(st.sampled_from(KINDS), PRICE)
PERIODS = st.builds(
    Prices,
    valid_from_ms=st.integers(0, 10**13),
    daily_s=st.none() | st.tuples(st.integers(0, 86_399), st.integers(0, 86_399)),
    prices=st.builds(lambda more, i, o: {**more, "input": i, "output": o}, KINDED, PRICE, PRICE),
    tiers=st.lists(
        st.builds(Tier, above=st.integers(1, 10**6), prices=KINDED), max_size=3, unique_by=lambda t: t.above
    ).map(lambda tiers: tuple(sorted(tiers, key=lambda t: t.above))),
)
LISTS = st.builds(PriceList, book=st.just("b"), periods=st.lists(PERIODS, min_size=1, max_size=4).map(tuple))
COUNT = st.integers(0, 10**6)
NAMES = tuple("input output cache_read cache_write cache_write_1h reasoning audio_input audio_output".split())
USAGES = st.builds(TokenUsage, **dict.fromkeys(NAMES, COUNT))
TIMES = st.integers(0, 10**13)
MINI = PriceList(
    book="b",
    periods=(Prices(prices={"input": 150_000_000, "output": 600_000_000, "cache_read": 75_000_000}),),
)


def flat(**prices: int) -> PriceList:
    return PriceList(book="b", periods=(Prices(prices={"input": 100, "output": 1000, **prices}),))


@pytest.mark.parametrize(
    ("prices", "usage", "femto"),
    [
        (flat(), TokenUsage(input=3, output=2), 2300),
        (flat(cache_read=10), TokenUsage(input=3, cache_read=2), 120),
        (flat(), TokenUsage(input=3, cache_read=2), 300),
        (flat(cache_write=125), TokenUsage(input=3, cache_write=2, cache_write_1h=1), 350),
        (
            flat(cache_write=125, cache_write_1h=200),
            TokenUsage(input=3, cache_write=2, cache_write_1h=1),
            425,
        ),
        (flat(reasoning=3000), TokenUsage(output=3, reasoning=2), 7000),
        (flat(), TokenUsage(output=3, reasoning=2), 3000),
        (
            flat(audio_input=500, audio_output=9),
            TokenUsage(input=2, audio_input=1, output=2, audio_output=2),
            618,
        ),
        (flat(request=7), TokenUsage(), 7_000_000),
        # More parts than there are: what is cached and audio is charged once, as the dearer of both.
        (flat(audio_input=500, cache_read=10), TokenUsage(input=2, audio_input=2, cache_read=2), 1000),
    ],
)
def test_tokens_cost_the_price_of_their_kind(prices: PriceList, usage: TokenUsage, femto: int) -> None:
    assert cost(prices, usage, 0).femto == femto


@pytest.mark.parametrize(("tokens", "expected"), [(200_000, 200_000 * 100), (200_001, 200_001 * 300)])
def test_a_long_prompt_has_the_prices_of_its_tier(tokens: int, expected: int) -> None:
    tier = Tier(above=200_000, prices={"input": 300})
    prices = PriceList(book="b", periods=(Prices(prices={"input": 100, "output": 1000}, tiers=(tier,)),))
    assert cost(prices, TokenUsage(input=tokens), 0).femto == expected
    assert cost(prices, TokenUsage(input=tokens, output=1), 0).femto == expected + 1000


DAY = 86_400_000


@pytest.mark.parametrize(
    ("at_ms", "expected"),
    [(0, 1), (DAY, 2), (DAY + 3600_000, 2), (DAY + 23 * 3600_000, 3), (2 * DAY + 1800_000, 3), (3 * DAY, 4)],
)
def test_the_last_prices_that_hold_at_a_time_count(at_ms: int, expected: int) -> None:
    periods = (
        Prices(prices={"input": 1, "output": 1}),
        Prices(valid_from_ms=DAY, prices={"input": 2, "output": 1}),
        Prices(valid_from_ms=DAY + 1, daily_s=(22 * 3600, 3600), prices={"input": 3, "output": 1}),
        Prices(valid_from_ms=3 * DAY, prices={"input": 4, "output": 1}),
    )
    assert prices_at(PriceList(book="b", periods=periods), at_ms).prices["input"] == expected


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ({}, CostCertainty.EXACT),
        ({"estimated": True}, CostCertainty.ESTIMATED),
        ({"estimated": True, "lower_bound": True}, CostCertainty.LOWER_BOUND),
    ],
)
def test_a_cost_is_as_sure_as_its_usage(flags: dict[str, bool], expected: CostCertainty) -> None:
    assert cost(MINI, TokenUsage(input=1, **flags), 0).certainty is expected


@pytest.mark.parametrize(
    ("femto", "text", "nano"),
    [
        (0, "0", 0),
        (1, "0.000000000000001", 0),
        (500_000, "0.0000000005", 0),
        (1_500_000, "0.0000000015", 2),
        (1_500_001, "0.000000001500001", 2),
        (180 * 10**9, "0.00018", 180_000),
        (12 * 10**15, "12", 12 * 10**9),
    ],
)
def test_amounts_are_written_exactly_and_rounded_half_to_even(femto: int, text: str, nano: int) -> None:
    found = Cost(femto, CostCertainty.EXACT)
    assert (found.exact, found.nano) == (text, nano)


@given(st.integers(-(10**25), 10**25))
def test_a_written_amount_is_the_amount(femto: int) -> None:
    text = dollars(femto)
    assert Decimal(text).scaleb(15) == femto
    assert "E" not in text.upper()


@given(LISTS, USAGES, TIMES)
def test_every_token_is_charged_once(prices: PriceList, usage: TokenUsage, at_ms: int) -> None:
    rates = prices_for(prices_at(prices, at_ms), usage.input)
    sides = [
        [k for k in KINDS if k.startswith(("input", "cache", "audio_input"))],
        ["output", "reasoning", "audio_output"],
    ]
    amount = cost(prices, usage, at_ms).femto - rates.get("request", 0) * 10**6
    least, most = (
        sum(
            tokens * pick(rates[k] for k in side if k in rates)
            for tokens, side in zip((usage.input, usage.output), sides, strict=True)
        )
        for pick in (min, max)
    )
    assert least <= amount <= most


@given(LISTS, USAGES, TIMES, COUNT, COUNT)
def test_no_request_costs_more_than_its_worst_case(
    prices: PriceList, usage: TokenUsage, at_ms: int, longer: int, more: int
) -> None:
    bound = worst(prices, usage.input + longer, at_ms)
    held = bound.fixed + -(-(usage.output + more) * bound.per_million // 10**6)
    assert cost(prices, usage, at_ms).femto <= held * 10**6


def test_what_a_request_can_t_have_isn_t_held_for_it() -> None:
    prices = flat(cache_write=125, audio_input=500, audio_output=5000)
    dear, plain = worst(prices, 10**6, 0), worst(prices, 10**6, 0, caches=False, audio=False)
    assert (dear.fixed, dear.per_million) == (500, 5000)
    assert (plain.fixed, plain.per_million) == (100, 1000)
