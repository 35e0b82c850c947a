"""Ends of requests: what a budget knows for certain is what the request's audit record says that it cost."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from tenantgate.engine.core.outcome import end_of
from tenantgate.engine.core.tables import PackedLog
from tenantgate.limits.core.claims import Held
from tenantgate.limits.core.ends import settlement
from tenantgate.limits.core.ledger import Claim
from tenantgate.limits.core.rules import Counted, Window
from tenantgate.llm.log_record import LogRecord
from tenantgate.llm.token_usage import TokenUsage, token_usage
from tenantgate.policy.core.records import ModelPolicy, Target
from tenantgate.prices.core.cost import cost
from tenantgate.prices.core.price_list import PriceList, Prices
from tenantgate.tenant import TenantId

ACME = TenantId("acme")
# $1 a million tokens of the prompt, $10 of the reply.
PRICES = PriceList(book="test", periods=(Prices(prices={"input": 10**9, "output": 10**10}),))
TARGET = Target(provider="openai", name="gpt-4o", id="openai/gpt-4o", prices=PRICES)
MODEL = ModelPolicy(provider="openai", model="gpt-4o", route_name="llm.openai.gpt-4o.acme", targets=(TARGET,))
NUMBERS = st.integers(0, 1000)
COUNTS = st.fixed_dictionaries({"prompt_tokens": NUMBERS, "completion_tokens": NUMBERS})
NOTES = st.fixed_dictionaries(
    {
        "format": st.just("openai"),
        "stream": st.booleans(),
        "complete": st.booleans(),
        "chunks": NUMBERS,
        "counts": st.none() | COUNTS,
    }
)


def held(counted: Counted, hold: int) -> Held:
    claim = Claim(counter=str(counted), counted=counted, most=1, window=Window(unit="day"), fixed=0)
    return Held("r", "", claim, hold=hold)


@settings(max_examples=100)
@given(NOTES, NUMBERS, st.integers(0, 10**7))
def test_what_is_known_is_what_the_record_says(note: dict[str, Any], prompt: int, hold: int) -> None:
    usage = token_usage(note)
    packed = PackedLog(
        tenant=ACME,
        credential="",
        id="id",
        body=None,
        decided=True,
        state={},
        shared={},
        source="service",
        status=200,
        provider_status=200,
        usage=usage,
    )
    end = end_of(packed, MODEL, {"prompt": prompt}, started_ms=1, record=lambda: LogRecord({}))
    money, sent, size = settlement(
        ACME,
        "id",
        1,
        [held(Counted.COST, hold), held(Counted.PROMPT_TOKENS, hold), held(Counted.BYTES, 0)],
        end,
    ).used
    recorded = usage or TokenUsage()
    assert money.known == cost(PRICES, recorded, 1).nano
    assert sent.known == recorded.input
    assert money.amount >= cost(PRICES, recorded, 1).nano
    assert size.amount == 0
