"""Requests in the formats of providers (formats/*.lua); tests/e2e/test_providers.py has replies and streams."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lua_rig import exchange, state
from tenantgate.devhost import lua, mock_demands
from tenantgate.paths import plugins_dir

FORMATS = "kong.plugins.tenantgate-target.formats."
LUA = state(
    {"untrusted_lua_sandbox_requires": ",".join(FORMATS + f for f in ("openai", "anthropic", "bedrock"))},
    f"{plugins_dir()}/?.lua;;",
)
MAKE = LUA.compile(
    f"""
    local s = kong.ctx.shared
    local made, body = pcall(require("{FORMATS}" .. s.format).request, s.request, s.model, s.settings)
    return {{made = made, body = body}}
    """,
    "make",
)
JSON = {"anthropic-version": "2023-06-01", "x-api-key": "k"}
TOOL = {"type": "function", "function": {"name": "clock", "parameters": {"type": "object"}}}


def made(
    kind: str,
    body: dict[str, Any],
    options: dict[str, Any] | None = None,
    settings: dict[str, Any] | None = None,
) -> Any:
    """The body that the provider gets, or the refusal's text."""
    shared = {
        "format": kind,
        "model": {"name": "claude", "options": options or {}},
        "settings": settings or {"stream_usage": "asked"},
        "request": body,
    }
    found = LUA.run(exchange(shared=shared), "test", MAKE)
    if not found[b"made"]:
        return lua.from_bytes(found[b"body"])
    return json.loads(lua.encode(LUA.values.to_python(found[b"body"])))


def asks(*messages: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"messages": list(messages) or [{"role": "user", "content": "Hi"}], **more}


@pytest.mark.parametrize(
    ("body", "options", "sent"),
    [
        ({"max_tokens": 5}, {}, {"max_tokens": 5}),
        ({"max_tokens": 5}, {"max_tokens": 9}, {"max_tokens": 9}),
        ({"max_completion_tokens": 5}, {"max_tokens": 9}, {"max_completion_tokens": 9}),
        ({"max_completion_tokens": 5, "max_tokens": 6}, {"max_tokens": 9}, {"max_completion_tokens": 9}),
        ({"temperature": 1, "top_p": 0.5}, {"temperature": 0.2}, {"temperature": 0.2, "top_p": 0.5}),
        ({"top_k": 3}, {}, {}),
        ({"stream": True}, {}, {"stream": True, "stream_options": {"include_usage": True}}),
        (
            {"stream": True, "stream_options": {"include_usage": False, "x": 1}},
            {},
            {"stream": True, "stream_options": {"include_usage": True, "x": 1}},
        ),
        ({"stream_options": {"x": 1}}, {}, {"stream_options": {"x": 1}}),
    ],
)
def test_openais_format(body: dict[str, Any], options: dict[str, Any], sent: dict[str, Any]) -> None:
    found = made("openai", asks(**body), options)
    assert found == {**asks(), "model": "claude", "stream": False, **sent}


@pytest.mark.parametrize(
    ("usage", "given", "sent"),
    [
        ("off", {}, {}),
        ("off", {"stream_options": {"include_usage": True}}, {"stream_options": {"include_usage": True}}),
        ("implied", {"stream_options": {"include_usage": True}}, {}),
    ],
)
def test_a_provider_that_refuses_to_be_asked_is_not(
    usage: str, given: dict[str, Any], sent: dict[str, Any]
) -> None:
    found = made("openai", asks(stream=True, **given), settings={"stream_usage": usage})
    assert found.get("stream_options") == sent.get("stream_options")


def test_top_k_goes_to_those_who_have_it() -> None:
    assert made("openai", asks(top_k=3), settings={"stream_usage": "off", "top_k": True})["top_k"] == 3


CALLS = [
    {"id": "a", "type": "function", "function": {"name": "clock", "arguments": '{"x": [1]}'}},
    {"id": "b", "type": "function", "function": {"name": "clock", "arguments": ""}},
]
TURNS = (
    {"role": "system", "content": "One."},
    {"role": "developer", "content": [{"type": "text", "text": "Two."}]},
    {"role": "user", "content": "Hi"},
    {"role": "assistant", "content": "Let me see.", "tool_calls": CALLS},
    {"role": "tool", "tool_call_id": "a", "content": "sunny"},
    {"role": "tool", "tool_call_id": "b", "content": [{"type": "text", "text": "noon"}]},
    {"role": "user", "content": [{"type": "text", "text": "And?"}]},
)


def test_anthropic_gets_turns_with_tools() -> None:
    found = made("anthropic", asks(*TURNS, tools=[TOOL], stop="x", user="u", parallel_tool_calls=False))
    assert mock_demands.anthropic(found, JSON) is None
    assert [b["text"] for b in found["system"]] == ["One.", "Two."]
    _, assistant, results, last = found["messages"]
    assert [b["type"] for b in assistant["content"]] == ["text", "tool_use", "tool_use"]
    assert [b.get("input") for b in assistant["content"][1:]] == [{"x": [1]}, {}]
    assert [b["tool_use_id"] for b in results["content"]] == ["a", "b"]
    assert last == {"role": "user", "content": [{"type": "text", "text": "And?"}]}
    assert found["tool_choice"] == {"type": "auto", "disable_parallel_tool_use": True}
    assert (found["stop_sequences"], found["metadata"], found["max_tokens"]) == (
        ["x"],
        {"user_id": "u"},
        4096,
    )


