"""What Kong's log record may hold, and what of it is stored."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenantgate.cache.core import admit as admission
from tenantgate.cache.core.admit import NotStored, new_entry
from tenantgate.cache.core.entry import Entry, encode
from tenantgate.llm.chat import ChatReply
from tenantgate.llm.log_record import LogRecord

CALL = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}


def completion(reason: Any = "stop", **message: Any) -> dict[str, Any]:
    return {
        "choices": [{"message": {"role": "assistant", "content": "Hi.", **message}, "finish_reason": reason}]
    }


def record(payload: Any, *, status: Any = 200, **ai: Any) -> dict[str, Any]:
    return {
        "response": {"status": status, "headers": {}},
        "ai": {"proxy": {"payload": {"response": payload}, **ai}},
    }


def admit(values: dict[str, Any], **options: Any) -> ChatReply | NotStored:
    return admission.admit(LogRecord(values), **options)


VECTORS = {"object": "list", "data": [{"index": 0, "embedding": [0.5]}], "model": "e"}


@pytest.mark.parametrize(
    ("payload", "more", "outcome"),
    [
        (json.dumps(VECTORS), {}, None),
        (json.dumps({"data": [{"embedding": "AAAAPw=="}]}), {}, None),
        (json.dumps(VECTORS), {"status": 500}, NotStored.STATUS),
        (None, {}, NotStored.NO_REPLY),
        ("no JSON", {}, NotStored.NOT_TEXT),
        ("[" * 100_000, {}, NotStored.NOT_TEXT),
        ("[]", {}, NotStored.INCOMPLETE),
        (json.dumps({"data": []}), {}, NotStored.INCOMPLETE),
        (json.dumps({"data": [{"embedding": []}]}), {}, NotStored.INCOMPLETE),
        (json.dumps({"data": [3]}), {}, NotStored.INCOMPLETE),
    ],
)
def test_vectors_are_stored_as_they_came(payload: Any, more: Any, outcome: NotStored | None) -> None:
    found = admission.admit_vectors(LogRecord(record(payload, **more)))
    if outcome is None:
        assert isinstance(found, ChatReply)
        assert found.text == payload
    else:
        assert found is outcome


def test_vectors_that_the_provider_wants_nobody_to_keep() -> None:
    values = record(json.dumps(VECTORS))
    values["response"]["headers"] = {"cache-control": "private, No-Store"}
    assert admission.admit_vectors(LogRecord(values)) is NotStored.NO_STORE


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


@pytest.mark.parametrize(
    "reason",
    [
        None,
        "",
        "length",
        "LENGTH",
        "max_tokens",
        "MAX_TOKENS",
        "content_filter",
        "SAFETY",
        "RECITATION",
        "pause_turn",
        "refusal",
        "stopped",
        "stop ",
    ],
)
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


@pytest.mark.parametrize("reason", ["stop", "STOP", "end_turn", "stop_sequence", "COMPLETE", "eos"])
def test_complete_answers_are_stored_and_say_stop(reason: str) -> None:
    for got in (
        admit(record(completion(reason)), stream=False),
        admit(record(completion(None)), stream=True, stream_reason=reason),
    ):
        assert isinstance(got, ChatReply)
        assert (got.text, got.finish_reason) == ("Hi.", "stop")


@pytest.mark.parametrize(
    ("given_record", "outcome"),
    [
        (record(completion(), status="200"), NotStored.STATUS),
        (record(completion("length")), NotStored.INCOMPLETE),
        (record(completion("max_tokens")), NotStored.INCOMPLETE),
        (record(completion("content_filter")), NotStored.INCOMPLETE),
        (record(completion("SAFETY")), NotStored.INCOMPLETE),
        (record(completion(None)), NotStored.INCOMPLETE),
        (record(completion("tool_calls", content=None, tool_calls=[CALL])), NotStored.TOOL_CALL),
        (record(completion(tool_calls=[CALL])), NotStored.TOOL_CALL),
        (record(completion(content="")), NotStored.NOT_TEXT),
        (record(completion(refusal="no")), NotStored.NOT_TEXT),
        ({}, NotStored.STATUS),
        ({"response": {"status": 200}, "ai": {"proxy": {"payload": []}}}, NotStored.NO_REPLY),
        (record("{"), NotStored.NOT_TEXT),
    ],
)
def test_nothing_else_is(given_record: dict[str, Any], outcome: NotStored) -> None:
    assert admit(given_record, stream=False) is outcome


def test_a_stream_that_called_tools_is_not_stored() -> None:
    assert admit(record(completion()), stream=True, stream_reason="tool_calls") is NotStored.TOOL_CALL


def test_tool_calls_are_stored_where_asked_for_but_not_from_streams() -> None:
    calling = record(completion("tool_calls", content=None, tool_calls=[CALL]))
    got = admit(calling, stream=False, tool_calls=True)
    assert isinstance(got, ChatReply)
    assert (got.text, got.tool_calls, got.finish_reason) == ("", (CALL,), "tool_calls")
    assert admit(calling, stream=True, stream_reason="tool_calls", tool_calls=True) is NotStored.TOOL_CALL
    lost = record(completion("tool_calls"))
    assert admit(lost, stream=False, tool_calls=True) is NotStored.TOOL_CALL
    cut = record(completion("length", content=None, tool_calls=[CALL]))
    assert admit(cut, stream=False, tool_calls=True) is NotStored.TOOL_CALL


def test_a_streams_model_comes_from_kongs_meta() -> None:
    meta = {"request_model": "asked", "response_model": "used"}
    got = admit(record(completion(), meta=meta), stream=False)
    assert isinstance(got, ChatReply)
    assert got.model == "used"


def test_an_entry_takes_no_more_than_it_may() -> None:
    reply = ChatReply("Hi.", "stop", "m")
    entry = new_entry("q", reply, 5.0, ttl_s=60, max_bytes=1000)
    assert entry == Entry("q", reply, 5.0, 60)
    size = len(encode(entry))
    assert new_entry("q", reply, 5.0, ttl_s=60, max_bytes=size) == entry
    assert new_entry("q", reply, 5.0, ttl_s=60, max_bytes=size - 1) is NotStored.TOO_LARGE
    assert new_entry("qu", reply, 5.0, ttl_s=60, max_bytes=size) is NotStored.TOO_LARGE
