"""The Lua plugins around the engine, whose part the test plays. On the embedded host, or the Kong of --kong-bin."""

from __future__ import annotations

import gzip
import hashlib
import json
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from engine_rig import KEY, EngineWorld, chat
from raw_provider import Asked, RawProvider, reply
from tenantgate.kong.policy import UNAVAILABLE
from tenantgate.llm.errors import BY_STATUS, Code, error_body

from support import until

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def shared_world(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[EngineWorld]:
    if request.config.getoption("--gateway-url"):
        pytest.skip("starts a gateway of its own")
    folder = tmp_path_factory.mktemp("lua")
    with EngineWorld(folder, request.config.getoption("--kong-bin")) as made:
        yield made


@pytest.fixture
def world(shared_world: EngineWorld) -> EngineWorld:
    shared_world.decision = None
    shared_world.requests.clear()
    shared_world.responses = 0
    return shared_world


def error(body: bytes) -> Any:
    return json.loads(body)["error"]["code"]


def streaming(decision: dict[str, Any]) -> dict[str, Any]:
    options = decision["target"]["options"]
    options["upstream_url"] = options["upstream_url"].replace(":generateContent", ":streamGenerateContent")
    return decision


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("provider", "path", "credential"),
    [
        ("openai", "/v1/chat/completions", f"Bearer {KEY}"),
        ("anthropic", "/v1/messages", KEY),
        ("gemini", "/v1beta/models/m1:", KEY),
    ],
)
def test_a_request_goes_to_its_target(
    world: EngineWorld, provider: str, path: str, credential: str, stream: bool
) -> None:
    made = world.decide(provider)
    world.decision = streaming(made) if stream else made
    status, headers, body = world.send(chat("Hello", stream=stream))
    asked = world.asked()
    assert (status, asked["stream"]) == (200, stream)
    assert asked["path"].startswith(path)
    assert asked["credential_sha256"] == hashlib.sha256(credential.encode()).hexdigest()
    assert headers["content-type"].startswith("text/event-stream" if stream else "application/json")
    if not stream:
        assert "mock answer" in json.loads(body)["choices"][0]["message"]["content"]
    _, record = world.logged(headers)
    assert record["ai"]["proxy"]["meta"]["provider_name"] == provider
    assert record["ai"]["proxy"]["meta"]["request_model"] == "m1"


def test_what_the_engine_is_given(world: EngineWorld) -> None:
    raw = b'{"messages": "' + b"\xff\xfe" * 20_000 + b'"}'  # more than nginx keeps in memory
    world.decision = world.decide(
        state={"n": [1, {"bytes": b"\xff"}]}, keep_body=True, shared={"tg_note": "n"}
    )
    status, headers, _ = world.send(
        raw, "/v1/llm/openai/gpt-4o/chat/completions?secret=1", X_Other="caf\u00e9"
    )
    assert status == 400  # of ai-proxy
    (told,) = world.requests
    assert told["body"].encode("utf-8", "surrogateescape") == raw
    assert told["captures"] == {"provider": "openai", "model": "gpt-4o"}
    assert (told["tenant"], told["method"]) == ("acme", "POST")
    assert told["path"] == "/v1/llm/openai/gpt-4o/chat/completions"
    assert told["headers"]["x-other"].encode("utf-8", "surrogateescape") == "caf\u00e9".encode("latin-1")
    assert "apikey" not in told["headers"]
    logged, record = world.logged(headers)
    request = logged.pop("request")
    assert request.pop("body").encode("utf-8", "surrogateescape") == raw
    assert request == {k: told[k] for k in ("tenant", "credential", "id")}
    assert record["request"]["id"] == told["id"]
    assert logged["state"] == {"n": [1, {"bytes": "\udcff"}]}
    assert logged["shared"] == {"tg_note": "n"}
    assert (logged["status"], logged["source"], logged["decided"]) == (400, "exit", True)


def test_the_decision_is_applied(world: EngineWorld) -> None:
    body = json.dumps(chat("rewritten", model="m1")).encode()
    world.decision = world.decide(
        body=body,
        headers={"X-Cache-Status": "Miss", "X-Bad": "a\r\nX-Worse: 1", "X Bad": "1", "X-Table": {"a": "b"}},
    )
    status, headers, _ = world.send(chat("original", model="alias"))
    assert status == 200
    assert headers["x-cache-status"] == "Miss"
    assert not {"x-bad", "x-worse", "x bad", "x-table"} & headers.keys()
    assert b"rewritten" in world.sent_body()


