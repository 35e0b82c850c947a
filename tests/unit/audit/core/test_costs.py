"""A record's cost is by the prices of the target that answered."""

from __future__ import annotations

import json
from typing import Any

import pytest

from audit_rig import journal_line
from tenantgate.audit.config import AuditConfig
from tenantgate.audit.core.costs import PriceLists, cost_of, price_lists
from tenantgate.audit.core.journal import JournalLine, parse_line
from tenantgate.errors import ConfigError
from tenantgate.fields import parse
from tenantgate.policy.core.records import price_tree
from tenantgate.prices.core.price_list import PriceList, Prices

PIPELINE = {"journal": "/nowhere/journal.jsonl", "state_dir": "/nowhere"}
BASE = {"encryption_key": "key-of-the-tests-key-of-the-tests", "pipeline": PIPELINE}


def flat(price: int) -> PriceList:
    return PriceList(
        book=f"b {price}", periods=(Prices(prices={"input": price * 10**9, "output": price * 10**9}),)
    )


def line(*tries: tuple[str, str], kong: float | None = None, **usage: Any) -> JournalLine:
    noted: dict[str, Any] = {"tries": [{"target": t, "outcome": o, "status": 200} for t, o in tries]}
    counts = {"prompt_tokens": 100, "completion_tokens": 10}
    noted["usage"] = {"format": "openai", "stream": False, "complete": True, "counts": counts, **usage}
    found = parse_line(journal_line(1, tenantgate=noted, ai__proxy__usage__cost=kong))
    assert found is not None
    return found


BOTH = PriceLists({"a/m": flat(1), "b/m": flat(2)})
ONE = PriceLists({"a/m": flat(1)})


@pytest.mark.parametrize(
    ("request_line", "prices", "exact", "certainty"),
    [
        (line(), ONE, "0.00011", "exact"),
        (line(("b/m", "ok")), BOTH, "0.00022", "exact"),
        (line(("b/m", "http_500"), ("a/m", "ok")), BOTH, "0.00011", "exact"),
        (line(("b/m", "timeout"), ("a/m", "ok")), BOTH, "0.00011", "lower_bound"),
        (line(("b/m", "ok")), PriceLists({"b/m": flat(2)}, flat(3)), "0.00033", "exact"),
        (line(stream=True, complete=False), ONE, "0.00011", "lower_bound"),
    ],
)
def test_the_target_that_answered_says_what_it_cost(
    request_line: JournalLine, prices: PriceLists, exact: str, certainty: str
) -> None:
    found = cost_of(request_line, prices)
    assert found is not None
    assert (found["exact"], found["certainty"], found["currency"], found["source"]) == (
        exact,
        certainty,
        "USD",
        "prices",
    )
    assert found["amount"] == float(exact)


@pytest.mark.parametrize(
    ("request_line", "prices"),
    [
        (line(), PriceLists()),
        (line(), BOTH),  # nobody says which of them has answered
        (line(("c/m", "ok")), BOTH),
    ],
)
def test_an_unknown_price_is_no_cost(request_line: JournalLine, prices: PriceLists) -> None:
    assert cost_of(request_line, prices) is None


def test_without_prices_what_kong_says_holds() -> None:
    assert cost_of(line(kong=0.25), PriceLists()) == {"amount": 0.25, "source": "kong"}


def test_price_lists_come_with_the_settings() -> None:
    texts = {"a/m": json.dumps(price_tree(flat(1)))}
    found = price_lists(parse(AuditConfig, {**BASE, "prices": texts, "input_cost": 0.1, "output_cost": 3}))
    assert found.by_target == {"a/m": flat(1)}
    assert found.usual is not None
    assert found.usual.periods[0].prices == {"input": 100_000_000, "output": 3_000_000_000}


@pytest.mark.parametrize(
    "text", ["{", "[]", '{"book": "b"}', '{"book": "b", "periods": [{"prices": {"input": 1}}]}']
)
def test_what_is_no_price_list_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match=r"^prices\.a/m"):
        price_lists(parse(AuditConfig, {**BASE, "prices": {"a/m": text}}))
