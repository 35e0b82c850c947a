"""Counts of tokens: what is one, and what is made of them."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenantgate.llm.usage import token_count, usage_details, usage_object, usage_tokens

NO_COUNTS = [None, True, "3", -1, -0.5, 1e12, math.inf, math.nan, 10**400, [], {}]
ANY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(
            st.sampled_from(["prompt_tokens", "completion_tokens", "prompt_tokens_details", "cached"]), inner
        )
    ),
    max_leaves=8,
)


@pytest.mark.parametrize(
    ("value", "count"), [(0, 0), (7, 7), (7.0, 7), (7.9, 7), *((v, None) for v in NO_COUNTS)]
)
def test_a_count_is_a_number_that_a_reply_can_have(value: Any, count: int | None) -> None:
    assert token_count(value) == count


@pytest.mark.parametrize(
    ("usage", "tokens"),
    [
        ({"prompt_tokens": 3, "completion_tokens": 4}, (3, 4, 7)),
        ({"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 99}, (3, 4, 7)),
        ({"prompt_tokens": 0, "completion_tokens": 0}, (0, 0, 0)),
        ({"prompt_tokens": 3}, None),
        ({"prompt_tokens": -1, "completion_tokens": 4}, None),
        ([], None),
        (None, None),
    ],
)
def test_usage_has_both_counts_or_none(usage: Any, tokens: tuple[int, int, int] | None) -> None:
    assert usage_tokens(usage) == tokens


def test_details_are_kept_as_far_as_they_are_counts() -> None:
    usage = {"prompt_tokens_details": {"cached_tokens": 5, "odd": "x"}, "completion_tokens_details": 3}
    assert usage_details(usage) == {"prompt_tokens_details": {"cached_tokens": 5}}


@given(ANY)
def test_no_usage_raises(usage: Any) -> None:
    tokens, details = usage_tokens(usage), usage_details(usage)
    if tokens is not None:
        made = usage_object(tokens, details)
        assert (usage_tokens(made), usage_details(made)) == (tokens, details)


def test_a_usage_is_written_in_openais_order() -> None:
    assert list(usage_object((1, 2, 3), {"prompt_tokens_details": {"cached_tokens": 1}})) == [
        "prompt_tokens",
        "completion_tokens",
        "total_tokens",
        "prompt_tokens_details",
    ]