def test_of_the_client_nothing_but_its_body_reaches_the_provider(world: EngineWorld) -> None:
    world.decision = world.decide()
    more = {f"X_Many_{i}": "1" for i in range(100)}
    sent = {"Cookie": "c=1", "X_Api_Key": "mine", "X_Goog_Api_Key": "g", "Proxy_Authorization": "p", **more}
    named = {"OpenAI_Organization": "org", "Upgrade": "websocket", "X_Forwarded_For": "10.1.1.1", "Via": "v"}
    traced = {"X_Request_ID": "r-1", "traceparent": "00-t", "TE": "trailers"}
    status, headers, _ = world.send(chat(), **sent, **named, **traced)
    assert status == 200
    seen = {name.lower() for name in world.asked()["headers"]}
    assert seen <= {
        "accept", "accept-encoding", "connection", "content-length", "content-type", "host", "user-agent",
        "openai-organization", "x-real-ip", "x-kong-request-id",
    }  # fmt: skip
    assert "openai-organization" in seen
    _, record = world.logged(headers)
    logged = record["request"]["headers"]
    assert len(logged) <= 100
    assert {"mine", "g", "p"}.isdisjoint(logged.values())


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("decided", [{}, {"X-Cache-Status": "Miss"}])
def test_a_provider_says_nothing_in_the_gateways_name(
    world: EngineWorld, stream: bool, decided: dict[str, str]
) -> None:
    world.decision = world.decide(headers=decided)
    forged = (
        "X-Cache-Status",
        "x-cache-key",
        "X-Tenantgate-Target",
        "X-TENANTGATE-Degraded",
        "X-RateLimit-Limit-Day",
    )
    world.provider.more = dict.fromkeys(forged, "Hit")
    try:
        status, headers, _ = world.send(chat(stream=stream))
    finally:
        world.provider.more = {}
    assert status == 200
    shown = {name.lower() for name in forged} & headers.keys()
    assert {name: headers[name] for name in shown} == {name.lower(): value for name, value in decided.items()}


def whole(**more: Any) -> bytes:
    choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "hi"}}
    return json.dumps({"id": "x", "model": "m", "choices": [choice], **more}).encode()


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("kind", "answer"),
    [
        (
            "application/json",
            whole(usage={"prompt_tokens": "1", "completion_tokens": [], "total_tokens": {}}),
        ),
        ("application/json", whole(usage=[1], model={"a": 1})),
        ("application/json", whole(usage=7)),
        ("application/json", b"[1]"),
        ("application/json", b"7"),
        ("application/json", b""),
        ("", whole()),
        ("text/html", b"<p>hi"),
        ("text/event-stream", b'data: {"choices": 7}\n\ndata: 7\n\ndata: {\n\ndata: [DONE]\n\n'),
        ("text/event-stream", b'data: {"choices": [], "usage": {"prompt_tokens": "a"}}\n\ndata: [DONE]\n\n'),
    ],
)
def test_whatever_a_provider_answers_the_client_has_a_reply(
    world: EngineWorld, kind: str, answer: bytes, stream: bool
) -> None:
    world.decision = world.decide()
    world.decision["target"]["options"]["tenantgate"] = {"stream_usage": "asked"}
    world.provider.reply = (kind, answer)
    try:
        status, headers, _ = world.send(chat(stream=stream))
    finally:
        world.provider.reply = None
    assert status in (200, 500, 502)
    world.logged(headers)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("stream", [False, True])
def test_no_provider_sends_a_client_elsewhere(world: EngineWorld, status: int, stream: bool) -> None:
    """The client's SDK would take its key along."""
    script = reply(status, b'{"error": {"message": "elsewhere"}}', Location="http://127.0.0.1:1/collect")
    with RawProvider(script) as provider:
        world.decision = world.decide(target=provider.target("a"))
        found, headers, _ = world.send(chat(stream=stream))
    assert (found, "location" in headers) == (502, False)