def test_anthropic_gets_the_schema_of_an_output_closed() -> None:
    inner = {"type": "object", "properties": {"type": {"type": "string"}}, "required": ["type"]}
    schema = {"type": "object", "properties": {"a": inner, "b": {"type": "array", "items": inner}}}
    shape = {"type": "json_schema", "json_schema": {"name": "n", "schema": schema}}
    shut = {**inner, "additionalProperties": False}
    found = made("anthropic", asks(response_format=shape))
    assert mock_demands.anthropic(found, JSON) is None
    assert found["output_config"] == {
        "format": {
            "type": "json_schema",
            "schema": {
                "type": "object",
                "properties": {"a": shut, "b": {"type": "array", "items": shut}},
                "additionalProperties": False,
            },
        }
    }
    own = {"effort": "low", "format": {"type": "json_schema", "schema": schema}}
    assert made("anthropic", asks(response_format=shape, output_config=own))["output_config"] == own
    assert "output_config" not in made("anthropic", asks(response_format={"type": "json_object"}))


def test_bedrock_gets_turns_with_tools() -> None:
    found = made("bedrock", asks(*TURNS, tools=[TOOL], tool_choice="required", max_tokens=7, stop=["x"]))
    assert mock_demands.bedrock(found) is None
    assert found["system"] == [{"text": "One."}, {"text": "Two."}]
    user, assistant, results = found["messages"]
    assert user == {"role": "user", "content": [{"text": "Hi"}]}
    assert [next(iter(b)) for b in assistant["content"]] == ["text", "toolUse", "toolUse"]
    assert [next(iter(b)) for b in results["content"]] == ["toolResult", "toolResult", "text"]
    assert found["inferenceConfig"] == {"maxTokens": 7, "stopSequences": ["x"]}
    assert list(found["toolConfig"]["toolChoice"]) == ["any"]


@pytest.mark.parametrize(
    ("choice", "anthropic", "bedrock"),
    [
        (None, None, None),
        ("auto", {"type": "auto"}, {"auto": {}}),
        ("required", {"type": "any"}, {"any": {}}),
        ("none", {"type": "none"}, None),
        ({"type": "function", "function": {"name": "clock"}}, {"type": "tool", "name": "clock"}, "clock"),
    ],
)
def test_the_choice_of_tools(choice: Any, anthropic: Any, bedrock: Any) -> None:
    body = asks(tools=[TOOL], **({} if choice is None else {"tool_choice": choice}))
    assert made("anthropic", body).get("tool_choice") == anthropic
    config = made("bedrock", body).get("toolConfig", {})
    expected = {"tool": {"name": "clock"}} if bedrock == "clock" else bedrock
    assert config.get("toolChoice") == expected
    assert ("tools" in config) is (choice != "none")


@pytest.mark.parametrize(
    ("part", "anthropic", "bedrock"),
    [
        (
            {"type": "image_url", "image_url": {"url": "data:image/jpg;base64,aGk="}},
            {"type": "base64", "media_type": "image/jpg", "data": "aGk="},
            {"format": "jpeg", "source": {"bytes": "aGk="}},
        ),
        (
            {"type": "image_url", "image_url": {"url": "https://h/i.png"}},
            {"type": "url", "url": "https://h/i.png"},
            "bedrock takes images as data URLs only",
        ),
        (
            {"type": "input_audio", "input_audio": {"data": "x"}},
            "anthropic takes no part of type 'input_audio' here",
            "bedrock takes no part of type 'input_audio' here",
        ),
    ],
)
def test_parts_of_a_message(part: Any, anthropic: Any, bedrock: Any) -> None:
    body = asks({"role": "user", "content": [part]})
    found = made("anthropic", body)
    assert (found if isinstance(found, str) else found["messages"][0]["content"][0]["source"]) == anthropic
    found = made("bedrock", body)
    assert (found if isinstance(found, str) else found["messages"][0]["content"][0]["image"]) == bedrock


def test_arguments_that_are_no_json_are_refused() -> None:
    call = {"id": "a", "type": "function", "function": {"name": "clock", "arguments": "{"}}
    body = asks(
        {"role": "user", "content": "Hi"}, {"role": "assistant", "content": None, "tool_calls": [call]}
    )
    for kind in ("anthropic", "bedrock"):
        assert made(kind, body) == "the arguments of a tool call aren't a JSON object"


ROLES = st.sampled_from(["user", "assistant", "system", "developer"])


@given(st.lists(st.tuples(ROLES, st.text(min_size=1, max_size=5)), max_size=8))
def test_bedrock_gets_the_roles_by_turns_whatever_the_client_sends(turns: list[tuple[str, str]]) -> None:
    messages = [{"role": "user", "content": "Hi"}, *({"role": r, "content": t} for r, t in turns)]
    assert mock_demands.bedrock(made("bedrock", {"messages": messages})) is None
