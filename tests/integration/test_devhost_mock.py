"""The mock provider as a process of its own."""

from __future__ import annotations

import http.client
import json
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

CHAT = "/v1/chat/completions"
MESSAGES = "/v1/messages"
GEMINI = "/v1beta/models/g:generateContent"
GEMINI_STREAM = "/v1beta/models/g:streamGenerateContent"


class Mock:
    def __init__(self, port: int) -> None:
        self.port = port

    def call(self, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            connection.request(method, path, None if body is None else json.dumps(body), headers)
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()


@pytest.fixture(scope="module")
def process() -> Iterator[Mock]:
    command = [sys.executable, "-m", "tenantgate.devhost.mock_provider", "--port", "0"]
    running = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert running.stdout
    yield Mock(int(running.stdout.readline().strip().rpartition(":")[2]))
    running.terminate()
    running.stdout.close()
    assert running.wait(10) == 0


@pytest.fixture
def mock(process: Mock) -> Mock:
    process.call("DELETE", "/_mock/behaviour")
    process.call("DELETE", "/_mock/requests")
    return process


def ask(text: str, **more: Any) -> dict[str, Any]:
    return {"model": "m", "messages": [{"role": "user", "content": text}], **more}


def gemini(text: str) -> dict[str, Any]:
    return {"contents": [{"role": "user", "parts": [{"text": text}]}]}


@pytest.mark.parametrize(("path", "make"), [(CHAT, ask), (MESSAGES, ask), (GEMINI, gemini)])
def test_the_same_question_gets_the_same_answer_and_another_another(mock: Mock, path: str, make: Any) -> None:
    one, again, other = (
        mock.call("POST", path, make(q)) for q in ("What is up?", "What is up?", "What is down?")
    )
    assert one == again != other
    assert b"What is up?" in one[1]


def test_streams_have_their_providers_form(mock: Mock) -> None:
    _, chat = mock.call("POST", CHAT, ask("Q", stream=True, stream_options={"include_usage": True}))
    assert chat.endswith(b"data: [DONE]\n\n")
    assert b'"choices": [], "usage": {"prompt_tokens"' in chat
    _, messages = mock.call("POST", MESSAGES, ask("Q", stream=True))
    assert messages.startswith(b"event: message_start\n")
    assert b"event: message_stop\n" in messages
    _, array = mock.call("POST", GEMINI_STREAM, gemini("Q"))
    assert json.loads(array)[-1]["candidates"][0]["finishReason"] == "STOP"


def test_the_last_users_words_are_the_question(mock: Mock) -> None:
    turns = [
        {"role": "user", "content": "first"},
        {"role": "assistant", "content": "answer"},
        {"role": "user", "content": [{"type": "text", "text": "second"}, {"type": "image_url"}]},
    ]
    assert b"to your question: second" in mock.call("POST", CHAT, {"messages": turns})[1]


def test_requests_are_counted_without_their_secrets(mock: Mock) -> None:
    for key in ("secret-1", "secret-1", "secret-2"):
        mock.call("POST", CHAT, ask("Q"), Authorization=f"Bearer {key}", Other="x")
    told = json.loads(mock.call("GET", "/_mock/requests")[1])
    assert (told["total"], sorted(told["counts"].values())) == (3, [1, 2])
    assert told["records"][0]["headers"]["Other"] == "x"
    assert "secret" not in json.dumps(told)


@pytest.mark.parametrize(
    ("behaviour", "seen"),
    [
        ({"status": 429}, b"rate_limit_error"),
        ({"finish_reason": "length"}, b'"finish_reason": "length"'),
        ({"tool_calls": True}, b'"tool_calls"'),
        ({"malformed": True}, b"not JSON"),
    ],
)
def test_it_behaves_as_it_is_told(mock: Mock, behaviour: dict[str, Any], seen: bytes) -> None:
    mock.call("PUT", "/_mock/behaviour", behaviour)
    status, body = mock.call("POST", CHAT, ask("Q"))
    assert status == behaviour.get("status", 200)
    assert seen in body


def test_it_may_break_off(mock: Mock) -> None:
    mock.call("PUT", "/_mock/behaviour", {"close_after": 2})
    with pytest.raises((http.client.HTTPException, ConnectionError)):
        mock.call("POST", CHAT, ask("Q", stream=True))


def test_unknown_behaviour_is_refused_with_what_is_known(mock: Mock) -> None:
    status, body = mock.call("PUT", "/_mock/behaviour", {"nonsense": 1})
    assert (status, b"latency_ms" in body) == (400, True)


def test_bodies_that_are_no_requests_are_400(mock: Mock) -> None:
    for path in (CHAT, MESSAGES, GEMINI):
        assert mock.call("POST", path, [1])[0] == 400
