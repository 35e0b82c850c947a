"""Claims: which rules count a request, what they ask for, and how it comes back from Kong."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tenantgate.limits.core.claims import (
    Asked,
    Offer,
    Unpriced,
    claims_of,
    counts,
    counts_tool,
    end_user_subject,
    read_held,
)
from tenantgate.limits.core.estimate import Prompt
from tenantgate.limits.core.rules import CachedCost, Counted, Do, Mode, Per, Reserve, Rule, Step, Window
from tenantgate.prices.core.cost import Worst

MINUTE = Window(sliding_s=60)
ASKED = Asked(
    model="openai/gpt",
    offers=(
        Offer(provider="openai", worst=Worst(900, 10), expected=Worst(500, 10)),
        Offer(provider="azure", worst=Worst(700, 30), expected=Worst(400, 30)),
    ),
    key="k",
    end_user="u",
    prompt=Prompt(100, 150),
    replies=2,
    size=33,
)


def rule(counted: Counted = Counted.COST, **changes: Any) -> Rule:
    return Rule(**{"name": "r", "counted": counted, "most": 1000, "window": MINUTE, **changes})


NAMES = st.sampled_from(["a", "b", "a/x", "b/x", "a/y"])


@given(st.lists(NAMES, max_size=3), st.sampled_from("abc"), st.sampled_from("xyz"))
def test_a_rule_of_tools_counts_these_and_nothing_else(names: list[str], server: str, tool: str) -> None:
    one = rule(Counted.REQUESTS, tools=tuple(names))
    assert counts_tool(one, server, tool) is (server in names or f"{server}/{tool}" in names)
    assert counts(one, ("openai/gpt", f"mcp/{server}/{tool}"), ("openai", "mcp")) is (not names)


@pytest.mark.parametrize(
    ("counted", "reserve", "fixed", "per_million"),
    [
        (Counted.REQUESTS, Reserve.WORST, 1, 0),
        (Counted.PROMPT_TOKENS, Reserve.WORST, 150, 0),
        (Counted.PROMPT_TOKENS, Reserve.EXPECTED, 100, 0),
        (Counted.COMPLETION_TOKENS, Reserve.WORST, 0, 2_000_000),
        (Counted.TOTAL_TOKENS, Reserve.EXPECTED, 100, 2_000_000),
        (Counted.BYTES, Reserve.EXPECTED, 33, 0),
        # The dearest prompt and the dearest reply, whoever answers.
        (Counted.COST, Reserve.WORST, 900, 60),
        (Counted.COST, Reserve.EXPECTED, 500, 60),
    ],
)
def test_what_a_rule_asks_for(counted: Counted, reserve: Reserve, fixed: int, per_million: int) -> None:
    (held,) = claims_of([rule(counted, reserve=reserve)], ASKED)
    assert (held.claim.fixed, held.claim.per_million) == (fixed, per_million)
    (twice,) = claims_of([rule(counted, reserve=reserve)], replace(ASKED, tries=2))
    factor = 1 if counted is Counted.REQUESTS else 2
    assert (twice.claim.fixed, twice.claim.per_million) == (fixed * factor, per_million * factor)


@pytest.mark.parametrize(
    ("changes", "subjects"),
    [
        ({}, [""]),
        ({"per": Per.KEY}, ["k"]),
        ({"per": Per.MODEL}, ["openai/gpt"]),
        ({"per": Per.END_USER}, ["u"]),
        ({"per": Per.PROVIDER}, ["openai", "azure"]),
        ({"per": Per.PROVIDER, "providers": ("azure", "groq")}, ["azure"]),
        ({"models": ("openai/gpt",)}, [""]),
        ({"models": ("gpt", "other")}, [""]),
        ({"models": ("other",)}, []),
        ({"providers": ("azure",)}, [""]),
        ({"providers": ("groq",)}, []),
    ],
)
def test_whom_a_rule_counts(changes: dict[str, Any], subjects: list[str]) -> None:
    own = rule(**changes)
    counted = counts(own, ("openai/gpt", "gpt"), ("openai", "azure"))
    assert counted == bool(subjects)
    assert not counted or [held.subject for held in claims_of([own], ASKED)] == subjects


def test_a_providers_rule_goes_by_its_prices_alone() -> None:
    (held,) = claims_of([rule(reserve=Reserve.WORST, providers=("azure",))], ASKED)
    assert (held.claim.fixed, held.provider) == (700, "azure")


def test_what_costs_nobody_knows() -> None:
    unknown = replace(ASKED, offers=(*ASKED.offers, Offer(provider="groq", worst=None, expected=None)))
    with pytest.raises(Unpriced):
        claims_of([rule()], unknown)
    assert claims_of([rule(mode=Mode.SHADOW)], unknown) == ()
    assert len(claims_of([rule(providers=("openai",))], unknown)) == 1
    assert len(claims_of([rule(Counted.TOTAL_TOKENS)], unknown)) == 1


@pytest.mark.parametrize(
    ("steps", "most", "shadow"),
    [
        ((), 1000, False),
        ((Step(at_permille=900, do=Do.BLOCK),), 900, False),
        ((Step(at_permille=500, do=Do.NOTIFY),), 1000, True),
    ],
)
def test_a_counter_ends_at_the_step_that_blocks(steps: tuple[Step, ...], most: int, shadow: bool) -> None:
    (held,) = claims_of([rule(steps=steps)], ASKED)
    assert (held.claim.most, held.claim.shadow) == (most, shadow)


@settings(max_examples=50)
@given(
    st.text(max_size=20),
    st.sampled_from(list(Counted)),
    st.sampled_from(list(CachedCost)),
    st.integers(1, 2**53),
    st.integers(1, 3),
    st.integers(0, 10_000),
)
def test_what_is_held_comes_back(
    name: str, counted: Counted, cached: CachedCost, most: int, tries: int, tokens: int
) -> None:
    own = rule(
        counted, name=name or "r", cached=cached, most=most, cached_factor=0.25, window=Window(unit="month")
    )
    (held,) = claims_of([own], replace(ASKED, tries=tries))
    written = held.written(tokens, tokens // 2)
    held = held.holding(tokens, tokens // 2)
    back = read_held(msgpack.unpackb(msgpack.packb(written, unicode_errors="surrogatepass")))
    assert back is not None
    claim = replace(held.claim, fixed=0, per_million=0, reserve=Reserve.WORST, min_tokens=0)
    assert replace(back, claim=replace(back.claim, min_tokens=0)) == replace(held, claim=claim)
    whole = held.claim.fixed - (-(tokens // 2) * held.claim.per_million // 1_000_000)
    assert (held.hold - 1) * held.tries < whole <= held.hold * held.tries


@pytest.mark.parametrize(
    "values", [None, [], [1] * 11, "text", {"a": 1}, ["r", "", "c", "cost", 1, [], "", "x", 0, 1, 2]]
)
def test_what_was_never_held(values: Any) -> None:
    assert read_held(values) is None


def test_an_end_user_is_a_digest() -> None:
    assert end_user_subject("") == ""
    assert "ann" not in end_user_subject("ann@example.com")
    assert end_user_subject("a") != end_user_subject("b")
    assert len(end_user_subject("\udce9" * 9999)) == 32
