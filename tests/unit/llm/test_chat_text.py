"""Any text survives both renditions: lone surrogates, line ends, emoji, what looks like an event."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenantgate.llm.chat import (
    ChatReply,
    ChatRequest,
    Reason,
    Refusal,
    parse_reply,
    parse_request,
    reply_json,
    reply_sse,
)

# Hypothesis' default text has no surrogates; JSON's escapes do.
ANY_TEXT = st.text(st.characters(codec=None, exclude_categories=()), min_size=1, max_size=120)
ODD = [
    "\ud800",
    "\udfff\ud800",
    "a\r\n\r\ndata: [DONE]\n\n",
    "data: {}",
    "\u2028\u2029\x85",
    "\x00",
    "👩‍👩‍👧‍👦" * 30,  # longer than a chunk, so a cluster is cut somewhere
    "x" * 23 + "🙂" + "y" * 24,
    '"}]}',
    "\ufeff",
    " ",
]


def streamed(raw: bytes) -> str:
    """The text of a stream, read as a client does: events end with an empty line."""
    events = [event.removeprefix(b"data: ") for event in raw.split(b"\n\n") if event]
    assert events[-1] == b"[DONE]"
    chunks = [json.loads(event) for event in events[:-1]]
    return "".join(c["choices"][0]["delta"].get("content", "") for c in chunks if c["choices"])


@given(ANY_TEXT)
def test_any_text_survives(text: str) -> None:
    reply = ChatReply(text, "stop", "m")
    assert parse_reply(reply_json(reply, identifier="i", created=0)) == reply
    for usage in (False, True):
        assert streamed(reply_sse(reply, identifier="i", created=0, include_usage=usage)) == text


@pytest.mark.parametrize("text", ODD)
def test_odd_texts_survive(text: str) -> None:
    reply = ChatReply(text, "stop", text, (1, 2, 3))
    body = reply_json(reply, identifier=text, created=0)
    assert body.isascii()
    assert parse_reply(body) == reply
    assert streamed(reply_sse(reply, identifier=text, created=0, include_usage=True)) == text


@given(ANY_TEXT)
def test_a_question_is_utf8_or_none(text: str) -> None:
    request = parse_request(json.dumps({"messages": [{"role": "user", "content": text}]}).encode())
    assert isinstance(request, ChatRequest)
    whole = not any("\ud800" <= c <= "\udfff" for c in json.loads(json.dumps(text)))
    assert (request.question is not None) == whole
    if request.question is not None:
        request.question.encode("utf-8")


@pytest.mark.parametrize(
    ("extra", "asked"),
    [
        ({"stream_options": {"include_usage": True}}, True),
        ({"stream_options": {"include_usage": "true"}}, False),
        ({"stream_options": {"include_usage": 1}}, False),
        ({"stream_options": {}}, False),
        ({"stream_options": None}, False),
        ({}, False),
    ],
)
def test_usage_is_given_where_it_was_asked_for(extra: dict[str, object], asked: bool) -> None:
    body = {"messages": [{"role": "user", "content": "q"}], "stream": True, **extra}
    request = ChatRequest(body, ({"role": "user", "content": "q"},))
    assert request.include_usage is asked
    raw = reply_sse(ChatReply("x", "stop", "m"), identifier="i", created=0, include_usage=asked)
    assert (b'"usage":{' in raw) is asked


@pytest.mark.parametrize("value", [[], {}, 1, None, True, ["user"], ""])
def test_a_role_that_is_no_name_is_refused_by_its_place(value: object) -> None:
    refused = parse_request(json.dumps({"messages": [{"role": value, "content": "q"}]}).encode())
    assert isinstance(refused, Refusal)
    assert (refused.reason, refused.param) == (Reason.NOT_CHAT, "messages[0].role")
