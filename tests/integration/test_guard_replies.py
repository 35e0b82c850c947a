"""The guard of replies: no shape of a provider's reply hides anything, and what is changed keeps the rest."""

from __future__ import annotations

import gzip
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from guard_rig import CANARY, REPLY, access, chat, plugin, response, rule
from tenantgate.kong.testing import FakeKong

CARD = "4111 1111 1111 1111"
SSE = "text/event-stream"


def sse(*values: Any, end: str = "\n", done: bool = True) -> bytes:
    texts = [v if isinstance(v, str) else json.dumps(v) for v in values]
    lines = "".join(f"data: {t}{end}{end}" for t in (*texts, *(["[DONE]"] if done else [])))
    return lines.encode()


def chunk(delta: Any, index: int = 0, **more: Any) -> dict[str, Any]:
    return {
        "id": "c1",
        "object": "chat.completion.chunk",
        "created": 1732881234,
        "model": "gpt-4o-mini",
        "choices": [{"index": index, "delta": delta, "finish_reason": None, **more}],
    }


def told(kong: FakeKong) -> list[dict[str, Any]]:
    assert kong.exit is not None
    lines = kong.exit.body.decode().split("\n")
    return [json.loads(line[6:]) for line in lines if line.startswith("data: {")]


def said(kong: FakeKong, name: str = "content", index: int = 0) -> str:
    choices = [c for e in told(kong) for c in e.get("choices", ()) if c["index"] == index]
    return "".join(c["delta"].get(name) or "" for c in choices)


def anthropic(*deltas: dict[str, Any]) -> bytes:
    events = [
        {
            "type": "message_start",
            "message": {
                "id": "m",
                "role": "assistant",
                "model": "claude",
                "content": [],
                "usage": {"input_tokens": 3, "output_tokens": 1},
            },
        },
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        *({"type": "content_block_delta", "index": 0, "delta": d} for d in deltas),
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 9}},
        {"type": "message_stop"},
    ]
    return "".join(f"event: {e['type']}\ndata: {json.dumps(e)}\n\n" for e in events).encode()