def test_a_reply_that_breaks_off_is_no_success(world: EngineWorld) -> None:
    if world.kong is None:
        pytest.skip("the embedded host has no buffered proxying of Kong's")

    def half(connection: socket.socket, _asked: Asked) -> bool:
        connection.sendall(
            b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 500\r\n\r\n{"
        )
        return False

    with RawProvider(half) as provider:
        world.decision = world.decide(target=provider.target("a"))
        assert world.send(chat())[0] == 502


@pytest.mark.parametrize(
    "named", ["Authorization", "close, authorization", "Content-Type", "Content-Length", "Upgrade, Host"]
)
def test_a_clients_connection_header_takes_nothing_from_the_request(world: EngineWorld, named: str) -> None:
    """Without the credential the provider would refuse it, and with that the deployment of all tenants."""
    world.decision = world.decide()
    before = world.provider.ledger.summary()["total"]
    for _ in range(2):
        assert world.send(chat("Hi"), Connection=named)[0] == 200
        assert world.asked()["credentials"].keys() == {"authorization"}
        assert {"content-type", "content-length"} <= {name.lower() for name in world.asked()["headers"]}
        assert json.loads(world.sent_body())["messages"] == chat("Hi")["messages"]
    assert world.provider.ledger.summary()["total"] == before + 2


def test_a_reply_is_packed_only_for_those_who_take_it(world: EngineWorld) -> None:
    world.decision = world.decide("anthropic", target={"accept_encoding": "gzip, identity"})
    _, headers, body = world.send(chat(), Accept_Encoding="br, gzip")
    assert (headers.get("content-encoding"), world.asked()["headers"]["Accept-Encoding"]) == (
        "gzip",
        "gzip, identity",
    )
    assert b"mock answer" in gzip.decompress(body)
    _, headers, body = world.send(chat(), Accept_Encoding="br")
    assert (headers.get("content-encoding"), world.asked()["headers"]["Accept-Encoding"]) == (
        None,
        "identity",
    )
    assert b"mock answer" in body


@pytest.mark.parametrize("log_payloads", [False, True])
def test_payloads_are_logged_as_the_target_says(world: EngineWorld, log_payloads: bool) -> None:
    world.decision = world.decide(target={"log_payloads": log_payloads})
    _, headers, _ = world.send(chat("Hello"))
    _, record = world.logged(headers)
    assert ("payload" in record["ai"]["proxy"]) is log_payloads
    assert record["ai"]["proxy"]["usage"]["total_tokens"] > 0


# -- streams and held replies


def test_streams_arrive_in_pieces(world: EngineWorld) -> None:
    world.decision = world.decide()
    with world.waiting_stream() as go_on, world.opened(chat("Hello", stream=True)) as response:
        first = response.read1(65536)
        assert b"data:" in first
        assert b"[DONE]" not in first
        go_on()
        assert b"[DONE]" in response.read()
    assert world.responses == 0


@pytest.mark.parametrize("stream", [False, True])
def test_a_guarded_reply_waits_for_the_response_phase(world: EngineWorld, stream: bool) -> None:
    world.decision = world.decide(reply_guard=True)
    status, _, body = world.send(chat("Hello", stream=stream))
    assert (status, world.responses) == (200, 1)
    assert b"mock" in body


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("closed", [True, None])
def test_without_the_engines_mark_a_guarded_reply_isnt_sent(
    world: EngineWorld, stream: bool, closed: Any
) -> None:
    world.decision, steps = world.decide(reply_guard=True, fail_closed=closed), world.response
    world.response = []
    try:
        status, _, body = world.send(chat("Hello", stream=stream))
    finally:
        world.response = steps
    assert (status, error(body)) == (503, "guard_unavailable")


def test_without_the_engines_mark_a_reply_passes_whose_rules_alert(world: EngineWorld) -> None:
    world.decision, steps = world.decide(reply_guard=True), world.response
    world.response = []
    try:
        assert world.send(chat("Hello"))[0] == 200
    finally:
        world.response = steps


def test_a_client_cant_get_around_the_response_phase(world: EngineWorld) -> None:
    """For a WebSocket Kong holds no reply back."""
    world.decision = world.decide(reply_guard=True)
    status, _, _ = world.send(chat(), Upgrade="websocket", Connection="Upgrade")
    assert (status, world.responses) == (200, 1)


def test_a_plain_reply_has_no_response_phase_either(world: EngineWorld) -> None:
    """ai-proxy holds it back itself, and Kong would ask the engine."""
    world.decision = world.decide()
    assert world.send(chat("Hello"))[0] == 200
    assert world.responses == 0


@pytest.mark.parametrize("reply_guard", [None, "no", 0])
def test_unknown_means_guarded(world: EngineWorld, reply_guard: Any) -> None:
    world.decision = world.decide(reply_guard=reply_guard)
    assert world.send(chat("Hello"))[0] == 200
    assert world.responses == 1


# -- credentials


@pytest.mark.parametrize(
    "auth",
    [
        {"header_value": "{vault://env/NOT_THERE}"},
        {"header_value": "{vault://env/EMPTY_KEY}"},
        {"header_value": "{vault://env/BAD_KEY}"},
        {"header_value": "{vault://nowhere/KEY}"},
        {"header_value": "Bearer {vault://env/PROVIDER_KEY}"},
        {"header_value": "two\r\nlines"},
        {"header_value": ["list"]},
        {"header_value": "key", "header_name": None},
    ],
    ids=lambda auth: str(auth["header_value"]),
)
def test_without_its_credential_no_request_leaves(world: EngineWorld, auth: dict[str, Any]) -> None:
    before = len(world.provider.ledger.records)
    world.decision = world.decide(target={"auth": {"header_name": "Authorization", "bearer": True, **auth}})
    status, _, body = world.send(chat())
    assert (status, error(body)) == (503, "credential_unavailable")
    assert len(world.provider.ledger.records) == before
    log = world.error_log.read_text("utf-8", "replace")
    assert KEY not in log
    assert "two" not in log


@pytest.mark.parametrize(
    ("auth", "sent"),
    [
        ({"header_name": "Authorization", "header_value": "Bearer x", "bearer": True}, "Bearer x"),
        ({"header_name": "Authorization", "header_value": "x", "bearer": True}, "Bearer x"),
        ({"header_name": "api-key", "header_value": "x", "bearer": False}, "x"),
        ({"header_name": "api-key"}, ""),
        (None, ""),
    ],
)
def test_credentials(world: EngineWorld, auth: Any, sent: str) -> None:
    world.decision = world.decide(target={"auth": auth})
    assert world.send(chat(), Authorization="Bearer mine")[0] == 200
    assert world.asked()["credential_sha256"] == hashlib.sha256(sent.encode()).hexdigest()


# -- without a decision


def settle(world: EngineWorld, **decision: Any) -> None:
    """A decision for model `fast`, then none."""
    model = decision.pop("asked", "fast")
    body = json.dumps(chat("decided")).encode()
    world.decision = world.decide(body=body, **decision)
    assert world.send(chat("decided", model=model))[0] == 200
    world.decision = None


def test_the_last_decision_holds(world: EngineWorld) -> None:
    settle(world)
    status, headers, _ = world.send(
        b'{"model": "fast", "messages": [{"role": "user", "content": "Hi", "x": []}]}'
    )
    assert (status, world.asked()["model"]) == (200, "m1")
    assert b'"x":[]' in world.sent_body()
    logged, _ = world.logged(headers)
    assert logged["decided"] is False


def test_a_dead_engine(world: EngineWorld) -> None:
    settle(world)
    world.engine.mute = True
    try:
        assert world.send(chat("Hi", model="fast"))[0] == 200
        assert error(world.send(chat("Hi", model="never asked"))[2]) == "tenantgate_unavailable"
    finally:
        world.engine.mute = False


@pytest.mark.parametrize(
    "decision", [{"fail_closed": True}, {"fail_closed": None}, {"fail_closed": 0}], ids=str
)
def test_closed_models_are_refused(world: EngineWorld, decision: dict[str, Any]) -> None:
    settle(world)
    settle(world, **decision)
    status, _, body = world.send(chat("Hi", model="fast"))
    assert (status, error(body)) == (503, "tenantgate_unavailable")


@pytest.mark.parametrize(
    ("body", "headers", "path"),
    [
        (chat(model="other"), {}, None),
        (chat(model=None), {}, None),
        (b"[" + json.dumps(chat(model="fast")).encode() + b"]", {}, None),
        (b'{"model": "fast", ', {}, None),
        (b"", {}, None),
        (b'{"model": ["fast"]}', {}, None),
        (b'{"model": null}', {}, None),
        (chat(model="fast"), {"Content_Type": "text/plain"}, None),
        (chat(model="fast"), {"Content_Type": "application/jsonx"}, None),
        (chat(model="fast"), {"apikey": "k-b"}, None),
        (chat(model="fast"), {}, "/v1/llm/a/b/chat/completions"),
        (chat(model="f" * 600), {}, None),
    ],
    ids=str,
)
def test_another_request_has_no_last_decision(
    world: EngineWorld, body: Any, headers: dict[str, str], path: str | None
) -> None:
    settle(world)
    status, _, answer = world.send(body, path or "/v1/chat/completions", **headers)
    assert (status, error(answer)) == (503, "tenantgate_unavailable")


def test_models_by_path_have_last_decisions_too(world: EngineWorld) -> None:
    path = "/v1/llm/openai/by-path/chat/completions"
    world.decision = world.decide()
    assert world.send(chat(model=None), path)[0] == 200
    world.decision = None
    assert world.send(chat(model=None), path)[0] == 200


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/v1/llm/openai/gpt%2D4o/chat/completions", 200),
        ("/v1/llm/%6Fpenai/gpt-4o/chat/completions", 200),
        ("/v1/llm/openai/gpt%252D4o/chat/completions", 503),
        ("/v1/llm/openai/gpt-4o%2Fchat/chat/completions", 503),
        ("/v1/chat/completions", 503),
    ],
)
def test_a_last_decision_is_of_what_the_path_names(world: EngineWorld, path: str, status: int) -> None:
    world.decision = world.decide()
    assert world.send(chat(model=None), "/v1/llm/openai/gpt-4o/chat/completions")[0] == 200
    world.decision = None
    assert world.send(chat(model=None), path)[0] == status


