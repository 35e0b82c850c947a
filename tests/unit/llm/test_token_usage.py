"""Examples are those of the providers' documentation, which tenantgate.llm.token_usage names."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenantgate.llm.token_usage import TokenUsage, token_usage


def note(kind: str, *, stream: bool = False, complete: bool = True, **counts: Any) -> dict[str, Any]:
    return {"format": kind, "stream": stream, "complete": complete, "counts": counts}


@pytest.mark.parametrize(
    ("kind", "counts", "usage"),
    [
        ("openai", {"prompt_tokens": 9, "completion_tokens": 12}, {"input": 9, "output": 12}),
        (
            "openai",
            {
                "prompt_tokens": 2006,
                "completion_tokens": 300,
                "total_tokens": 2306,
                "prompt_tokens_details": {"cached_tokens": 1920, "audio_tokens": 3},
                "completion_tokens_details": {
                    "reasoning_tokens": 120,
                    "audio_tokens": 4,
                    "accepted_prediction_tokens": 1,
                    "rejected_prediction_tokens": 2,
                },
            },
            {
                "input": 2006,
                "output": 300,
                "cache_read": 1920,
                "reasoning": 120,
                "audio_input": 3,
                "audio_output": 4,
            },
        ),
        (
            "openai",
            {"prompt_tokens": 100, "completion_tokens": 5, "prompt_cache_hit_tokens": 64},
            {"input": 100, "output": 5, "cache_read": 64},
        ),
        (
            "gemini",
            {"prompt_tokens": 10, "completion_tokens": 20, "total_tokens": 130},
            {"input": 10, "output": 120, "reasoning": 100},
        ),
        (
            "gemini",
            {"prompt_tokens": 10, "completion_tokens": 20, "total_tokens": 30},
            {"input": 10, "output": 20},
        ),
        ("anthropic", {"input_tokens": 25, "output_tokens": 15}, {"input": 25, "output": 15}),
        (
            "anthropic",
            {
                "input_tokens": 50,
                "cache_read_input_tokens": 100_000,
                "cache_creation_input_tokens": 248,
                "cache_creation": {"ephemeral_5m_input_tokens": 148, "ephemeral_1h_input_tokens": 100},
                "output_tokens": 503,
            },
            {
                "input": 100_298,
                "output": 503,
                "cache_read": 100_000,
                "cache_write": 248,
                "cache_write_1h": 100,
            },
        ),
        (
            "anthropic",
            {"input_tokens": 1, "output_tokens": 1, "cache_creation": {"ephemeral_1h_input_tokens": 7}},
            {"input": 8, "output": 1, "cache_write": 7, "cache_write_1h": 7},
        ),
        (
            "bedrock",
            {"inputTokens": 30, "outputTokens": 628, "totalTokens": 658},
            {"input": 30, "output": 628},
        ),
        (
            "bedrock",
            {"inputTokens": 4, "outputTokens": 9, "cacheReadInputTokens": 100, "cacheWriteInputTokens": 20},
            {"input": 124, "output": 9, "cache_read": 100, "cache_write": 20},
        ),
    ],
)
def test_each_provider_is_read_in_its_own_words(
    kind: str, counts: dict[str, Any], usage: dict[str, int]
) -> None:
    assert token_usage(note(kind, **counts), (1, 1, 2)) == TokenUsage(**usage)


@pytest.mark.parametrize(
    ("stream", "complete", "bound"),
    [(False, True, False), (True, True, False), (True, False, True), (False, False, False)],
)
def test_a_stream_that_broke_is_a_lower_bound(stream: bool, complete: bool, bound: bool) -> None:
    found = token_usage(note("openai", stream=stream, complete=complete, prompt_tokens=3))
    assert found is not None
    assert (found.input, found.lower_bound, found.estimated) == (3, bound, False)


@pytest.mark.parametrize(
    ("given", "counted", "usage"),
    [
        (None, (1, 2, 3), None),
        ("no note", (1, 2, 3), None),
        ({"format": "openai", "stream": True, "complete": True}, None, None),
        (
            {"format": "openai", "stream": True, "complete": True},
            (1, 2, 3),
            TokenUsage(input=1, output=2, estimated=True),
        ),
        (
            {"format": "openai", "stream": True, "complete": False, "chunks": 7},
            None,
            TokenUsage(output=7, estimated=True, lower_bound=True),
        ),
        ({"format": "openai", "stream": False, "complete": True, "chunks": 7}, None, None),
        (
            {"format": "unknown", "stream": True, "counts": {"prompt_tokens": 9}},
            (1, 2, 3),
            TokenUsage(input=1, output=2, estimated=True, lower_bound=True),
        ),
    ],
)
def test_where_no_provider_has_counted_kongs_estimate_says_so(
    given: Any, counted: tuple[int, int, int] | None, usage: TokenUsage | None
) -> None:
    assert token_usage(given, counted) == usage


COUNTS = st.dictionaries(
    st.sampled_from(
        "prompt_tokens completion_tokens total_tokens input_tokens output_tokens cache_read_input_tokens "
        "inputTokens outputTokens prompt_tokens_details completion_tokens_details cache_creation".split()
    ),
    st.integers(-5, 10**13)
    | st.floats()
    | st.text(max_size=3)
    | st.none()
    | st.dictionaries(
        st.sampled_from(["cached_tokens", "reasoning_tokens", "x"]), st.integers(-5, 9) | st.none()
    ),
)


@given(st.sampled_from(["openai", "gemini", "anthropic", "bedrock", "other"]), COUNTS, st.booleans())
def test_whatever_a_provider_says_no_count_is_negative(kind: str, counts: Any, complete: bool) -> None:
    found = token_usage({"format": kind, "stream": True, "complete": complete, "counts": counts}, (0, 0, 0))
    assert found is not None
    assert min(found.tokens) >= 0
    assert found.lower_bound is not complete
