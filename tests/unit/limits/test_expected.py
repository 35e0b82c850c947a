from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from tenantgate.limits.expected import ExpectedTokens
from tenantgate.tenant import TenantId

ACME = TenantId("acme")


@given(st.lists(st.integers(0, 10_000), max_size=250), st.integers(1, 20_000))
def test_nine_of_ten_of_the_last_hundred_replies_have_no_more(replies: list[int], most: int) -> None:
    expected = ExpectedTokens()
    for tokens in replies:
        expected.note(ACME, "m", tokens)
    found, last = expected.tokens(ACME, "m", most), replies[-100:]
    assert found <= most
    if len(last) < 10:
        assert found == min(most, 1024)
    elif found < most:
        assert found in last
        assert sum(tokens <= found for tokens in last) >= math.ceil(len(last) * 0.9)
        assert sum(tokens < found for tokens in last) < math.ceil(len(last) * 0.9)


def test_tenants_and_models_are_apart_and_bounded() -> None:
    expected = ExpectedTokens(most=3)
    for i in range(30):
        expected.note(ACME, "m", 5)
        expected.note(TenantId(f"t{i}"), "m", 7)
        expected.note(ACME, f"m{i}", 7)
    assert expected.tokens(ACME, "m", 100) == 5
    assert expected.tokens(ACME, "n", 100) == 100
    assert len(expected._replies) == 3
