"""What Kong's log record may hold, and what of it is stored."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenantgate.cache.core.admit import NotStored, admit
from tenantgate.llm.chat import ChatReply


def completion(reason: Any = "stop", **message: Any) -> dict[str, Any]:
    return {
        "choices": [{"message": {"role": "assistant", "content": "Hi.", **message}, "finish_reason": reason}]
    }


def record(payload: Any, *, status: Any = 200, **ai: Any) -> dict[str, Any]:
    return {
        "response": {"status": status, "headers": {}},
        "ai": {"proxy": {"payload": {"response": payload}, **ai}},
    }


def test_a_payload_may_be_text_or_table() -> None:
    for payload in (completion(), json.dumps(completion())):
        got = admit(record(payload), stream=False)
        assert isinstance(got, ChatReply)
        assert got.text == "Hi."


@pytest.mark.parametrize(
    "status", [100, 199, 201, 204, 206, 301, 304, 400, 401, 404, 429, 500, 502, 503, 504, None]
)
def test_only_200_is_stored(status: int | None) -> None:
    assert admit(record(completion(), status=status), stream=False) is NotStored.STATUS


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_left_leaves_nothing(stream: bool) -> None:
    gone = {"response": {"status": 200, "headers": {}}, "latencies": {}, "request": {}}
    assert admit(gone, stream=stream, stream_reason="stop") is NotStored.NO_REPLY


@pytest.mark.parametrize("reason", [None, "", "length", "LENGTH", "max_tokens", "MAX_TOKENS", "content_filter",
                                    "SAFETY", "RECITATION", "pause_turn", "refusal", "stopped", "stop "])  # fmt: skip
def test_a_stream_is_stored_for_a_complete_reason_only(reason: str | None) -> None:
    assert admit(record(completion()), stream=True, stream_reason=reason) is NotStored.INCOMPLETE


def test_a_plain_reply_is_judged_by_its_own_reason() -> None:
    assert admit(record(completion("length")), stream=False, stream_reason="stop") is NotStored.INCOMPLETE


@pytest.mark.parametrize(
    ("header", "kept"),
    [
        ("no-store", False),
        ("NO-STORE", False),
        ("private,no-store", False),
        (["max-age=1", "no-store"], False),
        ("no-cache", True),
        ("x-no-store", True),
        ('a="b"', True),
        ("", True),
        (None, True),
        ([None, 1], True),
        (1, True),
    ],
)
def test_a_provider_may_forbid_storing(header: Any, kept: bool) -> None:
    made = record(completion())
    made["response"]["headers"]["cache-control"] = header
    assert isinstance(admit(made, stream=False), ChatReply) is kept


ANY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["response", "status", "headers", "ai", "proxy", "payload", "meta", "response_model", "x"]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=10,
)


@given(ANY, ANY, st.booleans(), st.none() | st.text(max_size=5))
def test_no_record_raises(value: Any, meta: Any, stream: bool, reason: str | None) -> None:
    for odd in (
        {"response": value, "ai": value},
        {"response": {"status": 200, "headers": value}, "ai": {"proxy": value}},
        record(value, meta=meta),
        record(completion(value), meta=meta),
        record(completion(tool_calls=value)),
    ):
        assert isinstance(
            admit(odd, stream=stream, stream_reason=reason, tool_calls=True), ChatReply | NotStored
        )