def test_what_isnt_a_decision(world: EngineWorld) -> None:
    for made in ("text", [], {"target": "text"}, {"state": {"a": 1}}):
        world.decision = made  # type: ignore[assignment]
        status, _, body = world.send(chat("Hi", model="undecided"))
        assert (status, error(body)) == (503, "tenantgate_unavailable")


@pytest.mark.parametrize(("path", "key"), [("/keyless", "k-acme"), ("/v1/chat/completions", "k-nobody")])
def test_who_is_no_tenant_is_refused(world: EngineWorld, path: str, key: str) -> None:
    world.decision = world.decide()
    status, _, body = world.send(chat(), path, apikey=key)
    message, kind, code = BY_STATUS[401]
    assert (status, body) == (401, error_body(message, kind=kind, code=code))
    assert world.requests in ([None], [])


def test_errors_are_worded_as_elsewhere(world: EngineWorld) -> None:
    _, _, body = world.send(chat(model="never asked"))
    assert json.loads(body) == json.loads(UNAVAILABLE[1])
    world.decision = world.decide(target={"auth": {"header_name": "a", "header_value": "{vault://env/NO}"}})
    found = json.loads(world.send(chat())[2])["error"]
    assert (found["type"], found["code"]) == ("server_error", Code.CREDENTIAL_UNAVAILABLE)


