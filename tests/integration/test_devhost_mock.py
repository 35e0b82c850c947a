"""The mock provider as a process of its own."""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import json
import ssl
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tenantgate.devhost.mock_control import MockControl
from tenantgate.devhost.mock_shapes import Reply, openai
from tenantgate.errors import EdgeError

CHAT = "/v1/chat/completions"
MESSAGES = "/v1/messages"
GEMINI = "/v1beta/models/g:generateContent"
GEMINI_STREAM = "/v1beta/models/g:streamGenerateContent"


class Mock(MockControl):
    def __init__(self, port: int, ca: Path) -> None:
        self.port = port
        self.ca = ca

    @property
    def mock_url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @contextlib.contextmanager
    def opened(
        self, body: Any, path: str, port: int = 0, timeout: float = 10
    ) -> Iterator[http.client.HTTPResponse]:
        connection = http.client.HTTPConnection("127.0.0.1", port or self.port, timeout=timeout)
        with contextlib.closing(connection):
            connection.request("POST", path, json.dumps(body))
            yield connection.getresponse()

    def call(self, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            connection.request(method, path, None if body is None else json.dumps(body), headers)
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()


@pytest.fixture(scope="module")
def process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mock]:
    ca = tmp_path_factory.mktemp("mock") / "ca.pem"
    command = [sys.executable, "-m", "tenantgate.devhost.mock_provider", "--port", "0", "--ca-file", str(ca)]
    running = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert running.stdout
    yield Mock(int(running.stdout.readline().strip().rpartition(":")[2]), ca)
    running.terminate()
    running.stdout.close()
    assert running.wait(10) == 0


@pytest.fixture
def mock(process: Mock) -> Mock:
    process.call("DELETE", "/_mock/behaviour")
    process.call("DELETE", "/_mock/rules")
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
        ({"status": 429}, b"rate_limit_exceeded"),
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


@pytest.mark.parametrize(
    ("path", "make", "status", "words"),
    [
        (CHAT, ask, 401, [b"invalid_api_key"]),
        (CHAT, ask, 500, [b"server_error"]),
        (MESSAGES, ask, 529, [b"overloaded_error", b'"type": "error"']),
        (MESSAGES, ask, 403, [b"permission_error"]),
        (GEMINI, gemini, 503, [b"UNAVAILABLE", b'"code": 503']),
        (GEMINI, gemini, 429, [b"RESOURCE_EXHAUSTED"]),
    ],
)
def test_errors_are_the_providers_own(
    mock: Mock, path: str, make: Any, status: int, words: list[bytes]
) -> None:
    with (
        mock.mock_rules({"status": status, "headers": {"Retry-After": "7"}}),
        mock.opened(make("Q"), path) as got,
    ):
        body = got.read()
        assert (got.status, got.getheader("Retry-After")) == (status, "7")
        assert all(word in body for word in words)


@pytest.mark.parametrize(
    ("path", "make", "words"),
    [
        (CHAT, ask, b"context_length_exceeded"),
        (MESSAGES, ask, b"prompt is too long"),
        (GEMINI, gemini, b"exceeds the maximum number of tokens"),
    ],
)
def test_a_prompt_may_be_too_long(mock: Mock, path: str, make: Any, words: bytes) -> None:
    with mock.mock_rules({"context_length": True}):
        status, body = mock.call("POST", path, make("Q"))
    assert (status, words in body) == (400, True)


def received(mock: Mock, *, stream: bool) -> tuple[bool, bool, str]:
    """Whether a head came, whether a part of the body came, and how it went on."""
    head, seen = False, b""
    try:
        with mock.opened(ask("Q", stream=stream), CHAT, timeout=0.3) as got:
            head = True
            while piece := got.read1(65536):
                seen += piece
            return head, bool(seen), "breaks" if got.length else "ends"
    except TimeoutError:
        return head, bool(seen), "hangs"
    except (http.client.HTTPException, ConnectionError):
        return head, bool(seen), "breaks"


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("fault", "seen"),
    [
        ("hang_head", (False, False, "hangs")),
        ("hang_body", (True, False, "hangs")),
        ("hang_middle", (True, True, "hangs")),
        ("close_head", (False, False, "breaks")),
        ("close_body", (True, False, "breaks")),
        ("close_middle", (True, True, "breaks")),
        ("short", (True, True, "breaks")),
        ("", (True, True, "ends")),
    ],
)
def test_faults(mock: Mock, fault: str, seen: tuple[bool, bool, str], stream: bool) -> None:
    with mock.mock_rules({"fault": fault}):
        assert received(mock, stream=stream) == seen


