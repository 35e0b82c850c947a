"""Anthropic's and OpenAI's own clients at `/v1/messages` and `/v1/responses`, and what lies behind these."""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from gateway import Gateway
from support import lazily, until

if TYPE_CHECKING:
    import anthropic
    import openai
else:
    anthropic, openai = lazily("anthropic"), lazily("openai")

pytestmark = pytest.mark.e2e

TOOL: Any = {
    "name": "mock_tool",
    "description": "A tool",
    "input_schema": {"type": "object", "properties": {"mock": {"type": "boolean"}}},
}
FUNCTION: Any = {"type": "function", "name": "mock_tool", "parameters": TOOL["input_schema"], "strict": False}


def base(gateway: Gateway) -> str:
    return gateway.endpoint("acme", "").url.partition("/v1")[0].partition("/acme/")[0]


@contextmanager
def claude(
    gateway: Gateway, tenant: str = "naming", *, key: str | None = None
) -> Iterator[anthropic.Anthropic]:
    key = key or gateway.client(tenant).key
    with anthropic.Anthropic(base_url=base(gateway), api_key=key, max_retries=0) as client:
        yield client


@contextmanager
def gpt(gateway: Gateway, tenant: str = "naming", *, key: str | None = None) -> Iterator[openai.OpenAI]:
    key = key or gateway.client(tenant).key
    with openai.OpenAI(base_url=base(gateway) + "/v1", api_key=key, max_retries=0) as client:
        yield client


def user(text: str) -> list[Any]:
    return [{"role": "user", "content": text}]


# -- Messages ---------------------------------------------------------------------------------------------


def test_messages_whole_and_streamed(gateway: Gateway) -> None:
    prompt = gateway.fresh()
    with claude(gateway) as client:
        asked: dict[str, Any] = {"model": "fast", "max_tokens": 100, "system": "Be brief."}
        first = client.messages.create(messages=user(prompt), **asked)
        again = until(
            lambda: client.messages.with_raw_response.create(messages=user(prompt), **asked),
            lambda reply: reply.headers["x-cache-status"] == "Hit",
            what="an answer from the cache",
        )
        with client.messages.stream(messages=user(prompt), **asked) as stream:
            told = "".join(stream.text_stream)
            replayed = stream.get_final_message()
        with client.messages.stream(messages=user(gateway.fresh()), **asked) as stream:
            fresh = stream.get_final_message()
    (block,) = first.content
    assert block.type == "text"
    assert "This is mock answer" in block.text
    assert (first.type, first.role, first.model, first.stop_reason) == (
        "message",
        "assistant",
        "mock-small",
        "end_turn",
    )
    assert first.usage.input_tokens > 0
    assert again.headers["request-id"] == again.headers["x-request-id"]
    assert told == block.text
    assert (replayed.stop_reason, replayed.usage.output_tokens) == ("end_turn", first.usage.output_tokens)
    assert fresh.content[0].type == "text"
    assert fresh.usage.input_tokens > 0


@pytest.mark.parametrize("stream", [False, True])
def test_a_tool_of_messages_and_its_result(gateway: Gateway, stream: bool) -> None:
    with claude(gateway) as client, gateway.stack.mock_behaviour(tool_calls=True, keep_bodies=True):
        asked: dict[str, Any] = {
            "model": "fast",
            "max_tokens": 100,
            "tools": [TOOL],
            "messages": user(gateway.fresh()),
        }
        if stream:
            with client.messages.stream(**asked) as events:
                made = events.get_final_message()
        else:
            made = client.messages.create(**asked)
        gateway.stack.mock_forget()
        (use,) = made.content
        assert use.type == "tool_use"
        assert (made.stop_reason, use.name, use.input) == ("tool_use", "mock_tool", {"mock": True})
        result = {"type": "tool_result", "tool_use_id": use.id, "content": "42"}
        answer: dict[str, Any] = {"role": "assistant", "content": [use.model_dump(exclude_none=True)]}
        client.messages.create(
            **{**asked, "messages": [*asked["messages"], answer, {"role": "user", "content": [result]}]}
        )
        (body,) = gateway.stack.mock_bodies()
    sent = json.loads(body)
    assert [m["role"] for m in sent["messages"]] == ["user", "assistant", "tool"]
    assert json.loads(sent["messages"][1]["tool_calls"][0]["function"]["arguments"]) == {"mock": True}
    assert sent["messages"][2] == {"role": "tool", "tool_call_id": use.id, "content": "42"}


def test_a_request_as_claude_code_sends_it(gateway: Gateway) -> None:
    cached = {"cache_control": {"type": "ephemeral"}}
    body = {
        "model": "fast",
        "max_tokens": 32000,
        "stream": True,
        "system": [{"type": "text", "text": "You are Claude Code.", **cached}],
        "messages": [{"role": "user", "content": [{"type": "text", "text": gateway.fresh(), **cached}]}],
        "tools": [TOOL],
        "metadata": {"user_id": "user_1_account__session_2"},
        "thinking": {"type": "enabled", "budget_tokens": 31999},
    }
    client = gateway.endpoint("naming", "/v1/messages?beta=true")
    headers = {
        "anthropic-version": "2023-06-01",
        "anthropic-beta": "claude-code-20250219,interleaved-thinking-2025-05-14",
    }
    reply = client.send(json.dumps(body).encode(), headers=headers)
    assert reply.status == 200
    assert reply.headers["x-tenantgate-ignored"] == "cache_control, metadata, thinking"
    assert reply.body.rstrip().endswith(b'data: {"type":"message_stop"}')
    (record,) = gateway.stack.mock_requests()[-1:]
    assert not {"anthropic-beta", "anthropic-version"} & {name.lower() for name in record["headers"]}


