"""What OpenAI's SDKs send, byte for byte in what matters, and what they need of an answer.

Python (httpx) and Node (fetch) differ in the names of their headers, in how they write a path, and in whether a body
has a length or comes in pieces. They keep connections, and take an error's class from its status.
"""

from __future__ import annotations

import gzip
import http.client
import json
import urllib.parse
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from gateway import Gateway

pytestmark = pytest.mark.e2e

PYTHON = {
    "Accept": "application/json",
    "Accept-Encoding": "gzip, deflate, br, zstd",
    "Content-Type": "application/json",
    "User-Agent": "OpenAI/Python 2.0.0",
    "X-Stainless-Arch": "x64",
    "X-Stainless-Async": "false",
    "X-Stainless-Lang": "python",
    "X-Stainless-Retry-Count": "0",
    "X-Stainless-Read-Timeout": "600",
}
NODE = {
    "accept": "application/json",
    "accept-encoding": "br, gzip, deflate",
    "accept-language": "*",
    "content-type": "application/json",
    "sec-fetch-mode": "cors",
    "user-agent": "OpenAI/JS 6.0.0",
    "x-stainless-lang": "js",
    "x-stainless-runtime": "node",
}
SDKS = pytest.mark.parametrize("sdk", [PYTHON, NODE], ids=["python", "node"])


class Sdk:
    """An application that keeps its connection."""

    def __init__(self, connection: http.client.HTTPConnection, key: str, headers: dict[str, str]) -> None:
        self._connection = connection
        self._headers = {**headers, "Authorization": f"Bearer {key}"}

    def ask(self, path: str, body: Any = None, *, pieces: bool = False) -> tuple[int, dict[str, str], bytes]:
        """Status, headers with names in lower case, and body of an answer; `pieces`: in chunks, without a length."""
        raw = None if body is None else json.dumps(body, ensure_ascii=False).encode()
        sent: Any = iter([raw[i : i + 7] for i in range(0, len(raw), 7)]) if raw and pieces else raw
        method = "GET" if raw is None else "POST"
        self._connection.request(method, path, sent, self._headers, encode_chunked=pieces)
        response = self._connection.getresponse()
        headers = {name.lower(): value for name, value in response.getheaders()}
        answer = response.read()
        if (encoding := headers.get("content-encoding", "identity")) == "gzip":
            return response.status, headers, gzip.decompress(answer)
        assert encoding == "identity"
        return response.status, headers, answer

    def chat(self, prompt: str, **members: Any) -> tuple[int, dict[str, str], bytes]:
        """One question; other keywords go into the body."""
        messages = [{"role": "user", "content": prompt}]
        return self.ask("/v1/chat/completions", {"messages": messages, "model": "mock-small", **members})


@contextmanager
def application(gateway: Gateway, tenant: str, headers: dict[str, str], key: str = "") -> Iterator[Sdk]:
    at = urllib.parse.urlsplit(gateway.client(tenant).url)
    connection = http.client.HTTPConnection(at.hostname or "", at.port, timeout=20)
    try:
        yield Sdk(connection, key or gateway.client(tenant).key, headers)
    finally:
        connection.close()


def error(body: bytes) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(body)["error"]
    return found


@SDKS
@pytest.mark.parametrize("pieces", [False, True])
def test_answers_on_one_connection(gateway: Gateway, sdk: dict[str, str], pieces: bool) -> None:
    with application(gateway, "acme", sdk) as client:
        for _ in range(3):
            body = {"model": "mock-small", "messages": [{"role": "user", "content": gateway.fresh() + " é"}]}
            status, headers, answer = client.ask("/v1/chat/completions", body, pieces=pieces)
            made = json.loads(answer)
            assert (status, made["object"], made["choices"][0]["finish_reason"]) == (
                200,
                "chat.completion",
                "stop",
            )
            assert made["usage"]["total_tokens"] > 0
            assert headers["x-request-id"]


@SDKS
def test_streams_end_with_the_usage(gateway: Gateway, sdk: dict[str, str]) -> None:
    prompt = gateway.fresh()
    with application(gateway, "plain", sdk) as client:
        for wanted in (True, False):
            options = {"stream_options": {"include_usage": True}} if wanted else {}
            status, headers, answer = client.chat(prompt, stream=True, **options)
            assert (status, headers["content-type"].partition(";")[0]) == (200, "text/event-stream")
            *events, end = [line[6:] for line in answer.decode().splitlines() if line.startswith("data: ")]
            chunks = [json.loads(event) for event in events]
            assert end == "[DONE]"
            assert {chunk["object"] for chunk in chunks} == {"chat.completion.chunk"}
            assert bool(chunks[-1].get("usage")) is wanted


@pytest.mark.parametrize("name", ["mock/mock-small", "mock%2Fmock-small", "mock-small"])
def test_one_model_as_sdks_write_its_name(gateway: Gateway, name: str) -> None:
    with application(gateway, "acme", NODE) as client:
        status, _, answer = client.ask(f"/v1/models/{name}")
    assert (status, json.loads(answer)["id"]) == (200, name.replace("%2F", "/"))


@SDKS
def test_errors_have_the_status_of_their_class(gateway: Gateway, sdk: dict[str, str]) -> None:
    with application(gateway, "acme", sdk) as client:
        found = [
            client.chat("x", model="nope"),
            client.ask("/v1/moderations", {"model": "mock-small", "input": "x"}),
            client.ask("/v1/chat/completions", {"model": "mock-small", "messages": []}),
            client.chat(gateway.fresh()),
        ]
    assert [status for status, _, _ in found] == [404, 404, 400, 200]
    assert [error(body)["code"] for _, _, body in found[:3]] == [
        "model_not_found",
        "unknown_url",
        "invalid_request",
    ]
    with application(gateway, "acme", sdk, key="sk-wrong") as stranger:
        status, headers, body = stranger.chat("x")
    assert (status, error(body)["code"]) == (401, "invalid_api_key")
    assert headers["x-request-id"]


@SDKS
@pytest.mark.parametrize("stream", [False, True])
def test_what_a_rule_refuses_is_a_bad_request(gateway: Gateway, sdk: dict[str, str], stream: bool) -> None:
    card = "4111 1111 1111 1111"
    refused = {"blocking": "project osprey", "replying": f"card {card}"}
    codes = {"blocking": "content_policy_violation", "replying": "reply_policy_violation"}
    for tenant, prompt in refused.items():
        with application(gateway, tenant, sdk) as client:
            status, _, body = client.chat(f"{prompt} {gateway.fresh()}", stream=stream)
        assert (status, error(body)["code"]) == (400, codes[tenant])
        assert card.encode() not in body