SPLIT = ("4111 11", "11 1111", " 1111 ")
STREAMS: dict[str, bytes] = {
    "text": sse(*(chunk({"content": p}) for p in SPLIT)),
    "parts": sse(*(chunk({"content": [{"type": "text", "text": p}]}) for p in SPLIT)),
    "several parts": sse(chunk({"content": [{"type": "text", "text": p} for p in SPLIT]})),
    "thinking parts": sse(
        *(
            chunk({"content": [{"type": "thinking", "thinking": [{"type": "text", "text": p}]}]})
            for p in SPLIT
        )
    ),
    "reasoning": sse(*(chunk({"reasoning_content": p}) for p in SPLIT)),
    "reasoning details": sse(
        *(chunk({"reasoning_details": [{"type": "reasoning.text", "text": p, "index": 0}]}) for p in SPLIT)
    ),
    "refusal": sse(*(chunk({"refusal": p}) for p in SPLIT)),
    "transcript": sse(*(chunk({"audio": {"id": "a", "transcript": p}}) for p in SPLIT)),
    "tool": sse(*(chunk({"tool_calls": [{"index": 1, "function": {"arguments": p}}]}) for p in SPLIT)),
    "tool in quotes": sse(
        *(
            chunk({"tool_calls": [{"index": 1, "function": {"arguments": p}}]})
            for p in ('{"a": "\\u00', "341", "11 1111 1111 ", '1111"}')
        )
    ),
    "custom tool": sse(*(chunk({"tool_calls": [{"index": 0, "custom": {"input": p}}]}) for p in SPLIT)),
    "tool name": sse(chunk({"tool_calls": [{"index": 0, "function": {"name": CARD}}]})),
    "function call": sse(*(chunk({"function_call": {"arguments": p}}) for p in SPLIT)),
    "log probabilities": sse(
        *(
            chunk({"content": "x"}, logprobs={"content": [{"token": p, "logprob": -1, "bytes": None}]})
            for p in SPLIT
        )
    ),
    "bytes": sse(
        *(
            chunk(
                {"content": "x"},
                logprobs={"content": [{"token": "", "logprob": -1, "bytes": list(p.encode())}]},
            )
            for p in SPLIT
        )
    ),
    "top": sse(
        chunk({"content": "x"}, logprobs={"content": [{"token": "x", "top_logprobs": [{"token": CARD}]}]})
    ),
    "second choice": sse(
        *(c for p in SPLIT for c in (chunk({"content": p}, 1), chunk({"content": "ab 12"}, 0)))
    ),
    "message in a chunk": sse({"choices": [{"index": 0, "message": {"role": "assistant", "content": CARD}}]}),
    "text in a choice": sse(*({"choices": [{"index": 0, "text": p}]} for p in SPLIT)),
    "error": sse(chunk({"content": "x"}), {"error": {"message": f"no {CARD}", "code": 400}}),
    "bare error": sse(chunk({"content": "x"}), {"message": f"no {CARD}"}),
    "citations": sse(chunk({"content": "x"}), {**chunk({}), "citations": [f"https://x.example/{CARD}"]}),
    "search results": sse(
        {**chunk({"content": "x"}), "search_results": [{"title": CARD, "url": "https://x.example"}]}
    ),
    "annotations": sse(chunk({"annotations": [{"type": "url_citation", "url_citation": {"title": CARD}}]})),
    "unknown": sse({**chunk({"content": "x"}), "weird": {"deep": [{"er": CARD}]}}),
    "key": sse({**chunk({"content": "x"}), "weird": {CARD: 1}}),
    "number": sse({**chunk({"content": "x"}), "weird": 4111111111111111}),
    "id": sse({**chunk({"content": "x"}), "id": "4111111111111111"}),
    "finish reason": sse(chunk({"content": "x"}, finish_reason="4111-1111-1111-1111")),
    "role": sse(chunk({"role": CARD})),
    "event name": b"event: 4111111111111111\n" + sse(chunk({"content": "x"})),
    "comment": b": 4111 1111 1111 1111\n\n" + sse(chunk({"content": "x"})),
    "comment beside": b": 4111 1111 1111 1111\n" + sse(chunk({"content": "x"})),
    "unknown field": b"note: 4111 1111 1111 1111\n\n" + sse(chunk({"content": "x"})),
    "event id": b"id: 4111111111111111\n" + sse(chunk({"content": "x"})),
    "several lines": b'data: {"choices": [{"index": 0, "delta":\ndata: {"content": "4111 1111 1111 1111"}}]}\n\n'
    + sse(chunk({"content": "x"})),
    "carriage returns": sse(*(chunk({"content": p}) for p in SPLIT), end="\r"),
    "both": sse(*(chunk({"content": p}) for p in SPLIT), end="\r\n"),
    "mark of order": b"\xef\xbb\xbf" + sse(*(chunk({"content": p}) for p in SPLIT)),
    "no blank": sse(*(chunk({"content": p}) for p in SPLIT)).replace(b"data: ", b"data:"),
    "no end": sse(*(chunk({"content": p}) for p in SPLIT), done=False).rstrip(),
    "no json": sse(chunk({"content": "x"}), f"so {CARD}"),
    "half of json": sse(chunk({"content": "x"}), '{"choices": [{"delta": {"content": "4111 1111 1111 1111'),
    "json in halves": sse(chunk({"content": "x"}), '{"x": "4111 1111', ' 1111 1111"}'),
    "a name twice": sse(
        chunk({"content": "x"}),
        '{"choices": [{"delta": {"content": "4111 1111 1111 1111", "content": "a"}}]}',
    ),
    "escapes": sse(
        chunk({"content": "x"}),
        '{"choices": [{"delta": {"content": "4111\\u00201111\\u00201111\\u00201111"}}]}',
    ),
    "json text": sse(chunk({"content": '{\\"card\\": \\"x\\\\n4111111111111111\\"}'})),
    "data in a text": sse(chunk({"content": "4111&#49;11111111111"})),
    "a list": sse(chunk({"content": "x"}), [{"a": CARD}]),
    "obfuscation": sse({**chunk({"content": "x"}), "obfuscation": "4111111111111111"}),
    "anthropic": anthropic(*({"type": "text_delta", "text": p} for p in SPLIT)),
    "anthropic thinking": anthropic(*({"type": "thinking_delta", "thinking": p} for p in SPLIT)),
    "anthropic tool": anthropic(*({"type": "input_json_delta", "partial_json": p} for p in SPLIT)),
    "anthropic citation": anthropic({"type": "citations_delta", "citation": {"cited_text": CARD}}),
    "gemini": sse(
        *({"candidates": [{"content": {"parts": [{"text": p}], "role": "model"}}]} for p in SPLIT), done=False
    ),
    "gemini call": sse(
        {"candidates": [{"content": {"parts": [{"functionCall": {"name": "f", "args": {"a": CARD}}}]}}]},
        done=False,
    ),
    "gemini grounding": sse(
        {
            "candidates": [
                {"content": {"parts": [{"text": "x"}]}, "groundingMetadata": {"webSearchQueries": [CARD]}}
            ]
        }
    ),
    "cohere": sse(
        *(
            {"type": "content-delta", "index": 0, "delta": {"message": {"content": {"text": p}}}}
            for p in SPLIT
        )
    ),
    "bedrock": sse(*({"contentBlockDelta": {"delta": {"text": p}, "contentBlockIndex": 0}} for p in SPLIT)),
    "responses": sse(
        *(
            {"type": "response.output_text.delta", "output_index": 0, "content_index": 0, "delta": p}
            for p in SPLIT
        )
    ),
}
BODIES: dict[str, Any] = {
    "parts": {
        "choices": [{"index": 0, "message": {"content": [{"type": "text", "text": p} for p in SPLIT]}}]
    },
    "second choice": {"choices": [{"message": {"content": "x"}}, {"message": {"content": CARD}}]},
    "reasoning": {"choices": [{"message": {"content": "x", "reasoning": CARD}}]},
    "reasoning details": {
        "choices": [{"message": {"content": "x", "reasoning_details": [{"summary": CARD}]}}]
    },
    "tool": {
        "choices": [
            {"message": {"tool_calls": [{"function": {"arguments": '{"a": "4111\\u00201111 1111 1111"}'}}]}}
        ]
    },
    "log probabilities": {
        "choices": [{"message": {"content": "x"}, "logprobs": {"content": [{"token": p} for p in SPLIT]}}]
    },
    "citations": {"choices": [{"message": {"content": "x"}}], "citations": [CARD]},
    "error": {"error": {"message": CARD}},
    "unknown": {"choices": [{"message": {"content": "x"}}], "x": {"y": [CARD]}},
    "number": {"choices": [{"message": {"content": 4111111111111111}}]},
    "anthropic": {
        "content": [
            {"type": "text", "text": "x"},
            {"type": "tool_use", "id": "1", "name": "f", "input": {"name": CARD}},
        ]
    },
    "gemini": {"candidates": [{"content": {"parts": [{"text": p} for p in SPLIT]}}]},
    "gemini stream": [{"candidates": [{"content": {"parts": [{"text": p}]}}]} for p in SPLIT],
    "cohere": {"id": "1", "message": {"role": "assistant", "content": [{"type": "text", "text": CARD}]}},
    "bedrock": {"output": {"message": {"role": "assistant", "content": [{"text": CARD}]}}},
    "titan": {"results": [{"outputText": CARD}]},
    "responses": {"output": [{"type": "message", "content": [{"type": "output_text", "text": CARD}]}]},
    "embedding": {
        "choices": [{"message": {"content": "x"}}],
        "provider_specific": {"raw": json.dumps({"a": [CARD]})},
    },
}


