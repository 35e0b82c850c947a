from __future__ import annotations

import itertools
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenantgate.errors import ConfigError
from tenantgate.platform.core.intake import CORRECTION, USAGE, WATERMARK, Row, Run, add, merged, read

EVENT: dict[str, Any] = {
    "specversion": "1.0",
    "id": "r:1",
    "source": "/tenantgate/nodes/a",
    "type": USAGE,
    "subject": "acme",
    "time": "2026-11-29T23:30:00.000-01:00",
    "data": {
        "attempt": 1,
        "provider": "openai",
        "model": "small",
        "certainty": "exact",
        "usage": {"input_tokens": 3, "later_tokens": "?"},
        "cost": {"exact": "0.0001234", "currency": "USD"},
        "later": 1,
    },
}


def changed(data: dict[str, Any] | None = None, **members: Any) -> dict[str, Any]:
    return {**EVENT, **members, "data": {**EVENT["data"], **(data or {})}}


def test_an_event_of_usage() -> None:
    found = read(EVENT)
    assert (found.tenant, found.day, found.provider, found.model) == ("acme", "2026-11-30", "openai", "small")
    assert (found.request, found.cached, found.tried) == (True, False, True)
    assert (found.tokens, found.cost, found.currency) == ({"input_tokens": 3}, Decimal("0.0001234"), "USD")


@pytest.mark.parametrize(
    ("event", "problem"),
    [
        ([], "must be an object"),
        (changed(specversion="0.3"), "specversion: must be 1.0"),
        (changed(id=""), "id: must be a text of 1 to 512"),
        (changed(id="\ud800"), "id: "),
        (changed(source=None), "source: "),
        (changed(subject=None), "subject: "),
        (changed(time="yesterday"), "time: must be a time as RFC 3339"),
        (changed(time="2026-13-29T23:30:00Z"), "time: there is no such time"),
        ({**EVENT, "data": None}, "data: must be an object"),
        (changed({"usage": {"input_tokens": -1}}), "data.usage.input_tokens: must be a whole number from 0"),
        (changed({"usage": {"input_tokens": 1.0}}), "data.usage.input_tokens: "),
        (changed({"usage": []}), "data.usage: must be an object"),
        (
            changed({"cost": {"exact": 0.1, "currency": "USD"}}),
            "data.cost.exact: must be a decimal number, as a text",
        ),
        (changed({"cost": {"exact": "1e3", "currency": "USD"}}), "data.cost.exact: "),
        (changed({"cost": {"exact": "-1", "currency": "USD"}}), "data.cost.exact: is negative"),
        (changed({"cost": {"exact": "1", "currency": "$"}}), "data.cost.currency: "),
        (changed({"certainty": "perhaps"}), "data.certainty: must be one of"),
        (changed({"final": "yes"}), "data.final: must be true or false"),
        (changed({"from": 3, "to": 2}, type=WATERMARK), "data: needs from and to, in this order"),
        (changed({"from": 0, "to": 2}, type=WATERMARK), "data.from: must be a whole number from 1"),
    ],
)
def test_an_event_that_is_none_is_refused_by_its_member(event: Any, problem: str) -> None:
    with pytest.raises(ConfigError) as error:
        read(event)
    assert str(error.value).startswith(problem)


def test_what_isnt_told_isnt_counted() -> None:
    row = Row()
    add(row, read({**EVENT, "data": {"usage": {"output_tokens": 2}}}))
    assert (row.tokens, row.costs, row.unpriced) == ({"output_tokens": 2}, {}, 1)


def test_a_correction_adds_amounts_and_no_request() -> None:
    row = Row()
    add(row, read(EVENT))
    add(
        row,
        read(
            changed(
                {"cost": {"exact": "-0.0001", "currency": "USD"}, "usage": {"input_tokens": -1}},
                type=CORRECTION,
            )
        ),
    )
    assert (row.requests, row.corrections, row.tokens) == (1, 1, {"input_tokens": 2})
    assert row.costs == {("USD", "exact"): Decimal("0.0000234")}


@given(st.lists(st.tuples(st.integers(1 - 10**24, 10**24 - 1), st.integers(0, 24)), max_size=30))
def test_sums_are_exact(amounts: list[tuple[int, int]]) -> None:
    row = Row()
    for number, digits in amounts:
        cost = {"exact": format(Decimal(number).scaleb(-digits), "f"), "currency": "EUR"}
        add(row, read(changed({"cost": cost}, type=CORRECTION)))
    assert sum(map(Fraction, row.costs.values())) == sum(Fraction(n, 10**d) for n, d in amounts)


runs = st.tuples(st.integers(1, 40), st.integers(0, 6)).map(lambda t: Run(first=t[0], last=t[0] + t[1]))


@given(st.lists(runs, max_size=15))
def test_runs_are_the_numbers_that_have_come(given_runs: list[Run]) -> None:
    found: list[Run] = []
    for run in given_runs:
        found = merged(found, run)
    numbers = {n for run in given_runs for n in range(run.first, run.last + 1)}
    assert {n for run in found for n in range(run.first, run.last + 1)} == numbers
    assert all(before.last + 1 < after.first for before, after in itertools.pairwise(found))
