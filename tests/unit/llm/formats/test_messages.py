"""Requests of Anthropic's Messages API as chats. The examples follow Anthropic's documentation."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenantgate import llm
from tenantgate.llm import Refusal
from tenantgate.llm.formats import Format, Translated, estimate, to_chat

HI: list[dict[str, Any]] = [{"role": "user", "content": "Hi"}]
TOOL = {
    "name": "get_weather",
    "description": "Get the current weather in a given location",
    "input_schema": {
        "type": "object",
        "properties": {"location": {"type": "string"}},
        "required": ["location"],
    },
}
FUNCTION = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": TOOL["description"],
        "parameters": TOOL["input_schema"],
    },
}
PNG = {"type": "base64", "media_type": "image/png", "data": "aGk="}
PNG_URL = {"type": "image_url", "image_url": {"url": "data:image/png;base64,aGk="}}
USE = {"type": "tool_use", "id": "toolu_1", "name": "get_weather", "input": {"location": "San Francisco"}}
CALL = {
    "id": "toolu_1",
    "type": "function",
    "function": {"name": "get_weather", "arguments": '{"location":"San Francisco"}'},
}


def translated(messages: Any = HI, **more: Any) -> Translated | Refusal:
    body = {"model": "m", "max_tokens": 1024, "messages": messages, **more}
    return to_chat(Format.MESSAGES, json.dumps(body).encode())


def chat(messages: Any = HI, **more: Any) -> dict[str, Any]:
    made = translated(messages, **more)
    assert isinstance(made, Translated), made
    assert not isinstance(llm.read(llm.write(made.body)), Refusal)
    return made.body


def refused(messages: Any = HI, **more: Any) -> tuple[str | None, str]:
    made = translated(messages, **more)
    assert isinstance(made, Refusal)
    assert made.reason.status == 400
    return made.param, made.message


def test_a_plain_request() -> None:
    assert chat(temperature=0.5, top_p=0.9, top_k=5, stop_sequences=["END"]) == {
        "model": "m",
        "max_tokens": 1024,
        "messages": HI,
        "temperature": 0.5,
        "top_p": 0.9,
        "top_k": 5,
        "stop": ["END"],
    }


def test_a_stream_says_its_usage() -> None:
    body = chat(stream=True)
    assert (body["stream"], body["stream_options"]) == (True, {"include_usage": True})
    assert "stream_options" not in chat(stream=False)


@pytest.mark.parametrize(
    ("system", "text"),
    [
        ("Be brief.", "Be brief."),
        ([{"type": "text", "text": "A"}, {"type": "text", "text": "B"}], "A\n\nB"),
        ([{"type": "text", "text": "A", "cache_control": {"type": "ephemeral", "ttl": "1h"}}], "A"),
    ],
)
def test_a_system_prompt(system: Any, text: str) -> None:
    assert chat(system=system)["messages"] == [{"role": "system", "content": text}, *HI]


@pytest.mark.parametrize("system", ["", [], None])
def test_no_system_prompt(system: Any) -> None:
    assert chat(system=system)["messages"] == HI


@pytest.mark.parametrize(
    ("message", "made"),
    [
        ({"role": "user", "content": [{"type": "text", "text": "Hi"}]}, HI),
        (
            {"role": "user", "content": [{"type": "text", "text": "A"}, {"type": "text", "text": "B"}]},
            [{"role": "user", "content": [{"type": "text", "text": "A"}, {"type": "text", "text": "B"}]}],
        ),
        (
            {
                "role": "user",
                "content": [{"type": "image", "source": PNG}, {"type": "text", "text": "What is it?"}],
            },
            [{"role": "user", "content": [PNG_URL, {"type": "text", "text": "What is it?"}]}],
        ),
        (
            {
                "role": "user",
                "content": [{"type": "image", "source": {"type": "url", "url": "https://a/b.jpg"}}],
            },
            [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "https://a/b.jpg"}}]}],
        ),
        (
            {
                "role": "user",
                "content": [
                    {
                        "type": "document",
                        "title": "T",
                        "source": {"type": "text", "media_type": "text/plain", "data": "the text"},
                    }
                ],
            },
            [{"role": "user", "content": "T\nthe text"}],
        ),
        (
            {
                "role": "user",
                "content": [
                    {"type": "tool_result", "tool_use_id": "toolu_1", "content": "15 degrees"},
                    {"type": "tool_result", "tool_use_id": "toolu_2"},
                    {"type": "text", "text": "And now?"},
                ],
            },
            [
                {"role": "tool", "tool_call_id": "toolu_1", "content": "15 degrees"},
                {"role": "tool", "tool_call_id": "toolu_2", "content": ""},
                {"role": "user", "content": "And now?"},
            ],
        ),
        (
            {
                "role": "user",
                "content": [
                    {
                        "type": "tool_result",
                        "tool_use_id": "t",
                        "is_error": True,
                        "content": [{"type": "text", "text": "ConnectionError"}],
                    }
                ],
            },
            [{"role": "tool", "tool_call_id": "t", "content": "The tool failed.\nConnectionError"}],
        ),
        (
            {
                "role": "user",
                "content": [
                    {
                        "type": "tool_result",
                        "tool_use_id": "t",
                        "content": [{"type": "text", "text": "a.png"}, {"type": "image", "source": PNG}],
                    }
                ],
            },
            [
                {
                    "role": "tool",
                    "tool_call_id": "t",
                    "content": "a.png\nThe images of this result follow in the next message of the user.",
                },
                {
                    "role": "user",
                    "content": [{"type": "text", "text": "Images of the result of t:"}, PNG_URL],
                },
            ],
        ),
    ],
)
def test_what_the_user_says(message: Any, made: Any) -> None:
    assert chat([message])["messages"] == made


@pytest.mark.parametrize(
    ("content", "made"),
    [
        ("Hello", {"content": "Hello"}),
        ([{"type": "text", "text": "A"}, {"type": "text", "text": "B"}], {"content": "A\nB"}),
        ([USE], {"content": None, "tool_calls": [CALL]}),
        (
            [{"type": "text", "text": "Let me look."}, USE, {**USE, "id": "toolu_2", "input": {}}],
            {
                "content": "Let me look.",
                "tool_calls": [
                    CALL,
                    {
                        "id": "toolu_2",
                        "type": "function",
                        "function": {"name": "get_weather", "arguments": "{}"},
                    },
                ],
            },
        ),
        (
            [
                {"type": "thinking", "thinking": "…", "signature": "s"},
                {"type": "redacted_thinking", "data": "x"},
                {"type": "text", "text": "A"},
            ],
            {"content": "A"},
        ),
    ],
)
def test_what_the_assistant_has_said(content: Any, made: Any) -> None:
    found = chat([*HI, {"role": "assistant", "content": content}, *HI])["messages"]
    assert found[1] == {"role": "assistant", **made}


@pytest.mark.parametrize("kind", [{}, {"type": "custom"}])
def test_tools(kind: dict[str, str]) -> None:
    assert chat(tools=[{**TOOL, **kind, "cache_control": {"type": "ephemeral"}}])["tools"] == [FUNCTION]
    strict = chat(tools=[{**TOOL, "strict": True, "eager_input_streaming": True}])["tools"]
    assert strict[0]["function"]["strict"] is True


@pytest.mark.parametrize(
    ("choice", "made"),
    [
        ({"type": "auto"}, {"tool_choice": "auto"}),
        ({"type": "any"}, {"tool_choice": "required"}),
        ({"type": "none"}, {"tool_choice": "none"}),
        (
            {"type": "tool", "name": "get_weather"},
            {"tool_choice": {"type": "function", "function": {"name": "get_weather"}}},
        ),
        (
            {"type": "auto", "disable_parallel_tool_use": True},
            {"tool_choice": "auto", "parallel_tool_calls": False},
        ),
    ],
)
def test_choice_of_tools(choice: Any, made: dict[str, Any]) -> None:
    assert made.items() <= chat(tools=[TOOL], tool_choice=choice).items()


@pytest.mark.parametrize("name", ["output_config", "output_format"])
def test_structured_output(name: str) -> None:
    shape = {"type": "json_schema", "schema": {"type": "object"}}
    body = chat(**{name: {"format": shape} if name == "output_config" else shape})
    assert body["response_format"] == {
        "type": "json_schema",
        "json_schema": {"name": "output", "schema": {"type": "object"}, "strict": True},
    }


def test_a_request_of_claude_code() -> None:
    cached = {"cache_control": {"type": "ephemeral"}}
    made = translated(
        [
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "<system-reminder>…</system-reminder>"},
                    {"type": "text", "text": "List the files", **cached},
                ],
            },
            {
                "role": "assistant",
                "content": [
                    {"type": "thinking", "thinking": "", "signature": "Er8B…"},
                    {"type": "tool_use", "id": "toolu_01", "name": "Bash", "input": {"command": "ls"}},
                ],
            },
            {
                "role": "user",
                "content": [
                    {
                        "type": "tool_result",
                        "tool_use_id": "toolu_01",
                        "content": "a.py",
                        "is_error": False,
                        **cached,
                    }
                ],
            },
        ],
        system=[
            {"type": "text", "text": "You are Claude Code, Anthropic's official CLI for Claude.", **cached}
        ],
        tools=[
            {
                "name": "Bash",
                "description": "Runs a command",
                "input_schema": {"type": "object", "$schema": "https://json-schema.org/draft/2020-12/schema"},
            }
        ],
        metadata={"user_id": "user_1_account__session_2"},
        thinking={"type": "enabled", "budget_tokens": 31999},
        context_management={"edits": [{"type": "clear_thinking_20251015", "keep": "all"}]},
        output_config={"effort": "medium"},
        stream=True,
    )
    assert isinstance(made, Translated)
    assert made.ignored == (
        "cache_control",
        "context_management",
        "metadata",
        "output_config.effort",
        "thinking",
    )
    assert [m["role"] for m in made.body["messages"]] == ["system", "user", "assistant", "tool"]
    assert "user_1" not in json.dumps(made.body)


def test_what_anthropic_gets_beyond_a_chat() -> None:
    cached = {"cache_control": {"type": "ephemeral"}}
    thought = {"type": "thinking", "thinking": "hm", "signature": "s"}
    redacted = {"type": "redacted_thinking", "data": "x"}
    said = [thought, redacted, {"type": "text", "text": "A"}, USE]
    result = {"type": "tool_result", "tool_use_id": "toolu_1", "content": "15", **cached}
    body = {
        "model": "m",
        "max_tokens": 2048,
        "system": [{"type": "text", "text": "S"}, {"type": "text", "text": "T", **cached}],
        "messages": [
            {"role": "user", "content": [{"type": "text", "text": "Hi", **cached}]},
            {"role": "assistant", "content": said},
            {"role": "user", "content": [result]},
        ],
        "tools": [{**TOOL, **cached}],
        "thinking": {"type": "enabled", "budget_tokens": 1024},
        "output_config": {"effort": "low", "format": {"type": "json_schema", "schema": {}}},
        "metadata": {"user_id": "u"},
    }
    made = to_chat(Format.MESSAGES, json.dumps(body).encode(), native=True)
    assert isinstance(made, Translated)
    assert made.ignored == ("metadata",)
    assert made.body["thinking"] == body["thinking"]
    assert made.body["output_config"] == body["output_config"]
    assert "response_format" not in made.body
    assert made.body["tools"][0]["function"]["cache_control"] == cached["cache_control"]
    system, user, assistant, tool = made.body["messages"]
    assert system["content"] == body["system"]
    assert user["content"] == [{"type": "text", "text": "Hi", **cached}]
    assert assistant["thinking_blocks"] == [thought, redacted]
    assert (assistant["content"], assistant["tool_calls"]) == ("A", [CALL])
    assert tool["content"] == [{"type": "text", "text": "15", **cached}]
    plain = to_chat(Format.MESSAGES, json.dumps(body).encode())
    assert isinstance(plain, Translated)
    assert plain.ignored == ("cache_control", "metadata", "output_config.effort", "thinking")
    assert "cache_control" not in json.dumps(plain.body)
    assert "thinking" not in json.dumps(plain.body)


@pytest.mark.parametrize(
    ("more", "param"),
    [
        ({"container": "c"}, "container"),
        ({"mcp_servers": [{"type": "url", "url": "https://x", "name": "x"}]}, "mcp_servers"),
        ({"inference_geo": "us"}, "inference_geo"),
        ({"something_new": 1}, "something_new"),
        ({"max_tokens": None}, "max_tokens"),
        ({"max_tokens": "9"}, "max_tokens"),
        ({"max_tokens": float("1e999")}, None),
        ({"stream": "false"}, "stream"),
        ({"stop_sequences": [1]}, "stop_sequences"),
        ({"system": [{"type": "image", "text": "x"}]}, "system[0].type"),
        ({"system": [{"type": "text", "text": 1}]}, "system[0].text"),
        ({"tools": [{"type": "web_search_20250305", "name": "web_search"}]}, "tools[0].type"),
        ({"tools": [{"name": "x"}]}, "tools[0].input_schema"),
        ({"tools": [{**TOOL, "defer_loading": True}]}, "tools[0].defer_loading"),
        ({"tools": [{**TOOL, "allowed_callers": ["code_execution_20250825"]}]}, "tools[0].allowed_callers"),
        ({"tool_choice": {"type": "tool"}}, "tool_choice.name"),
        ({"tool_choice": {"type": "perhaps"}}, "tool_choice.type"),
        ({"output_config": {"format": {"type": "grammar", "schema": {}}}}, "output_config.format.type"),
        ({"output_config": {"task_budget": 5}}, "output_config.task_budget"),
    ],
)
def test_what_a_chat_cant_say_is_refused_by_its_name(more: dict[str, Any], param: str | None) -> None:
    assert refused(**more)[0] == param


@pytest.mark.parametrize(
    ("content", "param"),
    [
        ([], "messages[0].content"),
        (None, "messages[0].content"),
        ([{"type": "server_tool_use"}], "messages[0].content[0].type"),
        ([{"type": "document", "source": {"type": "base64", "data": "x"}}], "messages[0].content[0].source.type"),
        ([{"type": "image", "source": {"type": "file", "file_id": "f"}}], "messages[0].content[0].source.file_id"),
        ([{"type": "image", "source": {"type": "base64", "data": "x"}}], "messages[0].content[0].source.media_type"),
        ([{"type": "text", "text": "x", "new": 1}], "messages[0].content[0].new"),
        (
            [{"type": "text", "text": "x"}, {"type": "tool_result", "tool_use_id": "t"}],
            "messages[0].content[1]",
        ),
        (
            [{"type": "tool_result", "tool_use_id": "t", "content": [{"type": "x"}]}],
            "messages[0].content[0].content[0].type",
        ),
        (["x"], "messages[0].content[0]"),
    ],
)  # fmt: skip
def test_blocks_that_a_chat_cant_hold(content: Any, param: str) -> None:
    assert refused([{"role": "user", "content": content}])[0] == param


def test_the_beginning_of_the_reply_cant_be_given() -> None:
    assert refused([*HI, {"role": "assistant", "content": "{"}])[0] == "messages[1].role"


def test_a_name_that_a_client_made_up_is_shown_short_and_printable() -> None:
    param, message = refused(**{"a\n" + "b" * 1000: 1})
    assert param is not None
    assert len(param) == 200
    assert "\n" not in message


def test_only_a_count_needs_no_limit() -> None:
    raw = json.dumps({"model": "m", "messages": HI}).encode()
    assert isinstance(to_chat(Format.MESSAGES, raw), Refusal)
    assert isinstance(to_chat(Format.MESSAGES, raw, counting=True), Translated)


@pytest.mark.parametrize("raw", [b"", b"[]", b"{", b'"x"', b'{"messages": 1, "max_tokens": 1}', b"\xff"])
def test_bytes_that_are_no_request(raw: bytes) -> None:
    assert isinstance(to_chat(Format.MESSAGES, raw), Refusal)


TEXTS = st.text(st.characters(exclude_categories=["Cs"]))


@given(TEXTS, TEXTS, st.dictionaries(TEXTS, st.recursive(st.integers(-999, 999) | TEXTS, st.lists)))
def test_every_text_survives(system: str, text: str, arguments: dict[str, Any]) -> None:
    use = {**USE, "input": arguments}
    body = chat(
        [*HI, {"role": "assistant", "content": [use]}, {"role": "user", "content": text}], system=system
    )
    found = body["messages"]
    assert found[-1]["content"] == text
    assert (found[0]["content"] if system else "") == system
    assert json.loads(found[-2]["tool_calls"][0]["function"]["arguments"]) == arguments


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.sampled_from(["text", "user", "tool_use", "x"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                "type text role content source name input id messages tools tool_choice system data url".split()
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(VALUES, VALUES, VALUES)
def test_whatever_is_sent_is_translated_or_refused(messages: Any, tools: Any, system: Any) -> None:
    made = translated(messages, tools=tools, system=system)
    if isinstance(made, Translated):
        llm.write(made.body)


def test_an_estimate_counts_texts_messages_and_images() -> None:
    body = chat(
        [{"role": "user", "content": [{"type": "text", "text": "12345"}, {"type": "image", "source": PNG}]}],
        system="123",
    )
    assert estimate(body, len) == len("123\n12345") + 2 * 4 + 1500
    assert estimate({**body, "tools": [FUNCTION]}, len) > estimate(body, len) + 100