@pytest.mark.parametrize("name", STREAMS)
@pytest.mark.parametrize("mode", ["block", "mask"])
def test_no_event_hides_what_a_rule_forbids(name: str, mode: str) -> None:
    kong = response(plugin(rule("personal_data", mode), kind=REPLY), STREAMS[name], kind=SSE)
    assert kong.exit is not None
    if mode == "block":
        assert (kong.exit.status, kong.exit.json["error"]["code"]) == (400, "reply_policy_violation")
    assert not leaks(kong.exit.body)


@pytest.mark.parametrize("name", BODIES)
@pytest.mark.parametrize("mode", ["block", "mask"])
def test_no_body_hides_what_a_rule_forbids(name: str, mode: str) -> None:
    kong = response(plugin(rule("personal_data", mode), kind=REPLY), json.dumps(BODIES[name]).encode())
    assert kong.exit is not None
    if mode == "block":
        assert kong.exit.status == 400
    assert not leaks(kong.exit.body)


def leaks(body: bytes) -> bool:
    """Whether anything like the card is left, in digits that follow each other or in several places."""
    return body.count(b"1111") > 0 or b"11 11" in body or b"49, 49, 49, 49" in body


@pytest.mark.parametrize(
    "raw",
    [
        b'{"choices": [{"message": {"content": "4111111111111111", "content": "hi"}}]}',
        b'"4111111111111111"',
        b"",
        b"[]",
        b"data: [DONE]\n\n",
        b"<p>hi</p>",
        b"\x00\x01",
        b"[" * 9999,
        b'{"choices": ' + b"[" * 300 + b"]" * 300 + b"}",
    ],
)
@pytest.mark.parametrize("kind", ["application/json", SSE])
def test_what_cannot_be_taken_apart_is_refused(raw: bytes, kind: str) -> None:
    kong = response(plugin(rule("personal_data", "block"), kind=REPLY), raw, kind=kind)
    assert kong.exit is not None
    assert kong.exit.status in (400, 503)


