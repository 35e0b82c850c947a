"""A stored answer as the client asked for it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tenantgate.cache.core.cache_control import Status
from tenantgate.cache.core.entry import Entry
from tenantgate.cache.core.outcome import Hit, Level
from tenantgate.cache.core.replay import hit_headers, replay, status_headers
from tenantgate.llm.chat import ChatReply, ChatRequest, parse_reply, parse_request

CALL = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
TEXT = Entry("q", ChatReply("Grüße 🙂\n\ndata: x", "stop", "m", (3, 2, 5)), 100.0, 60)
CALLS = Entry("q", ChatReply("", "tool_calls", "m", None, (CALL, {**CALL, "id": "d"})), 100.0, 60)
BARE = Entry(None, ChatReply("x", "stop", ""), 100.0, 60)


def ask(**body: Any) -> ChatRequest:
    request = parse_request(json.dumps({"messages": [{"role": "user", "content": "q"}], **body}).encode())
    assert isinstance(request, ChatRequest)
    return request


def chunks(body: bytes) -> list[dict[str, Any]]:
    *events, done, end = body.split(b"\n\n")
    assert (done, end) == (b"data: [DONE]", b"")
    return [json.loads(event.removeprefix(b"data: ")) for event in events]


@pytest.mark.parametrize("entry", [TEXT, CALLS, BARE])
def test_json_is_read_back_as_it_was(entry: Entry) -> None:
    body, kind = replay(entry, ask(), 110.0, identifier="i")
    assert kind == "application/json; charset=utf-8"
    assert parse_reply(body) == entry.reply
    assert (json.loads(body)["id"], json.loads(body)["created"]) == ("i", 110)


@pytest.mark.parametrize("entry", [TEXT, CALLS, BARE])
@pytest.mark.parametrize("usage", [True, False])
def test_a_stream_is_joined_to_the_same(entry: Entry, usage: bool) -> None:
    options = {"stream_options": {"include_usage": True}} if usage else {}
    body, kind = replay(entry, ask(stream=True, **options), 110.9, identifier="i")
    assert kind == "text/event-stream; charset=utf-8"
    found = chunks(body)
    choices = [c["choices"][0] for c in found if c["choices"]]
    assert "".join(c["delta"].get("content", "") for c in choices) == entry.reply.text
    calls = [call for c in choices for call in c["delta"].get("tool_calls", ())]
    assert [{k: v for k, v in call.items() if k != "index"} for call in calls] == list(entry.reply.tool_calls)
    assert [call["index"] for call in calls] == list(range(len(calls)))
    assert choices[-1]["finish_reason"] == entry.reply.finish_reason
    assert {c["created"] for c in found} == {110}
    assert (not found[-1]["choices"]) is usage


@pytest.mark.parametrize("stream", [None, False])
def test_only_true_asks_for_a_stream(stream: object) -> None:
    assert replay(TEXT, ask(stream=stream), 1.0, identifier="i")[1].startswith("application/json")


@pytest.mark.parametrize("status", list(Status))
def test_a_status_is_told_with_a_key_where_there_is_one(status: Status) -> None:
    assert status_headers(status) == {"X-Cache-Status": status.value}
    assert status_headers(status, "k") == {"X-Cache-Status": status.value, "X-Cache-Key": "k"}


@pytest.mark.parametrize("now", [0.0, 100.0, 159.99, 160.0, 1e9])
def test_numbers_in_headers_are_whole_and_never_negative(now: float) -> None:
    headers = hit_headers(Hit("n", TEXT, Level.EXACT), now)
    assert headers["Age"].isdigit()
    assert headers["X-Cache-Ttl"].isdigit()


def test_a_hit_says_what_it_is() -> None:
    assert hit_headers(Hit("n", TEXT, Level.EXACT), 110.9) == {
        "X-Cache-Status": "Hit",
        "X-Cache-Key": "n",
        "X-Cache-Ttl": "49",
        "Age": "10",
    }
    assert hit_headers(Hit("n", TEXT, Level.SIMILAR, 1.00001), 999.0)["X-Cache-Similarity"] == "1.0000"
    assert hit_headers(Hit("n", TEXT, Level.SIMILAR, 0.5), 999.0)["X-Cache-Ttl"] == "0"