def test_a_picture_of_more_than_a_megabyte(gateway: Gateway) -> None:
    """Larger than what a plugin server may send to Kong at once."""
    data = base64.b64encode(os.urandom(1_500_000)).decode()
    image = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": data}}
    with gateway.stack.mock_behaviour(keep_bodies=True), claude(gateway) as client:
        gateway.stack.mock_forget()
        client.messages.create(
            model="fast",
            max_tokens=9,
            messages=[{"role": "user", "content": [image, {"type": "text", "text": gateway.fresh()}]}],
        )
        (body,) = gateway.stack.mock_bodies()
    sent = json.loads(body)
    assert sent["model"] == "mock-small"
    assert sent["messages"][0]["content"][0]["image_url"]["url"] == f"data:image/png;base64,{data}"


def test_tokens_are_counted_without_a_provider(gateway: Gateway) -> None:
    gateway.stack.mock_forget()
    with claude(gateway) as client:
        few = client.messages.count_tokens(model="fast", messages=user("Hello")).input_tokens
        many = client.messages.count_tokens(
            model="fast", messages=user("Hello " * 1000), tools=[TOOL], system="x"
        )
        with pytest.raises(anthropic.NotFoundError):
            client.messages.count_tokens(model="nope", messages=user("Hello"))
    assert 1 <= few <= 10
    assert 1000 <= many.input_tokens <= 1100
    assert gateway.stack.mock_requests() == []


def test_errors_of_messages_have_their_class(gateway: Gateway) -> None:
    with claude(gateway) as client:
        with pytest.raises(anthropic.NotFoundError) as unknown:
            client.messages.create(model="nope", max_tokens=9, messages=user("x"))
        with pytest.raises(anthropic.BadRequestError) as unsupported:
            client.messages.create(
                model="fast", max_tokens=9, messages=user("x"), extra_body={"container": "c"}
            )
    with (
        claude(gateway, key="sk-ant-wrong") as client,
        pytest.raises(anthropic.AuthenticationError) as stranger,
    ):
        client.messages.create(model="fast", max_tokens=9, messages=user("x"))
    for raised, kind in (
        (unknown, "not_found_error"),
        (unsupported, "invalid_request_error"),
        (stranger, "authentication_error"),
    ):
        body: Any = raised.value.body
        assert (body["type"], body["error"]["type"]) == ("error", kind)
        assert raised.value.request_id
    assert "container isn't supported" in unsupported.value.message
    with gateway.stack.mock_behaviour(status=429), claude(gateway) as client:
        with pytest.raises(anthropic.RateLimitError) as limited:
            client.messages.create(model="fast", max_tokens=9, messages=user(gateway.fresh()))
        found: Any = limited.value.body
        assert found["error"]["type"] == "rate_limit_error"


@pytest.mark.parametrize("stream", [False, True])
def test_rules_hold_for_every_format(gateway: Gateway, stream: bool) -> None:
    card = "4111 1111 1111 1111"
    refused = {"blocking": "project osprey", "replying": f"card {card}"}
    for tenant, prompt in refused.items():
        text = f"{prompt} {gateway.fresh()}"
        with claude(gateway, tenant) as client, pytest.raises(anthropic.BadRequestError) as raised:
            client.messages.create(model="mock-small", max_tokens=9, messages=user(text), stream=stream)
        assert card not in str(raised.value.body)
        with gpt(gateway, tenant) as other, pytest.raises(openai.BadRequestError) as raised_too:
            other.responses.create(model="mock-small", input=text, stream=stream)
        assert raised_too.value.code == ("content" if tenant == "blocking" else "reply") + "_policy_violation"


def test_what_is_masked_is_masked_in_every_format(gateway: Gateway) -> None:
    with gateway.stack.mock_behaviour(keep_bodies=True):
        gateway.stack.mock_forget()
        with claude(gateway, "masking") as client:
            client.messages.create(
                model="mock-small",
                max_tokens=9,
                messages=[
                    *user("Hi"),
                    {
                        "role": "assistant",
                        "content": [{"type": "tool_use", "id": "t", "name": "f", "input": {}}],
                    },
                    {
                        "role": "user",
                        "content": [{"type": "tool_result", "tool_use_id": "t", "content": "jo@example.com"}],
                    },
                ],
            )
        with gpt(gateway, "masking") as other:
            other.responses.create(model="mock-small", input="Write to jo@example.com")
        bodies = gateway.stack.mock_bodies()
    assert len(bodies) == 2
    assert not any(b"jo@example.com" in body for body in bodies)


