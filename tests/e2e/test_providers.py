"""Formats of providers, against mocks of their wire formats. On the embedded host, or the Kong of --kong-bin."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from engine_rig import EngineWorld, chat
from tenantgate.devhost import mock_formats
from tenantgate.devhost.mock_formats import CALLS, TEXT

pytestmark = pytest.mark.e2e

TOOLS = [
    {
        "type": "function",
        "function": {
            "name": name,
            "description": "d",
            "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
        },
    }
    for name in ("weather", "clock")
]
WHOLE = {"input": 40, "output": 12, "cache_read": 16}
COUNTED = {
    "openai": {"format": "openai", "counts": ("prompt_tokens", 40)},
    "gemini": {"format": "gemini", "counts": ("total_tokens", 152)},
    "mistral": {"format": "openai", "counts": ("completion_tokens", 12)},
    "anthropic": {"format": "anthropic", "counts": ("cache_read_input_tokens", 16)},
    "bedrock": {"format": "bedrock", "counts": ("cacheWriteInputTokens", 20)},
}


@pytest.fixture(scope="module")
def world(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[EngineWorld]:
    if request.config.getoption("--gateway-url"):
        pytest.skip("starts a gateway of its own")
    folder = tmp_path_factory.mktemp("providers")
    with EngineWorld(folder, request.config.getoption("--kong-bin")) as made:
        yield made


def target(world: EngineWorld, name: str) -> dict[str, Any]:
    """A target as the compiler makes it (tenantgate.config.provider_options), but for its address."""
    at = f"http://127.0.0.1:{world.mock}/strict"
    url = {"anthropic": f"{at}/anthropic/v1/messages", "bedrock": f"{at}/bedrock"}
    usage = {"anthropic": "built-in", "bedrock": "built-in", "mistral": "implied"}
    ours: dict[str, Any] = {"stream_usage": usage.get(name, "asked"), "top_k": True}
    options = {"upstream_url": url.get(name, f"{at}/{name}/chat/completions"), "tenantgate": ours}
    auth: dict[str, Any] = {
        "header_name": "Authorization",
        "header_value": "{vault://env/PROVIDER_KEY}",
        "bearer": True,
    }
    kong = name
    if name == "gemini":
        kong = "openai"
        ours |= {"counts": "gemini", "provider": "gemini"}
    elif name == "mistral":
        options["mistral_format"] = "openai"
    elif name == "anthropic":
        options["anthropic_version"] = "2023-06-01"
        auth |= {"header_name": "x-api-key", "bearer": False}
    elif name == "bedrock":
        options["bedrock"] = {"aws_region": mock_formats.AWS_REGION}
        auth = {
            "secrets": {
                "aws_access_key_id": "{vault://env/AWS_ID}",
                "aws_secret_access_key": "{vault://env/AWS_SECRET}",
            }
        }
    return {"provider": kong, "name": "anthropic.claude-v1:0", "options": options, "auth": auth}


def send(world: EngineWorld, name: str, **body: Any) -> tuple[int, dict[str, str], bytes]:
    if name == "bedrock" and world.kong is None:
        pytest.skip("the embedded host doesn't sign for Amazon")
    world.decision = world.decide(target=target(world, name))
    return world.send({"model": "anthropic.claude-v1:0", **body})


def chunks(body: bytes) -> list[Any]:
    """The chunks of a stream, which has its end mark."""
    lines = [line[len("data: ") :] for line in body.decode().split("\n") if line.startswith("data: ")]
    assert lines[-1] == "[DONE]"
    return [json.loads(line) for line in lines[:-1]]


def said(found: list[Any]) -> tuple[str, list[tuple[str, Any]], list[str]]:
    """Text, calls and finish reasons of a stream."""
    choices = [choice for chunk in found for choice in chunk["choices"]]
    text = "".join(choice["delta"].get("content") or "" for choice in choices)
    calls: dict[int, list[str]] = {}
    for choice in choices:
        for call in choice["delta"].get("tool_calls") or ():
            made = calls.setdefault(call["index"], ["", ""])
            made[0] += call["function"].get("name") or ""
            made[1] += call["function"].get("arguments") or ""
    parsed = [(name, json.loads(arguments or "{}")) for name, arguments in calls.values()]
    return text, parsed, [c["finish_reason"] for c in choices if c.get("finish_reason")]


@pytest.mark.parametrize("name", COUNTED)
def test_a_reply_is_openais_and_its_usage_is_known(world: EngineWorld, name: str) -> None:
    status, headers, body = send(world, name, **chat("Weather?", model=None, max_tokens=50))
    assert status == 200, body
    reply = json.loads(body)
    choice = reply["choices"][0]
    assert (choice["message"]["content"], choice["finish_reason"]) == (TEXT, "stop")
    assert reply["usage"]["prompt_tokens"] == 40
    logged, record = world.logged(headers)
    known = COUNTED[name]
    count, value = known["counts"]
    assert logged["usage"]["format"] == known["format"]
    assert logged["usage"]["counts"][count] == value
    assert (logged["usage"]["stream"], logged["usage"]["complete"]) == (False, True)
    assert record["ai"]["proxy"]["usage"]["prompt_tokens"] == 40


@pytest.mark.parametrize("asked", [False, True])
@pytest.mark.parametrize("name", COUNTED)
def test_a_stream_is_openais_and_its_usage_is_known(world: EngineWorld, name: str, asked: bool) -> None:
    options = {"stream_options": {"include_usage": True}} if asked else {}
    status, headers, body = send(
        world, name, stream=True, **options, **chat("Weather?", model=None, max_tokens=50)
    )
    assert status == 200, body
    found = chunks(body)
    assert said(found) == (TEXT, [], ["stop"])
    extra = [chunk for chunk in found if not chunk["choices"]]
    if name in ("gemini", "mistral"):
        assert not extra
    else:
        assert [chunk["usage"]["prompt_tokens"] for chunk in extra] == ([40] if asked else [])
    logged, record = world.logged(headers)
    count, value = COUNTED[name]["counts"]
    assert logged["usage"]["counts"][count] == value
    assert (logged["usage"]["stream"], logged["usage"]["complete"]) == (True, True)
    used = record["ai"]["proxy"]["usage"]
    assert (used["prompt_tokens"], used["completion_tokens"]) == (40, 112 if name == "gemini" else 12)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("name", COUNTED)
def test_tools_are_called_and_their_results_come_back(world: EngineWorld, name: str, stream: bool) -> None:
    asked = [{"role": "user", "content": "Weather?"}]
    status, _, body = send(world, name, messages=asked, tools=TOOLS, tool_choice="required", stream=stream)
    assert status == 200, body
    if stream:
        _, calls, reasons = said(chunks(body))
        made = [
            {"id": f"c{i}", "type": "function", "function": {"name": n, "arguments": json.dumps(a)}}
            for i, (n, a) in enumerate(calls)
        ]
    else:
        choice = json.loads(body)["choices"][0]
        made, reasons = choice["message"]["tool_calls"], [choice["finish_reason"]]
        calls = [(c["function"]["name"], json.loads(c["function"]["arguments"])) for c in made]
    assert calls == [*CALLS]
    assert reasons == ["tool_calls"]
    results = [{"role": "tool", "tool_call_id": c["id"], "content": "plain text"} for c in made]
    turns = [*asked, {"role": "assistant", "content": None, "tool_calls": made}, *results]
    status, _, body = send(world, name, messages=turns, tools=TOOLS, stream=stream)
    assert status == 200, body


def test_a_service_account_of_google_gets_its_token_once(world: EngineWorld) -> None:
    at = target(world, "gemini")
    at["auth"] = {"secrets": {"gcp_service_account_json": "{vault://env/GCP_ACCOUNT}"}}
    world.decision = world.decide(target=at)
    asked = chat("Weather?", model=at["name"])
    statuses = [world.send(asked)[0] for _ in range(3)]
    if world.kong is None:
        assert statuses == [503, 503, 503]  # the embedded host can't sign
        return
    assert statuses == [200, 200, 200]
    google = world.provider.google
    assert world.provider.formats.authorization == f"Bearer {google.token()}"
    # One for each of Kong's workers that was asked.
    assert 1 <= google.given <= 2
