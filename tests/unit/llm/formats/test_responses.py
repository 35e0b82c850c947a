"""Requests of OpenAI's Responses API as chats. The examples follow OpenAI's documentation."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenantgate import llm
from tenantgate.llm import Refusal
from tenantgate.llm.formats import Format, Translated, to_chat

HI: list[dict[str, Any]] = [{"role": "user", "content": "Hi"}]
SCHEMA = {"type": "object", "properties": {"a": {"type": "string"}}}
ITEM = {"type": "function_call", "id": "fc_1", "call_id": "call_1", "name": "f", "arguments": '{"a": 1}'}
CALL = {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}}


def translated(given: Any = "Hi", **more: Any) -> Translated | Refusal:
    body = {"model": "m", "input": given, **more}
    return to_chat(Format.RESPONSES, json.dumps(body).encode())


def chat(given: Any = "Hi", **more: Any) -> dict[str, Any]:
    made = translated(given, **more)
    assert isinstance(made, Translated), made
    assert not isinstance(llm.read(llm.write(made.body)), Refusal)
    return made.body


def refused(given: Any = "Hi", **more: Any) -> str | None:
    made = translated(given, **more)
    assert isinstance(made, Refusal)
    return made.param


def test_a_plain_request() -> None:
    body = chat(
        temperature=0.5,
        top_p=1,
        max_output_tokens=9,
        parallel_tool_calls=False,
        user="u",
        service_tier="auto",
    )
    assert body == {
        "model": "m",
        "messages": HI,
        "temperature": 0.5,
        "top_p": 1,
        "max_tokens": 9,
        "parallel_tool_calls": False,
        "user": "u",
        "service_tier": "auto",
    }


def test_a_stream_says_its_usage() -> None:
    assert chat(stream=True)["stream_options"] == {"include_usage": True}


@pytest.mark.parametrize(
    ("given", "more", "messages"),
    [
        ("Hi", {"instructions": "Be brief."}, [{"role": "system", "content": "Be brief."}, *HI]),
        (HI, {}, HI),
        (
            [{"role": "developer", "content": "Be brief."}, {"role": "system", "content": "B"}, *HI],
            {"instructions": "A"},
            [{"role": "system", "content": "A\n\nBe brief.\n\nB"}, *HI],
        ),
        ([{"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Hi"}]}], {}, HI),
        (
            [
                {
                    "role": "user",
                    "content": [
                        {"type": "input_text", "text": "what is in this image?"},
                        {"type": "input_image", "image_url": "https://a/b.png", "detail": "low"},
                    ],
                }
            ],
            {},
            [
                {
                    "role": "user",
                    "content": [
                        {"type": "text", "text": "what is in this image?"},
                        {"type": "image_url", "image_url": {"url": "https://a/b.png", "detail": "low"}},
                    ],
                }
            ],
        ),
        (
            [
                *HI,
                {
                    "type": "message",
                    "id": "msg_1",
                    "status": "completed",
                    "role": "assistant",
                    "content": [
                        {"type": "output_text", "text": "A", "annotations": [], "logprobs": []},
                        {"type": "output_text", "text": "B", "annotations": []},
                    ],
                },
                *HI,
            ],
            {},
            [*HI, {"role": "assistant", "content": "A\nB"}, *HI],
        ),
        (
            [
                *HI,
                {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "x"},
                {"role": "assistant", "content": "Let me look."},
                ITEM,
                {**ITEM, "call_id": "call_2"},
                {"type": "function_call_output", "call_id": "call_1", "output": "1"},
                {
                    "type": "function_call_output",
                    "call_id": "call_2",
                    "output": [{"type": "input_text", "text": "2"}],
                },
            ],
            {},
            [
                *HI,
                {
                    "role": "assistant",
                    "content": "Let me look.",
                    "tool_calls": [CALL, {**CALL, "id": "call_2"}],
                },
                {"role": "tool", "tool_call_id": "call_1", "content": "1"},
                {"role": "tool", "tool_call_id": "call_2", "content": "2"},
            ],
        ),
        ([*HI, ITEM], {}, [*HI, {"role": "assistant", "content": None, "tool_calls": [CALL]}]),
    ],
)
def test_input(given: Any, more: dict[str, Any], messages: Any) -> None:
    assert chat(given, **more)["messages"] == messages


def test_tools_and_their_choice() -> None:
    tool = {"type": "function", "name": "f", "description": "d", "parameters": SCHEMA, "strict": None}
    body = chat(tools=[tool], tool_choice={"type": "function", "name": "f"})
    assert body["tools"] == [
        {"type": "function", "function": {"name": "f", "description": "d", "parameters": SCHEMA}}
    ]
    assert body["tool_choice"] == {"type": "function", "function": {"name": "f"}}
    assert chat(tools=[tool], tool_choice="required")["tool_choice"] == "required"


@pytest.mark.parametrize(
    ("text", "made"),
    [
        ({}, None),
        ({"format": {"type": "text"}}, None),
        ({"format": {"type": "json_object"}}, {"type": "json_object"}),
        (
            {"format": {"type": "json_schema", "name": "n", "schema": SCHEMA, "strict": True}},
            {"type": "json_schema", "json_schema": {"name": "n", "schema": SCHEMA, "strict": True}},
        ),
    ],
)
def test_structured_output(text: Any, made: Any) -> None:
    assert chat(text=text).get("response_format") == made


def test_reasoning_and_verbosity() -> None:
    body = chat(reasoning={"effort": "low", "summary": "auto"}, text={"verbosity": "low"})
    assert (body["reasoning_effort"], body["verbosity"]) == ("low", "low")


SPACE: dict[str, Any] = {
    "type": "namespace",
    "name": "agents",
    "description": "Several.",
    "tools": [{"type": "function", "name": "close", "parameters": SCHEMA, "strict": False}],
}


def test_a_namespaces_tools_and_calls_have_its_name() -> None:
    call = {**ITEM, "name": "close", "namespace": "agents"}
    body = chat([*HI, call], tools=[{"type": "function", "name": "close"}, SPACE])
    assert [tool["function"]["name"] for tool in body["tools"]] == ["close", "agents__close"]
    assert body["messages"][1]["tool_calls"][0]["function"]["name"] == "agents__close"
    assert refused(tools=[{"type": "function", "name": "agents__close"}, SPACE]) == "tools"
    assert refused(tools=[{**SPACE, "tools": [{"type": "custom", "name": "x"}]}]) == "tools[0].tools[0].type"


def test_a_search_that_goes_nowhere_is_left_out_beside_other_tools() -> None:
    search, tool = {"type": "web_search", "external_web_access": False}, {"type": "function", "name": "f"}
    made = translated(tools=[tool, search], tool_choice="auto")
    assert isinstance(made, Translated)
    assert (len(made.body["tools"]), made.ignored) == (1, ("web_search",))
    assert refused(tools=[search]) == "tools[0].type"
    assert refused(tools=[tool, search], tool_choice="required") == "tools[1].type"
    assert refused(tools=[tool, {**search, "external_web_access": True}]) == "tools[1].type"


def test_what_changes_no_meaning_is_left_out_by_name() -> None:
    made = translated(
        metadata={"a": "b"},
        prompt_cache_key="k",
        truncation="auto",
        max_tool_calls=3,
        store=False,
        background=False,
        include=["reasoning.encrypted_content", "web_search_call.action.sources"],
        stream_options={"include_obfuscation": False},
        previous_response_id=None,
    )
    assert isinstance(made, Translated)
    assert made.body == {"model": "m", "messages": HI}
    assert made.ignored == ("max_tool_calls", "metadata", "prompt_cache_key", "stream_options", "truncation")


@pytest.mark.parametrize(
    ("more", "param"),
    [
        ({"store": True}, "store: true"),
        ({"background": True}, "background: true"),
        ({"previous_response_id": "resp_1"}, "previous_response_id"),
        ({"conversation": "conv_1"}, "conversation"),
        ({"prompt": {"id": "p"}}, "prompt"),
        ({"include": ["message.output_text.logprobs"]}, "include"),
        ({"top_logprobs": 3}, "top_logprobs"),
        ({"tools": [{"type": "web_search"}]}, "tools[0].type"),
        ({"tools": [{"type": "custom", "name": "x"}]}, "tools[0].type"),
        ({"tool_choice": {"type": "file_search"}}, "tool_choice.type"),
        ({"tool_choice": "perhaps"}, "tool_choice"),
        ({"text": {"format": {"type": "grammar"}}}, "text.format.type"),
        ({"text": {"format": {"type": "json_schema", "schema": {}}}}, "text.format.name"),
        ({"something_new": True}, "something_new"),
        ({"input": None}, "input"),
        ({"input": []}, "input"),
        ({"input": [{"type": "item_reference", "id": "msg_1"}]}, "input[0]"),
        ({"input": [{"type": "web_search_call", "id": "x"}]}, "input[0].type"),
        ({"input": [{"role": "tool", "content": "x"}]}, "input[0].role"),
        ({"input": [{"role": "user", "content": []}]}, "input[0].content"),
        ({"input": [{"role": "user", "content": [{"type": "input_file"}]}]}, "input[0].content[0].type"),
        (
            {"input": [{"role": "user", "content": [{"type": "input_image", "file_id": "f"}]}]},
            "input[0].content[0].file_id",
        ),
        (
            {
                "input": [
                    {
                        "type": "function_call_output",
                        "call_id": "c",
                        "output": [{"type": "input_image", "image_url": "https://a"}],
                    }
                ]
            },
            "input[0].output[0].type",
        ),
        ({"input": [{**ITEM, "caller": "n"}]}, "input[0].caller"),
    ],
)
def test_what_a_chat_cant_say_is_refused_by_its_name(more: dict[str, Any], param: str) -> None:
    assert refused(**more) == param


TEXTS = st.text(st.characters(exclude_categories=["Cs"]))


@given(TEXTS, TEXTS, TEXTS)
def test_every_text_survives(instructions: str, text: str, output: str) -> None:
    items = [
        {"role": "user", "content": [{"type": "input_text", "text": text}]},
        {**ITEM, "arguments": output},
        {"type": "function_call_output", "call_id": "call_1", "output": output},
    ]
    found = chat(items, instructions=instructions)["messages"]
    assert [m["content"] for m in found[-3:]] == [text, None, output]
    assert found[-2]["tool_calls"][0]["function"]["arguments"] == output
    assert (found[0]["content"] if instructions else "") == instructions


SAID = {
    "id": "msg_1",
    "type": "message",
    "role": "assistant",
    "status": "completed",
    "content": [{"type": "output_text", "text": "Hello", "annotations": [], "logprobs": []}],
}
KEPT = {"msg_1": SAID, "fc_1": ITEM, "bad_1": {"type": "item_reference", "id": "bad_1"}}


def referring(*items: Any, **more: Any) -> Translated | Refusal:
    body = {"model": "m", "input": list(items), **more}
    return to_chat(
        Format.RESPONSES, json.dumps(body).encode(), find=lambda ids: {i: KEPT[i] for i in ids if i in KEPT}
    )


def reference(name: Any) -> dict[str, Any]:
    return {"type": "item_reference", "id": name}


def test_references_stand_for_their_items() -> None:
    end = {"type": "function_call_output", "call_id": "call_1", "output": "42"}
    whole = translated([*HI, SAID, ITEM, end])
    assert isinstance(whole, Translated)
    assert referring(*HI, reference("msg_1"), reference("fc_1"), end) == whole
    assert referring(*HI, {"id": "msg_1"}, {"id": "fc_1", "type": None}, end) == whole


@pytest.mark.parametrize(
    ("items", "param", "message"),
    [
        ([reference("msg_2")], "input", "Item with id 'msg_2' not found."),
        ([reference("bad_1")], "input", "Item with id 'bad_1' not found."),
        ([reference("a card: 4111")], "input", "Item with id '?' not found."),
        ([reference("msg_1"), reference("msg_1")], "input", "Duplicate item found with id msg_1."),
        ([reference("")], "input[1].id", "input[1].id must be a string that isn't empty."),
        ([reference(None)], "input[1].id", "input[1].id must be a string that isn't empty."),
    ],
)
def test_references_to_nothing_are_refused(items: list[Any], param: str, message: str) -> None:
    made = referring(*HI, *items)
    assert isinstance(made, Refusal)
    assert (made.param, made.message, made.reason.status) == (param, message, 400)


def test_nothing_is_looked_up_without_a_reference() -> None:
    body = json.dumps({"model": "m", "input": [*HI, SAID]}).encode()
    assert isinstance(to_chat(Format.RESPONSES, body, find=lambda _: pytest.fail("looked up")), Translated)


@pytest.mark.parametrize(
    ("store", "stored"), [({}, True), ({"store": None}, True), ({"store": False}, False)]
)
def test_what_isnt_to_be_stored_isnt(store: dict[str, Any], stored: bool) -> None:
    made = translated(**store)
    assert isinstance(made, Translated)
    assert made.stored is stored