def test_a_second_gzip_member_is_not_passed_by() -> None:
    raw = gzip.compress(b'{"choices": []}') + gzip.compress(b" " + CARD.encode())
    kong = response(plugin(rule("personal_data", "block"), kind=REPLY), raw, encoding="gzip")
    assert kong.exit is not None
    assert kong.exit.status == 503


def test_a_masked_stream_keeps_everything_else() -> None:
    events = [
        chunk({"role": "assistant", "content": ""}),
        chunk({"reasoning_content": "think"}),
        chunk({"content": "card 4111 1111 "}, logprobs={"content": [{"token": "card"}]}),
        chunk({"content": "other"}, 1),
        chunk({"content": "1111 1111 and"}),
        chunk(
            {
                "tool_calls": [
                    {
                        "index": 0,
                        "id": "call_1",
                        "type": "function",
                        "function": {"name": "f", "arguments": ""},
                    }
                ]
            }
        ),
        chunk({"tool_calls": [{"index": 0, "function": {"arguments": '{"a": "b"}'}}]}),
        chunk({}, finish_reason="tool_calls"),
        {
            **chunk({}),
            "choices": [],
            "usage": {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7},
        },
        {"error": {"message": "overloaded", "code": 529}},
    ]
    raw = b": ping\n\nid: 7\n" + sse(*events)
    kong = response(plugin(rule("personal_data", "mask"), kind=REPLY), raw, kind=SSE)
    assert said(kong) == "card [CREDIT_CARD_1] and"
    assert (said(kong, index=1), said(kong, "reasoning_content")) == ("other", "think")
    made = told(kong)
    assert len(made) == len(events)
    events[2]["choices"][0].update(logprobs=None, delta={"content": "card [CREDIT_CARD_1]"})
    events[4]["choices"][0]["delta"] = {"content": " and"}
    assert made == events
    assert kong.exit is not None
    assert kong.exit.body.startswith(b": ping\n\nid: 7\ndata: {")
    assert kong.exit.body.endswith(b"data: [DONE]\n\n")


def test_a_masked_body_keeps_everything_else() -> None:
    message = {
        "role": "assistant",
        "content": f"a {CANARY}",
        "reasoning": "r",
        "annotations": [{"type": "x"}],
    }
    body = {
        "id": "c",
        "object": "chat.completion",
        "created": 1732881234,
        "model": "m",
        "system_fingerprint": "fp_1",
        "choices": [
            {"index": 0, "message": message, "logprobs": {"content": []}, "finish_reason": "stop"},
            {"index": 1, "message": {"role": "assistant", "content": "b"}, "finish_reason": "length"},
        ],
        "usage": {
            "prompt_tokens": 1,
            "completion_tokens": 2,
            "total_tokens": 3,
            "prompt_tokens_details": {"cached_tokens": 0},
        },
    }
    kong = response(plugin(rule("personal_data", "mask"), kind=REPLY), json.dumps(body).encode())
    assert kong.exit is not None
    message["content"] = "a [EMAIL_ADDRESS_1]"
    body["choices"][0]["logprobs"] = None  # type: ignore[index]
    assert kong.exit.json == body


@pytest.mark.parametrize("name", ["anthropic", "gemini", "cohere", "gemini stream"])
def test_another_provider_s_stream_is_sent_in_openai_s_shape(name: str) -> None:
    raw = STREAMS[name] if name in STREAMS else json.dumps(BODIES[name]).encode()
    kong = response(
        plugin(rule("personal_data", "mask"), kind=REPLY),
        raw,
        kind=SSE if name in STREAMS else "application/json",
    )
    assert said(kong).strip() == "[CREDIT_CARD_1]"
    assert kong.exit is not None
    assert kong.exit.body.endswith(b"data: [DONE]\n\n")
    if name == "anthropic":
        assert told(kong)[-1]["usage"] == {"prompt_tokens": 3, "completion_tokens": 9, "total_tokens": 12}
        assert told(kong)[-2]["choices"][0]["finish_reason"] == "stop"