def test_a_reply_longer_than_announced(mock: Mock) -> None:
    whole = mock.call("POST", CHAT, ask("Q"))[1]
    with mock.mock_rules({"fault": "long"}):
        assert mock.call("POST", CHAT, ask("Q"))[1] == whole[:-10]


def test_a_redirect(mock: Mock) -> None:
    rule = {"fault": "redirect", "location": "http://elsewhere.invalid/"}
    with mock.mock_rules(rule), mock.opened(ask("Q"), CHAT) as got:
        assert (got.status, got.getheader("Location")) == (307, "http://elsewhere.invalid/")


def test_rules_are_for_a_port_a_model_and_a_number(mock: Mock) -> None:
    port = mock.mock_port()

    def status(model: str, at: int = 0) -> int:
        with mock.opened({**ask("Q"), "model": model}, CHAT, at) as got:
            return got.status

    with mock.mock_rules(
        {"model": "a", "skip": 1, "times": 2, "status": 500}, {"port": port, "model": "a", "status": 429}
    ):
        assert [status("a") for _ in range(4)] == [200, 500, 500, 200]
        assert (status("b", port), status("a", port)) == (200, 429)
    assert status("a", port) == 200


@pytest.mark.parametrize("rule", [{"fault": "burn"}, {"nonsense": 1}, ["status"], 1, {"status": 500, "x": 1}])
def test_rules_that_are_none(mock: Mock, rule: Any) -> None:
    with pytest.raises(EdgeError), mock.mock_rules(rule):
        pass
    assert mock.call("POST", CHAT, ask("Q"))[0] == 200


def test_a_port_that_refuses_and_listens_again(mock: Mock) -> None:
    port = mock.mock_port()
    with mock.mock_refuses(port), pytest.raises(ConnectionRefusedError), mock.opened(ask("Q"), CHAT, port):
        pass
    with mock.opened(ask("Q"), CHAT, port) as got:
        assert got.status == 200


@pytest.mark.parametrize(("name", "trusted"), [("localhost", True), ("other.example", False)])
def test_certificates(mock: Mock, name: str, trusted: bool) -> None:
    port = mock.mock_port(tls=name)
    context = ssl.create_default_context(cafile=str(mock.ca))
    connection = http.client.HTTPSConnection("localhost", port, timeout=10, context=context)
    with contextlib.closing(connection):
        wrong = contextlib.nullcontext() if trusted else pytest.raises(ssl.SSLCertVerificationError)
        with wrong:
            connection.request("POST", CHAT, json.dumps(ask("Q")))
            assert connection.getresponse().status == 200


def test_the_ledger(mock: Mock) -> None:
    with mock.mock_behaviour(keep_bodies=True):
        mock.call("POST", CHAT + "?a=b", ask("Q"), Host="api.example", Authorization="k1")
        both = {"Authorization": "k1", "x-api-key": "k2"}
        mock.call("POST", MESSAGES, ask("Q"), **both)
        mock.call("POST", CHAT, {})
    first, second, third = mock.mock_requests()
    assert (first["host"], first["path"], first["query"]) == ("api.example", CHAT, "a=b")
    assert first["port"] == mock.port
    hashed = {name: hashlib.sha256(key.encode()).hexdigest() for name, key in both.items()}
    assert second["credentials"] == {name.lower(): value for name, value in hashed.items()}
    assert json.loads(mock.mock_bodies()[0]) == ask("Q")
    assert first["question"] == second["question"] != third["question"]
    usage = openai(Reply("Q", "m")).get("usage", {})
    sums = [2, 2 * usage["prompt_tokens"], 2 * usage["completion_tokens"]]
    assert mock.mock_billing() == {
        "requests": 3,
        "billed": 1,
        "billed_twice": 1,
        "next_try_ms": [],
        "models": {"m": sums},
        "questions": {first["question"]: sums},
    }
    with mock.mock_rules({"status": 500, "times": 1}):
        mock.call("POST", CHAT, ask("R"))
        assert mock.mock_billing()["billed"] == 1
        mock.call("POST", MESSAGES, ask("R"))
    billing = mock.mock_billing()
    assert (billing["billed"], billing["billed_twice"], len(billing["next_try_ms"])) == (2, 1, 1)
