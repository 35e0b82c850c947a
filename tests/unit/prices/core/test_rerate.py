"""Corrections bring what was charged to what usage costs now, once."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenantgate.llm.token_usage import TokenUsage
from tenantgate.prices.core.cost import cost, dollars
from tenantgate.prices.core.price_list import PriceList, Prices
from tenantgate.prices.core.rerate import charged, corrected, correction, usage_of

PRICE, COUNT = st.integers(0, 10**12), st.integers(0, 10**6)


def priced(input_price: int, output_price: int, book: str = "b 2") -> PriceList:
    return PriceList(book=book, periods=(Prices(prices={"input": input_price, "output": output_price}),))


def record(usage: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    base = {"id": "r1", "tenant": "acme", "time": "2026-11-01T10:00:00.000Z", "outcome": "answered"}
    return {**base, "gen_ai": {"usage": usage or {"input_tokens": 1000, "output_tokens": 10}}, **more}


@given(
    COUNT,
    COUNT,
    st.none() | st.integers(0, 10**20),
    st.lists(st.tuples(PRICE, PRICE), min_size=1, max_size=4),
)
def test_corrections_add_up_to_what_it_costs_now(
    prompt: int, reply: int, first: int | None, books: list[tuple[int, int]]
) -> None:
    known = {} if first is None else {"cost": {"exact": dollars(first)}}
    one = record({"input_tokens": prompt, "output_tokens": reply}, **known)
    made: dict[str, int] = {}
    for rates in books:
        for _ in range(2):  # the second time changes nothing
            before = sum(made.values())
            found = correction(one, priced(*rates), provider="openai", model="m", before=before)
            if found is not None:
                identifier, amount = corrected(found) or ("", 0)
                assert (identifier, found["id"] in made) == ("r1", False)
                made[found["id"]] = amount
        due = cost(priced(*rates), TokenUsage(input=prompt, output=reply), 0).femto
        assert (first or 0) + sum(made.values()) == due


def test_a_correction_says_what_it_corrects() -> None:
    old = record(cost={"amount": 0.1, "exact": "0.002"})
    found = correction(old, priced(10**9, 10**10), provider="openai", model="gpt", before=0)
    assert found is not None
    assert found.pop("id").startswith("r1:rerate:")
    assert found == {
        "kind": "correction",
        "tenant": "acme",
        "time": "2026-11-01T10:00:00.000Z",
        "request": "r1",
        "model": "gpt",
        "provider": "openai",
        "certainty": "exact",
        "reason": "rerated by b 2: 0.002 to 0.0011",
        "cost": {"exact": "-0.0009", "currency": "USD", "source": "prices", "book": "b 2"},
    }


@pytest.mark.parametrize(
    "values",
    [
        {"gap": {"records": 1}},
        {"event": {}},
        {"outcome": "cached"},
        {"gen_ai": {}},
        {"gen_ai": {"usage": {}}},
    ],
)
def test_what_used_nothing_is_left_alone(values: dict[str, Any]) -> None:
    assert usage_of(record(**values)) is None
    assert correction(record(**values), priced(1, 1), provider="p", model="m", before=0) is None


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        ({"amount": 0.25}, 25 * 10**13),
        ({"amount": 1e-9, "exact": "0.000000001"}, 10**6),
        ({"exact": "-0.5"}, -5 * 10**14),
        ({"exact": "1e400"}, None),
        ({"exact": "NaN"}, None),
        ({"exact": "x", "amount": True}, None),
        ({}, None),
    ],
)
def test_what_was_charged_is_read_exactly_or_not_at_all(found: dict[str, Any], expected: int | None) -> None:
    assert charged({"cost": found}) == expected


def test_all_kinds_of_tokens_are_read_again() -> None:
    used = {
        "input_tokens": 9,
        "output_tokens": 8,
        "cache_read": {"input_tokens": 1},
        "cache_creation": {"input_tokens": 3},
        "cache_creation_1h": {"input_tokens": 2},
        "reasoning": {"output_tokens": 4},
        "audio": {"input_tokens": 5, "output_tokens": 6},
        "lower_bound": True,
    }
    assert usage_of(record(used)) == TokenUsage(
        input=9,
        output=8,
        cache_read=1,
        cache_write=3,
        cache_write_1h=2,
        reasoning=4,
        audio_input=5,
        audio_output=6,
        lower_bound=True,
    )
