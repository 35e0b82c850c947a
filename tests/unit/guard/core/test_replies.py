"""Replies of any provider, as JSON, events or lines, compressed or not."""

from __future__ import annotations

import gzip
import json
import zlib
from typing import Any

import pytest

from tenantgate.guard.core.replies import decompress, parse


def chunk(**delta: Any) -> str:
    return (
        "data: "
        + json.dumps({"model": "m", "choices": [{"index": 0, "delta": delta, "finish_reason": None}]})
        + "\n\n"
    )


@pytest.mark.parametrize(
    ("raw", "kind", "text"),
    [
        (
            chunk(content="jane@exa") + chunk(content="mple.com") + "data: [DONE]\n\n",
            "text/event-stream",
            "jane@example.com",
        ),
        (
            (
                'data: {"type":"content_block_delta","delta":{"type":"text_delta","text":"jane@"}}\r\n\r\n'
                'data: {"delta":{"text":"example.com"}}\r\n\r\n'
            ),
            "text/event-stream; charset=utf-8",
            "jane@example.com",
        ),
        (
            '{"content":[{"type":"text","text":"jane@example.com"}],"stop_reason":"end_turn","id":"x"}',
            "application/json",
            "jane@example.com",
        ),
        (
            '{"id":"x","choices":[{"message":{"role":"assistant","content":"jane@example.com"}}]}',
            "application/json",
            "jane@example.com",
        ),
        (
            '{"candidates":[{"content":{"parts":[{"text":"jane@example.com"}]},"finishReason":"STOP"}]}',
            None,
            "jane@example.com",
        ),
    ],
)
def test_replies_of_any_provider_are_read_and_rewritten_in_openai_s_shape(
    raw: str, kind: str | None, text: str
) -> None:
    reply = parse(raw.encode(), kind)
    assert reply is not None
    edits, count = reply.passage().rewritten(
        lambda t: [(t.find(text), t.find(text) + len(text), "[E]")] if text in t else []
    )
    assert count == 1
    made = reply.changed(edits).written(identifier="i", created=1)
    assert made is not None
    assert b"[E]" in made[0]
    assert b"jane" not in made[0]
    assert made[1].startswith("text/event-stream" if reply.events else "application/json")
    assert b'"choices"' in made[0]


def test_compressed_replies_are_read_up_to_a_bound() -> None:
    assert decompress(gzip.compress(b"hello"), "gzip", 100) == b"hello"
    assert decompress(zlib.compress(b"hello"), "deflate", 100) == b"hello"
    assert decompress(gzip.compress(b"a" * 1000), "gzip", 100) is None
    assert decompress(b"rubbish", "gzip", 100) is None
    assert decompress(b"hello", "br", 100) is None
    assert decompress(b"hello", None, 100) == b"hello"


@pytest.mark.parametrize(
    ("usage", "written"),
    [
        (
            '{"input_tokens":3,"output_tokens":4}',
            {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7},
        ),
        ('{"input_tokens":1e999,"output_tokens":4}', None),
        ('{"input_tokens":-3,"output_tokens":4}', None),
        ('{"input_tokens":true,"output_tokens":4}', None),
        ('{"input_tokens":3}', None),
    ],
)
def test_usage_of_another_provider_is_written_where_it_is_one(
    usage: str, written: dict[str, int] | None
) -> None:
    reply = parse(f'{{"content":[{{"type":"text","text":"x"}}],"usage":{usage}}}'.encode(), None)
    assert reply is not None
    made = reply.written(identifier="i", created=1)
    assert made is not None
    assert json.loads(made[0]).get("usage") == written


@pytest.mark.parametrize("usage", [False, True])
@pytest.mark.parametrize("native", [False, True])
def test_the_chunk_of_a_streams_usage_is_for_those_who_asked(native: bool, usage: bool) -> None:
    if native:
        events = [
            {"choices": [{"index": 0, "delta": {"content": "Hi"}}], "usage": None},
            {"choices": [], "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}},
        ]
    else:
        events = [
            {
                "type": "message_start",
                "message": {"id": "m", "usage": {"input_tokens": 1, "output_tokens": 1}},
            },
            {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": "Hi"}},
            {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 1}},
            {"type": "message_stop"},
        ]
    text = "".join(f"data: {json.dumps(event)}\n\n" for event in events)
    reply = parse(text.encode(), "text/event-stream")
    assert reply is not None
    made = reply.written(identifier="i", created=1, usage=usage)
    assert made is not None
    assert made[0].count(b'"prompt_tokens"') == usage
    assert b"Hi" in made[0]
