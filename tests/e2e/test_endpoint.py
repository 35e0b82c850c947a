"""One endpoint for all tenants: the model is named in the body or in the path, and errors are OpenAI's."""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Iterator
from typing import Any

import pytest

from tenantgate.devhost.client import Client, Reply

from gateway import Gateway

pytestmark = pytest.mark.e2e

ODD = "org/mock.large:v2@1+x"
NAMES = ["fast", "openai/gpt-4o", "v1/models", "a:b@c+d", "smart", "acme", "metered"]
MODELS = ["mock-small", "mock-large", ODD]


@pytest.fixture
def gateway(gateway: Gateway) -> Iterator[Gateway]:
    """The gateway, whose mock provider keeps the bodies that it is sent."""
    with gateway.stack.mock_behaviour(keep_bodies=True):
        gateway.stack.mock_forget()
        yield gateway


def models_asked(gateway: Gateway) -> list[str]:
    """The models that the provider was asked for since the last call."""
    found = [record["model"] for record in gateway.stack.mock_requests()]
    gateway.stack.mock_forget()
    return found


def error(reply: Reply, status: int) -> dict[str, Any]:
    assert reply.status == status, reply.body
    found: dict[str, Any] = reply.json["error"]
    assert {"message", "type", "param", "code"} <= set(found)
    return found


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("name", "model"),
    [
        ("mock-small", "mock-small"),
        ("mock/mock-large", "mock-large"),
        ("fast", "mock-small"),
        ("openai/gpt-4o", "mock-small"),
        ("v1/models", "mock-small"),
        ("a:b@c+d", "mock-small"),
        ("smart", "mock-large"),
        (ODD, ODD),
        (f"mock/{ODD}", ODD),
    ],
)
def test_a_model_by_each_of_its_names(gateway: Gateway, name: str, model: str, stream: bool) -> None:
    reply = gateway.endpoint("naming").chat(gateway.fresh(), model=name, stream=stream)
    assert reply.status == 200
    assert "This is mock answer" in reply.text
    assert models_asked(gateway) == [model]


@pytest.mark.parametrize(
    ("path", "named", "model"),
    [
        ("/v1/llm/mock/mock-small/chat/completions", None, "mock-small"),
        ("/v1/llm/mock/mock-small/chat/completions", "mock-small", "mock-small"),
        ("/v1/llm/mock/mock-small/chat/completions", "fast", "mock-small"),
        ("/v1/llm/mock/mock-large/chat/completions", "mock/mock-large", "mock-large"),
        (f"/v1/llm/mock/{ODD}/chat/completions", None, ODD),
        ("/naming/mock/mock-large/chat/completions", None, "mock-large"),
        (f"/naming/mock/{ODD}/chat/completions", ODD, ODD),
    ],
)
def test_a_model_by_its_path(gateway: Gateway, path: str, named: str | None, model: str) -> None:
    more = {} if named is None else {"model": named}
    assert gateway.endpoint("naming", path).chat(gateway.fresh(), **more).status == 200
    assert models_asked(gateway) == [model]


@pytest.mark.parametrize(
    ("path", "named", "status", "code"),
    [
        ("/v1/chat/completions", "gpt-9", 404, "model_not_found"),
        ("/v1/chat/completions", "mock/gpt-9", 404, "model_not_found"),
        ("/v1/chat/completions", "FAST", 404, "model_not_found"),
        ("/v1/chat/completions", "fast ", 404, "model_not_found"),
        ("/v1/chat/completions", "openai-compatible/mock-small", 403, "model_not_allowed"),
        ("/v1/chat/completions", "", 400, "invalid_request"),
        ("/v1/chat/completions", None, 400, "invalid_request"),
        ("/v1/llm/mock/gpt-9/chat/completions", None, 404, "model_not_found"),
        ("/v1/llm/mock/fast/chat/completions", None, 404, "model_not_found"),
        ("/v1/llm/openai-compatible/mock-small/chat/completions", None, 403, "model_not_allowed"),
        ("/v1/llm/mock/mock-small/chat/completions", "mock-large", 400, "invalid_request"),
        ("/v1/llm/mock/mock-small/chat/completions", "smart", 400, "invalid_request"),
        ("/acme/mock/mock-small/chat/completions", None, 403, "permission_denied"),
    ],
)
def test_a_model_that_the_request_does_not_get(
    gateway: Gateway, path: str, named: str | None, status: int, code: str
) -> None:
    more = {} if named is None else {"model": named}
    reply = gateway.endpoint("naming", path).chat(gateway.fresh(), **more)
    found = error(reply, status)
    assert (found["code"], found["request_id"]) == (code, reply.headers["x-request-id"])
    if code.startswith("model_"):
        assert all(name in found["message"] for name in NAMES + MODELS)
    assert models_asked(gateway) == []


