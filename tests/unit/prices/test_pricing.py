"""Which price holds for a model: its own, the operator's, or the book's."""

from __future__ import annotations

from typing import Any

import pytest

from tenantgate.errors import ConfigError
from tenantgate.fields import parse
from tenantgate.prices.book import Unpriced, version
from tenantgate.prices.config import Pricing, moment_ms
from tenantgate.prices.core.cost import prices_at
from tenantgate.prices.pricing import Asked, PriceBook

MINI = Asked("openai", "gpt-4o-mini")
OWN = {"provider": "openai", "model": "gpt-4o-mini", "input": 0.1, "output": 0.2}
FIRST = {"provider": "vllm", "model": "own", "input": 1, "output": 2}


def book(*overrides: dict[str, Any], **more: Any) -> PriceBook:
    return PriceBook(parse(Pricing, {"overrides": list(overrides), **more}, strict=True))


@pytest.mark.parametrize(
    ("prices", "asked", "expected", "name"),
    [
        (book(), MINI, 150_000_000, version()),
        (book(OWN), MINI, 100_000_000, "tenants.yaml"),
        (book(OWN), Asked("azure", "gpt-4o-mini"), 150_000_000, version()),
        (book(OWN), Asked("openai", "gpt-4o-mini", None, 0.3, 0.4), 300_000_000, "tenants.yaml"),
        (book(OWN), Asked("openai", "gpt-4o-mini", None, 0.3), 100_000_000, "tenants.yaml"),
        (book(OWN, book="none"), MINI, 100_000_000, "tenants.yaml"),
        (book(FIRST), Asked("vllm", "own", "http://a/v1/"), 1_000_000_000, "tenants.yaml"),
    ],
)
def test_the_nearest_price_holds(prices: PriceBook, asked: Asked, expected: int, name: str) -> None:
    found = prices.find(asked)
    assert (found.periods[-1].prices["input"], found.book) == (expected, name)
    assert prices.find(asked) is found


@pytest.mark.parametrize(
    ("day", "expected"),
    [("2026-03-31", 0.15), ("2026-04-01", 0.1), ("2026-05-01T11:59Z", 0.1), ("2026-05-01T12:00Z", 0.05)],
)
def test_a_price_holds_from_its_day_on(day: str, expected: float) -> None:
    later = {**OWN, "valid_from": "2026-05-01T12:00Z", "input": 0.05}
    found = book(later, {**OWN, "valid_from": "2026-04-01"}).find(MINI)
    assert prices_at(found, moment_ms(day)).prices["input"] == expected * 10**9
    assert found.book == f"{version()}+tenants.yaml"


def test_all_kinds_and_tiers_of_an_override_are_taken() -> None:
    kinds = {"cache_read": 1, "cache_write": 2, "cache_write_1h": 3, "audio_input": 4, "audio_output": 5}
    tiers = [{"above": 10, "input": 7, "reasoning": 9}]
    found = book({**OWN, **kinds, "reasoning": 6, "request": 0.001, "tiers": tiers}).find(MINI)
    (period,) = found.periods
    whole = {**kinds, "reasoning": 6, "input": 0.1, "output": 0.2, "request": 0.001}
    assert period.prices == {kind: round(price * 10**9) for kind, price in whole.items()}
    assert [(t.above, t.prices) for t in period.tiers] == [(10, {"input": 7 * 10**9, "reasoning": 9 * 10**9})]


@pytest.mark.parametrize("prices", [book(), book(book="none"), book(FIRST), book(unknown="dearest")])
def test_an_unknown_price_is_no_price(prices: PriceBook) -> None:
    for _ in range(2):
        with pytest.raises(Unpriced):
            prices.find(Asked("mock", "m"))


@pytest.mark.parametrize(
    ("prices", "known"),
    [
        (book(), False),
        (book(unknown="dearest"), True),
        (book(FIRST, unknown="dearest", book="none"), True),
        (book(unknown="dearest", book="none"), False),
    ],
)
def test_what_is_counted_is_refused_or_dear(prices: PriceBook, known: bool) -> None:
    if not known:
        with pytest.raises(Unpriced):
            prices.counted(Asked("mock", "m"))
        return
    found = prices.counted(Asked("mock", "m"))
    assert found.book.endswith(", the dearest")
    assert found.periods[0].prices["output"] >= 2 * 10**9


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ({"valid_from": "2026-02-30"}, r"overrides\[0\]\.valid_from: 2026-02-30 is no day"),
        ({"valid_from": "yesterday"}, "valid_from"),
        ({"input": 0.0000000001}, r"overrides\[0\]\.input: 1e-10 has more than nine digits"),
        ({"input": -1}, "outside 0 to"),
        ({"input": None}, "required"),
        ({"tiers": [{"above": 5}, {"above": 5}]}, r"tiers\[1\]\.above: 5 isn't more"),
        ({"tiers": [{"above": 5, "input": 1e-11}]}, r"tiers\[0\]\.input"),
    ],
)
def test_a_price_that_can_t_be_is_refused(override: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        book({**OWN, **override})


def test_a_model_has_one_price_at_a_time() -> None:
    with pytest.raises(ConfigError, match=r"overrides\[1\]: is overrides\[0\] already"):
        book(OWN, OWN)