def test_a_credential_in_a_file_changes_under_load_and_no_request_is_lost(world: EngineWorld) -> None:
    old, new = "Bearer old", "Bearer new"
    world.write_secret("rotated", f"{old}\n")
    auth = {"header_name": "Authorization", "header_value": "{vault://file/rotated}", "bearer": True}
    world.decision = world.decide(target={"auth": auth})
    statuses: list[int] = []
    ended = threading.Event()

    def ask(stream: bool) -> None:
        while not ended.is_set():
            status, _, body = world.send(chat(stream=stream))
            statuses.append(status if not stream or b"[DONE]" in body else 0)

    def asked_with(credential: str) -> None:
        wanted = {hashlib.sha256(credential.encode()).hexdigest()}
        last = lambda: {r["credential_sha256"] for r in list(world.provider.ledger.records)[-30:]}  # noqa: E731
        until(last, lambda used: used == wanted, what="credentials of the last requests")

    with ThreadPoolExecutor(3) as pool:
        asking = [pool.submit(ask, stream) for stream in (False, True, True)]
        try:
            asked_with(old)
            world.provider.accepts = frozenset({old, new})
            world.write_secret("rotated", new)
            asked_with(new)
            world.provider.accepts = frozenset({new})
            world.provider.ledger.forget()
            asked_with(new)
        finally:
            ended.set()
            world.provider.accepts = None
    for thread in asking:
        thread.result()
    assert set(statuses) == {200}


def test_a_file_that_goes_and_comes_back_is_missed_by_nobody(world: EngineWorld) -> None:
    auth = {"header_name": "Authorization", "header_value": "{vault://file/gone}"}
    world.decision = world.decide(target={"auth": auth})
    status, _, body = world.send(chat())
    assert (status, error(body)) == (503, "credential_unavailable")
    world.write_secret("gone", "here")
    until(lambda: world.send(chat())[0], lambda status: status == 200, what="credential read")
    # As an editor does that writes in place: for a moment there is nothing.
    (world.secrets / "gone").write_text("")
    assert {world.send(chat())[0] for _ in range(20)} == {200}