# -- Responses --------------------------------------------------------------------------------------------


def test_responses_whole_and_streamed(gateway: Gateway) -> None:
    prompt = gateway.fresh()
    with gpt(gateway) as client:
        first = client.responses.create(model="fast", input=prompt, instructions="Be brief.")
        with client.responses.stream(model="fast", input=prompt, instructions="Be brief.") as stream:
            told = "".join(e.delta for e in stream if e.type == "response.output_text.delta")
            replayed = stream.get_final_response()
    assert "This is mock answer" in first.output_text
    assert (first.object, first.status, first.model) == ("response", "completed", "mock-small")
    assert first.usage is not None
    assert first.usage.input_tokens > 0
    assert told == replayed.output_text == first.output_text
    assert replayed.usage is not None
    assert replayed.usage.total_tokens == first.usage.total_tokens


@pytest.mark.parametrize("stream", [False, True])
def test_a_tool_of_responses_and_its_output(gateway: Gateway, stream: bool) -> None:
    prompt: Any = user(gateway.fresh())
    with gpt(gateway) as client, gateway.stack.mock_behaviour(tool_calls=True, keep_bodies=True):
        if stream:
            with client.responses.stream(model="fast", input=prompt, tools=[FUNCTION]) as events:
                made: Any = events.get_final_response()
        else:
            made = client.responses.create(model="fast", input=prompt, tools=[FUNCTION])
        gateway.stack.mock_forget()
        (call,) = made.output
        assert (call.type, call.name, json.loads(call.arguments)) == (
            "function_call",
            "mock_tool",
            {"mock": True},
        )
        more: Any = [
            *prompt,
            *made.output,
            {"type": "function_call_output", "call_id": call.call_id, "output": "42"},
        ]
        client.responses.create(model="fast", input=more, tools=[FUNCTION])
        (body,) = gateway.stack.mock_bodies()
    assert [m["role"] for m in json.loads(body)["messages"]] == ["user", "assistant", "tool"]


@pytest.mark.parametrize("tool", [False, True])
def test_a_turn_that_refers_to_the_one_before(gateway: Gateway, tool: bool) -> None:
    """As Vercel's `ai` sends it by default, streamed, at once, and by nobody but the same tenant."""
    prompt: Any = user(gateway.fresh())
    more: dict[str, Any] = {"tools": [FUNCTION]} if tool else {}
    with gpt(gateway) as client, gateway.stack.mock_behaviour(tool_calls=tool, keep_bodies=True):
        with client.responses.stream(model="fast", input=prompt, **more) as events:
            (item,) = events.get_final_response().output
        gateway.stack.mock_forget()
        end: Any = user("And now?")
        if item.type == "function_call":
            end = [{"type": "function_call_output", "call_id": item.call_id, "output": "42"}]
        turn: Any = [*prompt, {"type": "item_reference", "id": item.id}, *end]
        with client.responses.stream(model="fast", input=turn, **more) as events:
            assert events.get_final_response().status == "completed"
        (body,) = gateway.stack.mock_bodies()
        with gpt(gateway, "masking") as other, pytest.raises(openai.BadRequestError) as stranger:
            other.responses.create(model="mock-small", input=turn, **more)
    said = json.loads(body)["messages"][1]
    assert said["role"] == "assistant"
    if item.type == "message":
        assert said["content"] == item.content[0].text  # type: ignore[union-attr]
    else:
        assert json.loads(said["tool_calls"][0]["function"]["arguments"]) == {"mock": True}
    assert f"Item with id '{item.id}' not found." in stranger.value.message
    assert stranger.value.param == "input"


def test_structured_output_reaches_the_provider(gateway: Gateway) -> None:
    schema = {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]}
    shape: Any = {"type": "json_schema", "name": "n", "schema": schema, "strict": True}
    with gateway.stack.mock_behaviour(keep_bodies=True):
        gateway.stack.mock_forget()
        with gpt(gateway) as client:
            client.responses.create(model="fast", input=gateway.fresh(), text={"format": shape})
        with claude(gateway) as other:
            other.messages.create(
                model="fast",
                max_tokens=9,
                messages=user(gateway.fresh()),
                output_config={"format": {"type": "json_schema", "schema": schema}},
            )
        formats = [json.loads(body)["response_format"] for body in gateway.stack.mock_bodies()]
    assert [f["json_schema"]["schema"] for f in formats] == [schema, schema]


def test_errors_of_responses_have_their_class(gateway: Gateway) -> None:
    with gpt(gateway) as client:
        with pytest.raises(openai.NotFoundError) as unknown:
            client.responses.create(model="nope", input="x")
        with pytest.raises(openai.BadRequestError) as stateful:
            client.responses.create(model="fast", input="x", previous_response_id="resp_1")
        with pytest.raises(openai.NotFoundError):
            client.responses.retrieve("resp_1")
    assert unknown.value.code == "model_not_found"
    assert stateful.value.param == "previous_response_id"
    assert "keeps no responses" in stateful.value.message
    with gpt(gateway, key="sk-wrong") as client, pytest.raises(openai.AuthenticationError):
        client.responses.create(model="fast", input="x")