def test_what_is_spoken_cannot_be_masked() -> None:
    body = {
        "choices": [{"message": {"content": None, "audio": {"id": "a", "data": "AAAA", "transcript": CARD}}}]
    }
    kong = response(plugin(rule("personal_data", "mask"), kind=REPLY), json.dumps(body).encode())
    assert kong.exit is not None
    assert kong.exit.status == 503


SECRET = "sk-ant-api03-" + "aB3" * 30
TOOL_RESULT = json.dumps(
    {"note": f'say "hi"\n{CANARY}', "key": SECRET, "card": 4111111111111111, "q": "a\u00e9\\"}
)


def masked(text: str) -> tuple[str, dict[str, Any]]:
    made = plugin(rule("personal_data", "mask"), rule("secrets", "mask"), recover_redacted=True)
    kong = access(made, chat(text))
    assert kong.sent_body is not None
    for value in (CANARY, SECRET, "4111111111111111"):
        assert value.encode() not in kong.sent_body
    return json.loads(kong.sent_body)["messages"][0]["content"], kong.shared


def pieces(text: str, cuts: list[int]) -> list[str]:
    ends = sorted({c % (len(text) + 1) for c in cuts})
    return [text[a:b] for a, b in zip([0, *ends], [*ends, len(text)], strict=True)]


@given(
    st.lists(st.integers(0, 10_000), max_size=12),
    st.sampled_from(["content", "reasoning_content", "arguments", "parts", "anthropic"]),
)
@settings(max_examples=60, deadline=None)
def test_what_was_masked_comes_back_whatever_the_stream_s_pieces(cuts: list[int], where: str) -> None:
    text, shared = masked(TOOL_RESULT)
    assert json.loads(text)["card"].startswith("[CREDIT_CARD_")
    parts = pieces(text, cuts)
    answering = plugin(kind=REPLY, recover_redacted=True)
    if where == "anthropic":
        raw = anthropic(*({"type": "text_delta", "text": p} for p in parts))
    elif where == "arguments":
        raw = sse(*(chunk({"tool_calls": [{"index": 0, "function": {"arguments": p}}]}) for p in parts))
    elif where == "parts":
        raw = sse(*(chunk({"content": [{"type": "text", "text": p}]}) for p in parts))
    else:
        raw = sse(*(chunk({where: p}) for p in parts))
    kong = response(answering, raw, kind=SSE, shared=shared)
    if where == "arguments":
        choices = [c for e in told(kong) for c in e["choices"]]
        back = "".join(c["delta"]["tool_calls"][0]["function"]["arguments"] for c in choices)
    elif where == "parts":
        back = "".join(p["text"] for e in told(kong) for c in e["choices"] for p in c["delta"]["content"])
    else:
        back = said(kong, "content" if where == "anthropic" else where)
    assert back == TOOL_RESULT


@pytest.mark.parametrize(
    "text",
    [
        TOOL_RESULT,
        f"mail {CANARY}",
        f"mailto:{CANARY.replace('@', '%40')}",
        f"a\\n{CANARY}\\n",
        json.dumps(json.dumps({"a": TOOL_RESULT})),
        f"<a href='{CANARY.replace('@', '&#64;')}'>",
    ],
)
def test_what_was_masked_comes_back_in_any_place_of_a_body(text: str) -> None:
    asked, shared = access_any(text)
    body = {
        "choices": [
            {
                "index": i,
                "message": {
                    "content": asked,
                    "reasoning": asked,
                    "refusal": asked,
                    "tool_calls": [{"id": "c", "function": {"name": "f", "arguments": asked}}],
                    "parts": [{"text": asked}],
                },
            }
            for i in range(2)
        ]
    }
    kong = response(plugin(kind=REPLY, recover_redacted=True), json.dumps(body).encode(), shared=shared)
    assert kong.exit is not None
    assert kong.exit.json == json.loads(
        json.dumps(body).replace(json.dumps(asked)[1:-1], json.dumps(text)[1:-1])
    )


def access_any(text: str) -> tuple[str, dict[str, Any]]:
    made = plugin(rule("personal_data", "mask"), rule("secrets", "mask"), recover_redacted=True)
    kong = access(made, chat(text))
    assert kong.sent_body is not None
    assert CANARY.encode() not in kong.sent_body
    return json.loads(kong.sent_body)["messages"][0]["content"], kong.shared
