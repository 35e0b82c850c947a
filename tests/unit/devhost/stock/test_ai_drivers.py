from __future__ import annotations

import json
from typing import Any

import pytest

from tenantgate.devhost import lua, mock_shapes
from tenantgate.devhost.mock_shapes import Reply
from tenantgate.devhost.stock.ai_drivers import DRIVERS, FormatError
from tenantgate.devhost.stock.sse import Event

MODEL: dict[str, Any] = {"provider": "x", "name": "big", "options": {"max_tokens": 9}}
REPLY = Reply("What is up?", "big")


def request(**more: Any) -> dict[str, Any]:
    return {"messages": [{"role": "system", "content": "S"}, {"role": "user", "content": "U"}], **more}


def encoded(value: Any) -> Any:
    return json.loads(lua.encode(value))


def test_openai_gets_its_own_shape_with_the_operators_options() -> None:
    got = DRIVERS["openai"].to_format(request(top_k=3, max_tokens=5, n=1), MODEL)
    assert (got["model"], got["stream"], got["max_tokens"], got["n"]) == ("big", False, 9, 1)
    assert "top_k" not in got


def test_anthropic_gets_the_system_prompt_apart() -> None:
    got = encoded(DRIVERS["anthropic"].to_format(request(stream=True), MODEL))
    assert got["system"] == "S"
    assert got["messages"] == [{"role": "user", "content": "U"}]
    assert (got["max_tokens"], got["stream"], got["model"]) == (9, True, "big")


def test_gemini_gets_contents() -> None:
    got = encoded(DRIVERS["gemini"].to_format(request(), MODEL))
    assert got["contents"] == [{"role": "user", "parts": [{"text": "U"}]}]
    assert got["systemInstruction"] == {"parts": [{"text": "S"}]}
    assert got["generationConfig"] == {"maxOutputTokens": 9}


@pytest.mark.parametrize("provider", ["openai", "anthropic", "gemini"])
def test_every_reply_becomes_openais(provider: str) -> None:
    body = json.dumps(getattr(mock_shapes, provider)(REPLY)).encode()
    got = json.loads(DRIVERS[provider].from_format(body, MODEL))
    assert got["choices"][0]["message"]["content"] == REPLY.text
    assert got["usage"]["total_tokens"] == sum(REPLY.usage)
    assert got["object"] == "chat.completion"


@pytest.mark.parametrize(
    ("provider", "body", "told"),
    [
        ("openai", b"no", "failed to decode"),
        ("openai", b"{}", "'choices' not in"),
        ("anthropic", b"{}", "'content' not in"),
        ("gemini", b"{}", "no generation candidates"),
    ],
)
def test_a_reply_of_another_shape_is_an_error(provider: str, body: bytes, told: str) -> None:
    with pytest.raises(FormatError, match=told):
        DRIVERS[provider].from_format(body, MODEL)


def test_anthropics_events_become_chunks_and_counts() -> None:
    state: dict[str, Any] = {}
    text, prompt, completion = "", 0, 0
    for given in mock_shapes.anthropic_events(REPLY):
        event = Event(data=json.dumps(given).encode(), event=given["type"].encode())
        data, counts = DRIVERS["anthropic"].stream_event(event, MODEL, state)
        if data and data != b"[DONE]":
            text += json.loads(data)["choices"][0]["delta"]["content"]
        if counts:
            prompt, completion = prompt + counts["prompt"], completion + counts["completion"]
    assert (text, data) == (REPLY.text, b"[DONE]")
    assert (prompt, completion) == (REPLY.usage[0], REPLY.usage[1] + 1)  # Kong adds the first event's one


@pytest.mark.parametrize(
    ("provider", "stream", "path"),
    [
        ("openai", False, "/v1/chat/completions"),
        ("anthropic", True, "/v1/messages"),
        ("gemini", True, "/v1beta/models/big:streamGenerateContent"),
        ("gemini", False, "/v1beta/models/big:generateContent"),
    ],
)
def test_each_provider_has_its_address(provider: str, stream: bool, path: str) -> None:
    url = DRIVERS[provider].url({"name": "big"}, stream=stream)
    assert (url.scheme, url.path) == ("https", path)
    own = {"name": "big", "options": {"upstream_url": "http://me:1/x"}}
    assert DRIVERS[provider].url(own, stream=stream).netloc == "me:1"
