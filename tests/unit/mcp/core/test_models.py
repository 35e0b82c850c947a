from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenantgate.mcp.core.models import ModelCaller, ModelReader, model_tool, name_of
from tenantgate.mcp.core.tool import ArgumentError, UpstreamRequest
from tenantgate.mcp.core.validation import Validator

TOOL = model_tool("fast")


def asked(**arguments: Any) -> Any:
    made = ModelCaller(TOOL).request(arguments)
    assert isinstance(made, UpstreamRequest)
    assert (made.method, made.url) == ("POST", "/v1/chat/completions")
    return json.loads(made.body)


@pytest.mark.parametrize(
    ("arguments", "messages"),
    [
        ({"prompt": "Hi"}, [("user", "Hi")]),
        ({"prompt": "Hi", "system": "Short."}, [("system", "Short."), ("user", "Hi")]),
        ({"messages": [{"role": "user", "content": "Hi"}], "prompt": None}, [("user", "Hi")]),
        (
            {"messages": [{"role": "assistant", "content": "A"}], "system": "S"},
            [("system", "S"), ("assistant", "A")],
        ),
    ],
)
def test_a_call_is_a_chat(arguments: dict[str, Any], messages: list[tuple[str, str]]) -> None:
    body = asked(**arguments)
    assert [(m["role"], m["content"]) for m in body["messages"]] == messages
    assert (body["model"], body["stream"], "max_tokens" in body) == ("fast", False, False)


def test_the_length_of_the_answer_goes_along() -> None:
    assert asked(prompt="Hi", max_tokens=7)["max_tokens"] == 7


@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        ({}, "prompt"),
        ({"prompt": "a", "messages": [{"role": "user", "content": "b"}]}, "prompt"),
        ({"prompt": ""}, "prompt"),
        ({"prompt": 1}, "prompt"),
        ({"prompt": "a", "max_tokens": 0}, "max_tokens"),
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages[0].role"),
        ({"prompt": "a", "model": "dear"}, "model"),
        ({"prompt": "a", "stream": True}, "stream"),
        ([], ""),
    ],
)
def test_what_does_not_fit_is_named(arguments: Any, field: str) -> None:
    found = ModelCaller(TOOL).request(arguments)
    assert isinstance(found, ArgumentError)
    assert found.field == field


@given(st.dictionaries(st.text(max_size=12), st.text() | st.integers() | st.none(), max_size=5))
def test_no_argument_names_another_model(arguments: dict[str, Any]) -> None:
    made = ModelCaller(TOOL).request(arguments)
    if isinstance(made, UpstreamRequest):
        assert json.loads(made.body)["model"] == "fast"


ANSWER = {
    "model": "small-1",
    "choices": [{"message": {"role": "assistant", "content": "Yes."}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 3, "completion_tokens": 1, "total_tokens": 4},
}


def test_the_answer_is_text_and_structured() -> None:
    found = ModelReader().result(200, "application/json", json.dumps(ANSWER).encode())
    assert found.content == ({"type": "text", "text": "Yes."},)
    assert found.structured == {
        "text": "Yes.",
        "model": "small-1",
        "finish_reason": "stop",
        "usage": {"prompt_tokens": 3, "completion_tokens": 1},
    }


@pytest.mark.parametrize(
    ("status", "body", "said"),
    [
        (429, {"error": {"message": "Rate limit reached."}}, "HTTP 429: Rate limit reached."),
        (503, {}, "HTTP 503"),
        (200, {"choices": []}, "The model gave no text."),
        (200, {"choices": [{"message": {"content": None, "tool_calls": []}}]}, "The model gave no text."),
        (200, [], "The model gave no text."),
    ],
)
def test_what_is_no_answer_is_an_error(status: int, body: Any, said: str) -> None:
    found = ModelReader().result(status, "application/json", json.dumps(body).encode())
    assert (found.is_error, found.content[0]["text"]) == (True, said)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@given(st.sampled_from([200, 400, 502]), JSON, st.sampled_from(["choices", "error", "usage", "model", "x"]))
def test_whatever_comes_is_a_result_that_fits(status: int, value: Any, member: str) -> None:
    body = json.dumps({**ANSWER, member: value}).encode()
    found = ModelReader().result(status, "", body)
    if not found.is_error:
        assert TOOL.output_schema is not None
        assert Validator(TOOL.output_schema).is_valid(dict(found.structured or {}))


@given(st.text(min_size=1, max_size=200))
def test_names_are_what_clients_take(model: str) -> None:
    name = name_of(model)
    assert len(name) <= 64
    assert set(name) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-")


def test_another_model_is_another_tool() -> None:
    assert TOOL.fingerprint != model_tool("smart", name="ask-fast", description=TOOL.description).fingerprint
