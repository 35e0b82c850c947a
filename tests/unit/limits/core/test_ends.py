"""Ends of requests as settlements: what each counter is charged, and how sure that is."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tenantgate.limits.core.claims import Held
from tenantgate.limits.core.ends import Billed, End, settlement
from tenantgate.limits.core.ledger import Certainty, Claim
from tenantgate.limits.core.rules import CachedCost, Counted, Window
from tenantgate.tenant import TenantId

DAY = Window(unit="day")
AMOUNTS = st.integers(0, 10**12)
BILLED = st.builds(Billed, st.sampled_from(["openai", "azure"]), AMOUNTS, AMOUNTS, AMOUNTS)
HELD = st.builds(
    lambda counted, provider, cached, factor, tries, hold: Held(
        "r",
        "",
        Claim(counter=f"{counted}:{provider}", counted=counted, most=1, window=DAY, fixed=0),
        provider=provider,
        cached=cached,
        cached_factor=factor,
        tries=tries,
        hold=hold,
    ),
    st.sampled_from(list(Counted)),
    st.sampled_from(["", "openai", "openai,azure", "groq"]),
    st.sampled_from(list(CachedCost)),
    st.floats(0, 1),
    st.integers(1, 3),
    AMOUNTS,
)
ENDS = st.builds(
    End,
    billed=st.lists(BILLED, max_size=2).map(tuple),
    uncertain=st.lists(st.sampled_from(["openai", "azure"]), max_size=3).map(tuple),
    cut=st.booleans(),
    cached=st.none() | BILLED,
    refused=st.booleans(),
)


def settled(held: list[Held], end: End) -> Any:
    return settlement(TenantId("acme"), "id", 5, held, end)


@settings(max_examples=80)
@given(st.lists(HELD, max_size=4), ENDS)
def test_each_counter_is_charged_once_and_never_less_than_nothing(held: list[Held], end: End) -> None:
    found = settled(held, end)
    assert [used.counter for used in found.used] == [h.claim.counter for h in held]
    assert all(used.amount >= 0 for used in found.used)
    if end.refused:
        assert found.certainty is Certainty.NONE
        assert not any(used.amount for used in found.used)


@settings(max_examples=80)
@given(HELD, ENDS)
def test_a_try_more_that_may_be_billed_never_makes_it_cheaper(held: Held, end: End) -> None:
    less, more = (
        settled([held], replace(end, uncertain=uncertain)).used[0].amount
        for uncertain in (end.uncertain, (*end.uncertain, "openai"))
    )
    assert more >= less


def held(counted: Counted = Counted.COST, **changes: Any) -> Held:
    claim = Claim(counter="c", counted=counted, most=1, window=DAY, fixed=0)
    return replace(Held("r", "", claim, hold=1000), **changes)


BILL = Billed("openai", 10, 20, 300)


@pytest.mark.parametrize(
    ("one", "end", "amount", "certainty"),
    [
        (held(), End(billed=(BILL,)), 300, Certainty.EXACT),
        (held(Counted.PROMPT_TOKENS), End(billed=(BILL,)), 10, Certainty.EXACT),
        (held(Counted.COMPLETION_TOKENS), End(billed=(BILL,)), 20, Certainty.EXACT),
        (held(Counted.TOTAL_TOKENS), End(billed=(BILL,)), 30, Certainty.EXACT),
        (held(Counted.BYTES), End(billed=(replace(BILL, size=70),)), 70, Certainty.EXACT),
        (held(Counted.BYTES), End(cached=replace(BILL, size=70)), 0, Certainty.EXACT),
        (
            held(Counted.BYTES, cached=CachedCost.TOKENS),
            End(cached=replace(BILL, size=70)),
            70,
            Certainty.EXACT,
        ),
        (held(Counted.REQUESTS), End(), 1, Certainty.EXACT),
        (held(Counted.REQUESTS), End(asked=frozenset()), 1, Certainty.EXACT),
        (held(Counted.REQUESTS, provider="azure"), End(), 1, Certainty.EXACT),
        (held(Counted.REQUESTS, provider="azure"), End(asked=frozenset({"openai"})), 0, Certainty.EXACT),
        (held(Counted.REQUESTS, provider="azure,x"), End(asked=frozenset({"x"})), 1, Certainty.EXACT),
        (held(), End(), 0, Certainty.EXACT),
        (held(), End(uncertain=("openai",)), 1000, Certainty.UNCERTAIN),
        (held(), End(billed=(BILL,), cut=True), 1000, Certainty.LOWER_BOUND),
        (held(hold=100), End(billed=(BILL,), cut=True), 300, Certainty.LOWER_BOUND),
        # The ledger can't tell one try of several from all of them, nor one provider's part.
        (held(tries=2), End(uncertain=("openai",)), 1000, Certainty.EXACT),
        (held(provider="azure"), End(billed=(BILL,)), 0, Certainty.EXACT),
        (held(provider="azure"), End(uncertain=("openai", "azure")), 1000, Certainty.EXACT),
        (held(), End(billed=(BILL,), uncertain=("azure",)), 1300, Certainty.EXACT),
        (held(), End(cached=BILL), 0, Certainty.EXACT),
        (held(cached=CachedCost.TOKENS), End(cached=BILL), 0, Certainty.EXACT),
        (held(Counted.TOTAL_TOKENS, cached=CachedCost.TOKENS), End(cached=BILL), 30, Certainty.EXACT),
        (held(Counted.REQUESTS, cached=CachedCost.TOKENS), End(cached=BILL), 1, Certainty.EXACT),
        (held(cached=CachedCost.FACTOR, cached_factor=0.1), End(cached=BILL), 30, Certainty.EXACT),
    ],
)
def test_what_an_end_takes(one: Held, end: End, amount: int, certainty: Certainty) -> None:
    found = settled([one], end)
    assert (found.used[0].amount, found.certainty) == (amount, certainty)