@pytest.mark.parametrize("named", [3, None, ["fast"], {"a": 1}, True])
def test_a_model_that_is_no_text(gateway: Gateway, named: Any) -> None:
    assert error(gateway.endpoint("naming").chat("hi", model=named), 400)["param"] == "model"


def test_the_list_of_models(gateway: Gateway) -> None:
    reply = gateway.endpoint("naming", "/v1/models").send(b"", method="GET")
    assert (reply.status, reply.json["object"]) == (200, "list")
    assert [entry["id"] for entry in reply.json["data"]] == [*NAMES, *MODELS]
    assert {entry["root"] for entry in reply.json["data"]} == set(MODELS)
    other = gateway.endpoint("acme", "/v1/models").send(b"", method="GET")
    assert [entry["id"] for entry in other.json["data"]] == ["mock-small"]
    nobody = Client(gateway.endpoint("acme", "/v1/models").url, "nobody's", "")
    assert error(nobody.send(b"", method="GET"), 401)["code"] == "invalid_api_key"


@pytest.mark.parametrize("name", [*NAMES, *MODELS, f"mock/{ODD}"])
def test_one_model(gateway: Gateway, name: str) -> None:
    reply = gateway.endpoint("naming", f"/v1/models/{name}").send(b"", method="GET")
    assert (reply.status, reply.json["id"], reply.json["object"]) == (200, name, "model")
    hidden = gateway.endpoint("acme", "/v1/models/smart").send(b"", method="GET")
    assert error(hidden, 404)["code"] == "model_not_found"


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/v1/chat/completionsx"),
        ("POST", "/v1/chat/completions/"),
        ("POST", "/v1/chat/completions/more"),
        ("POST", "/v1/models"),
        ("POST", "/naming/mock/mock-small/chat/completionsx"),
        ("GET", "/v1/chat/completions"),
        ("PUT", "/v1/chat/completions"),
        ("DELETE", "/v1/chat/completions"),
    ],
)
def test_what_is_no_operation(gateway: Gateway, method: str, path: str) -> None:
    reply = gateway.endpoint("naming", path).send(b'{"model": "fast", "messages": []}', method=method)
    assert error(reply, 404)["code"] == "unknown_url"


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/models"])
def test_a_head_is_no_operation_either(gateway: Gateway, path: str) -> None:
    reply = gateway.endpoint("naming", path).send(b"", method="HEAD")
    assert (reply.status, reply.body) == (404, b"")


@pytest.mark.parametrize("stream", [False, True])
def test_a_call_of_a_tool(gateway: Gateway, stream: bool) -> None:
    tool = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}
    with gateway.stack.mock_behaviour(tool_calls=True, keep_bodies=True):
        reply = gateway.endpoint("naming").chat(
            gateway.fresh(), model="fast", tools=[tool], tool_choice="auto", stream=stream
        )
    assert reply.status == 200
    assert b"tool_calls" in reply.body
    (body,) = gateway.stack.mock_bodies()
    assert json.loads(body)["tools"] == [tool]


@pytest.mark.parametrize("name", ["fast", "mock/mock-small", "mock-small"])
def test_a_picture_of_more_than_a_megabyte(gateway: Gateway, name: str) -> None:
    """Larger than what a plugin server may send to Kong."""
    url = "data:image/png;base64," + base64.b64encode(os.urandom(1_200_000)).decode()
    parts = [{"type": "text", "text": gateway.fresh()}, {"type": "image_url", "image_url": {"url": url}}]
    reply = gateway.endpoint("naming").chat("", model=name, messages=[{"role": "user", "content": parts}])
    assert reply.status == 200
    (body,) = gateway.stack.mock_bodies()
    sent = json.loads(body)
    assert sent["model"] == "mock-small"
    assert sent["messages"][0]["content"] == parts


def test_a_name_and_its_model_share_what_is_cached(gateway: Gateway) -> None:
    client, prompt = gateway.endpoint("naming"), gateway.fresh()
    assert client.chat(prompt, model="fast").cache == "Miss"
    assert client.chat(prompt, model="smart").cache == "Miss"
    assert len(models_asked(gateway)) == 2
