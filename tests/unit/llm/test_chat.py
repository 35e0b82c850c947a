"""OpenAI's shapes: what is read, what is refused, what is written."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenantgate.llm.chat import (
    ChatReply,
    ChatRequest,
    Reason,
    Refusal,
    canonical,
    parse_reply,
    parse_request,
    reply_json,
    reply_sse,
)

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


def request(**body: Any) -> ChatRequest:
    parsed = parse_request(json.dumps({"messages": [{"role": "user", "content": "hi"}], **body}).encode())
    assert isinstance(parsed, ChatRequest)
    return parsed


def question_of(message: dict[str, Any]) -> str | None:
    return ChatRequest({}, (message,)).question


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (b"", Reason.NOT_JSON),
        (b"{", Reason.NOT_JSON),
        (b"\xff\xfe{}", Reason.NOT_UTF8),
        (b'{"messages": [{"role": "user", "content": "\xe9"}]}', Reason.NOT_UTF8),
        (b'\xef\xbb\xbf{"messages": [{}]}', Reason.NOT_JSON),
        (b"[" * 100_000, Reason.TOO_LARGE),
        (b'{"a":' * 65 + b"1" + b"}" * 65, Reason.TOO_DEEP),
        (b"[" * 65 + b"]" * 65, Reason.TOO_DEEP),
        (b"[" * 64 + b"]" * 64, Reason.NOT_CHAT),
        (b"1" * 10_000, Reason.NOT_JSON),
        (b'{"messages": [{"role": "user", "content": NaN}]}', Reason.NOT_JSON),
        (b"null", Reason.NOT_CHAT),
        (b"[1]", Reason.NOT_CHAT),
        (b'{"prompt": "hi"}', Reason.NOT_CHAT),
        (b'{"messages": []}', Reason.NOT_CHAT),
        (b'{"messages": {"role": "user"}}', Reason.NOT_CHAT),
        (b'{"messages": ["hi"]}', Reason.NOT_CHAT),
    ],
)
def test_what_is_no_chat_is_refused_by_kind(raw: bytes, reason: Reason) -> None:
    found = parse_request(raw)
    assert isinstance(found, Refusal)
    assert found.reason is reason


@given(st.binary(max_size=200))
def test_no_bytes_raise(raw: bytes) -> None:
    assert isinstance(parse_request(raw), ChatRequest | Refusal)
    assert isinstance(parse_reply(raw), ChatReply | None)


@given(JSON)
def test_no_json_raises(value: Any) -> None:
    for body in (
        value,
        {"messages": value},
        {"messages": [value]},
        {"messages": [{"role": "user", "content": value}]},
    ):
        parsed = parse_request(json.dumps(body).encode())
        if isinstance(parsed, ChatRequest):
            assert isinstance(parsed.question, str | None)
            assert isinstance(parsed.stream, bool)
            assert isinstance(parsed.include_usage, bool)
            assert isinstance(parsed.model, str)
            canonical(parsed.body)


@given(JSON)
def test_no_reply_raises(value: Any) -> None:
    choice = {"message": {"content": "x"}}
    for body in (
        value,
        {"choices": value},
        {"choices": [value]},
        {"choices": [{"message": value}]},
        {"choices": [{"message": {"content": value}}]},
        {"choices": [choice], "usage": value},
        {"choices": [{"message": {"content": "", "tool_calls": value}}]},
        {"choices": [choice], "usage": {"prompt_tokens": value, "completion_tokens": 1}},
    ):
        assert isinstance(parse_reply(json.dumps(body)), ChatReply | None)


@pytest.mark.parametrize(
    ("message", "question"),
    [
        ({"role": "user", "content": "hi"}, "hi"),
        ({"role": "user", "content": ""}, ""),
        ({"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}, "a\nb"),
        ({"role": "user", "content": [{"type": "text", "text": "a", "cache_control": {}}]}, None),
        ({"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:"}}]}, None),
        ({"role": "user", "content": [{"type": "text", "text": 1}]}, None),
        ({"role": "user", "content": "hi", "name": "ann"}, None),
        ({"role": "tool", "content": "hi", "tool_call_id": "c"}, None),
        ({"role": "assistant", "content": "hi"}, None),
        ({"role": "user", "content": None}, None),
        ({"role": "user", "content": "lone \ud800"}, None),
        ({"content": "hi"}, None),
    ],
)
def test_only_a_users_plain_text_is_a_question(message: dict[str, Any], question: str | None) -> None:
    assert question_of(message) == question


def test_delivery_is_read_from_the_body() -> None:
    plain = request()
    assert (plain.stream, plain.include_usage, plain.model) == (False, False, "")
    streamed = request(stream=True, stream_options={"include_usage": True}, model="m")
    assert (streamed.stream, streamed.include_usage, streamed.model) == (True, True, "m")


CALL = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}


@pytest.mark.parametrize(
    "choice",
    [
        {"message": {"content": None}},
        {"message": {"content": ""}},
        {"message": {"content": "x", "refusal": "no"}},
        {"message": {"content": "x", "audio": {"id": "a"}}},
        {"message": {"content": "x", "tool_calls": [{"type": "custom", "id": "c", "custom": {}}]}},
        {"message": {"content": "x", "tool_calls": "f"}},
        {"message": {"content": "x"}, "logprobs": {"content": []}},
        {"text": "x"},
    ],
)
def test_a_reply_that_text_and_calls_dont_tell_is_none(choice: object) -> None:
    assert parse_reply({"choices": [choice]}) is None
    assert parse_reply({"choices": [{"message": {"content": "x"}}, choice]}) is None


def test_empty_extras_of_a_reply_are_no_hindrance() -> None:
    message = {"role": "assistant", "content": "x", "refusal": None, "annotations": [], "tool_calls": None}
    assert parse_reply({"choices": [{"message": message, "logprobs": None}]}) == ChatReply("x", None, "")


@pytest.mark.parametrize("count", ["1e999", "-1", "true", '"3"', "null", "1e15"])
def test_usage_that_cant_be_is_left_out(count: str) -> None:
    usage = f'{{"prompt_tokens": {count}, "completion_tokens": 1}}'
    body = f'{{"choices": [{{"message": {{"content": "x"}}}}], "usage": {usage}}}'
    reply = parse_reply(body)
    assert reply is not None
    assert reply.usage is None


REPLIES = st.builds(
    ChatReply,
    text=st.text(min_size=1, max_size=200),
    finish_reason=st.just("stop"),
    model=st.text(max_size=20),
    usage=st.none() | st.tuples(st.integers(0, 10**6), st.integers(0, 10**6)).map(lambda u: (*u, sum(u))),
    tool_calls=st.sampled_from([(), (CALL,), (CALL, {**CALL, "id": "c2"})]),
)


@given(REPLIES)
def test_a_reply_survives_json(reply: ChatReply) -> None:
    assert parse_reply(reply_json(reply, identifier="i", created=1)) == reply


@given(REPLIES, st.booleans())
def test_a_reply_survives_a_stream(reply: ChatReply, include_usage: bool) -> None:
    raw = reply_sse(reply, identifier="i", created=1, include_usage=include_usage)
    assert raw.endswith(b"\n\ndata: [DONE]\n\n")
    lines = raw.decode("ascii").split("\n\n")[:-2]
    assert all(line.startswith("data: ") and "\n" not in line for line in lines)
    chunks = [json.loads(line[6:]) for line in lines]
    assert {(c["id"], c["object"], c["created"], c["model"]) for c in chunks} == {
        ("i", "chat.completion.chunk", 1, reply.model)
    }
    if include_usage:
        *chunks, last = chunks
        assert last["choices"] == []
        assert last["usage"]["total_tokens"] == (reply.usage or (0, 0, 0))[2]
    assert all(("usage" in c) == include_usage for c in chunks)
    deltas = [c["choices"][0]["delta"] for c in chunks]
    assert deltas[0]["role"] == "assistant"
    assert "".join(d.get("content", "") for d in deltas) == reply.text
    assert tuple(call for d in deltas for call in d.get("tool_calls", ())) == tuple(
        {"index": i, **call} for i, call in enumerate(reply.tool_calls)
    )
    reasons = [c["choices"][0]["finish_reason"] for c in chunks]
    assert reasons == [None] * (len(chunks) - 1) + ["stop"]


def test_equal_json_has_one_spelling() -> None:
    assert canonical({"b": 1, "a": [True, None]}) == canonical(json.loads('{"a":[true,null],"b":1}'))
    assert canonical({"a": 1}) != canonical({"a": True})
    assert canonical({"a": 1}) != canonical({"a": "1"})
