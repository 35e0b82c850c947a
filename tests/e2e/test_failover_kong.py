"""Failover where it is nginx's own work, with the engine's part played by the test."""

from __future__ import annotations

import gzip
import hashlib
import http.client
import json
import queue
import socket
from collections.abc import Iterator
from contextlib import ExitStack, closing, suppress
from threading import Event, Thread
from typing import Any

import pytest

from dns_server import DnsServer
from engine_rig import EngineWorld, chat, plugin
from raw_provider import ANSWER, Asked, RawProvider, Script, reply, stream
from tenantgate.config.kong_conf import KongConfOptions, egress_conf, kong_conf
from tenantgate.devhost.redis_server import free_port
from tenantgate.policy.core.records import Routing

pytestmark = pytest.mark.e2e

PATIENCE_S = 20
NAMES = {
    "local.example": ["127.0.0.1"],
    "private.example": ["10.0.0.1"],
    "both.example": ["8.8.8.8", "127.0.0.1"],
    "silent.example": None,
}
REFUSES = reply(503, b'{"error": {"message": "busy"}}', Retry_After="7")


class Relay:
    """Between Kong and its hop; ends its next connections where told."""

    def __init__(self, port: int) -> None:
        self._to = ("127.0.0.1", port)
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._socket.getsockname()[1]
        self.ending = 0
        Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            connection, _ = self._socket.accept()
            connection.recv(1, socket.MSG_PEEK)  # the order is on its way
            if self.ending:
                self.ending -= 1
                connection.close()
                continue
            other = socket.create_connection(self._to)
            for pair in ((connection, other), (other, connection)):
                Thread(target=self._copy, args=pair, daemon=True).start()

    def _copy(self, source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                sink.sendall(data)
        with suppress(OSError):
            sink.shutdown(socket.SHUT_WR)


class HopWorld(EngineWorld):
    """With the port of the hop, and what stands between it and Kong."""

    hop_port: int
    relay: Relay


@pytest.fixture(scope="module")
def world(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[HopWorld]:
    kong_bin = request.config.getoption("--kong-bin")
    if request.config.getoption("--gateway-url"):
        pytest.skip("starts a gateway of its own")
    folder = tmp_path_factory.mktemp("hop")
    options = KongConfOptions(egress_port=free_port(), egress_include=folder / "egress.conf", ca_bundle=None)
    (folder / "egress.conf").write_text(egress_conf(options))
    ours = ("nginx_http_include", "nginx_http_lua_shared_dict", "nginx_proxy_proxy_next_upstream")
    lines = (line.partition(" = ") for line in kong_conf(options).splitlines())
    settings = {name: value for name, _, value in lines if name in ours}
    relay = Relay(options.egress_port)
    failover = plugin("tenantgate-failover", port=relay.port)
    settings["upstream_keepalive_pool_size"] = "0"
    with DnsServer(NAMES) as dns:
        if kong_bin:
            settings["dns_resolver"] = f"127.0.0.1:{dns.port}"
        target = {"egress_port": options.egress_port}
        with HopWorld(folder, kong_bin, plugins=[failover], target=target, settings=settings) as made:
            made.hop_port = options.egress_port
            made.relay = relay
            yield made


@pytest.fixture
def providers() -> Iterator[Any]:
    with ExitStack() as stack:
        yield lambda *scripts: [stack.enter_context(RawProvider(script)) for script in scripts]


def decision(*targets: dict[str, Any], **more: Any) -> dict[str, Any]:
    routing = Routing(connect_ms=2000, ttft_ms=20_000)
    table = {name: getattr(routing, name) for name in ("retries", "connect_ms", "ttft_ms")}
    table |= {"streaming_total_ms": 20_000, "non_streaming_total_ms": 20_000}
    table["failover_criteria"] = list(routing.failover_criteria)
    return {
        "target": targets[0],
        "targets": list(targets),
        "routing": table,
        "fail_closed": False,
        "reply_guard": False,
        **more,
    }


def two(world: HopWorld, providers: Any, first: Script, second: Script, **more: Any) -> list[RawProvider]:
    made: list[RawProvider] = providers(first, second)
    world.decision = decision(made[0].target("a"), made[1].target("b"), **more)
    return made


@pytest.mark.parametrize("is_stream", [False, True])
def test_a_held_reply_fails_over_in_its_subrequest(world: HopWorld, providers: Any, is_stream: bool) -> None:
    answer = stream("Hello.") if is_stream else reply()
    first, second = two(world, providers, REFUSES, answer, reply_guard=True)
    world.responses = 0
    status, headers, body = world.send(chat("Hi", stream=is_stream))
    assert (status, world.responses, b"Hello." in body) == (200, 1, True)
    assert (headers["x-tenantgate-target"], headers["x-tenantgate-tries"]) == ("b", "2")
    assert [p.asked[-1].headers["authorization"] for p in (first, second)] == [
        "Bearer key-of-a",
        "Bearer key-of-b",
    ]


def test_providers_are_asked_by_post_and_so_says_the_log(world: HopWorld, providers: Any) -> None:
    """nginx is told of another method, since it sends no POST twice."""
    made = two(world, providers, REFUSES, reply())
    status, headers, _ = world.send(chat("Hi"))
    assert status == 200
    assert [p.asked[-1].line for p in made] == ["POST /v1/chat/completions HTTP/1.1"] * 2
    told, record = world.logged(headers)
    assert record["request"]["method"] == "POST"
    assert [(t["target"], t["outcome"], t["status"]) for t in told["tries"]] == [
        ("a", "http_503", 503),
        ("b", "ok", 200),
    ]
    assert told["tries"][0]["limits"] == {"retry-after": "7"}
    assert told["tries"][1]["address"] == f"127.0.0.1:{made[1].port}"


def test_large_bodies_reach_the_second_provider_whole(world: HopWorld, providers: Any) -> None:
    text = "x" * 3_900_000
    made = two(world, providers, REFUSES, reply())
    assert world.send(chat(text))[0] == 200
    for provider in made:
        (message,) = json.loads(provider.asked[-1].body)["messages"]
        assert hashlib.sha256(message["content"].encode()).digest() == hashlib.sha256(text.encode()).digest()


def test_a_streams_first_byte_isnt_held_back(world: HopWorld, providers: Any) -> None:
    go_on = Event()
    two(world, providers, REFUSES, stream("first", "second", between=lambda: go_on.wait(PATIENCE_S)))
    with world.opened(chat("Hi", stream=True)) as response:
        assert b"first" in response.read1(65536)
        go_on.set()
        assert b"second" in response.read()


def test_a_client_that_leaves_ends_the_providers_work(world: HopWorld, providers: Any) -> None:
    left: queue.Queue[bytes] = queue.Queue()
    asked = Event()

    def hang(connection: socket.socket, _asked: Asked) -> bool:
        asked.set()
        connection.settimeout(PATIENCE_S)
        left.put(connection.recv(1))
        return False

    two(world, providers, hang, reply())
    with closing(http.client.HTTPConnection("127.0.0.1", world.port)) as connection:
        sent = {"Content-Type": "application/json", "apikey": "k-acme"}
        connection.request("POST", "/v1/chat/completions", json.dumps(chat("Hi", stream=True)), sent)
        assert asked.wait(PATIENCE_S)
    assert left.get(timeout=PATIENCE_S) == b""
    while True:
        told, record = world.logs.get(timeout=PATIENCE_S)
        if record["response"]["status"] == 499:
            break
    assert [t["outcome"] for t in told["tries"]] == ["aborted"]


def test_a_provider_tells_nginx_nothing(world: HopWorld, providers: Any) -> None:
    (only,) = providers(reply(X_Accel_Redirect="/kong_buffered_http", X_Tenantgate_Target="evil"))
    world.decision = decision(only.target("a"))
    status, headers, body = world.send(chat("Hi"))
    assert (status, headers["x-tenantgate-target"], len(only.asked)) == (200, "a", 1)
    assert b"Hello." in body


OVERLOADED = b'{"error": {"message": "Overloaded", "type": "overloaded_error"}}'
EVENTS = {"Content_Type": "text/event-stream"}


@pytest.mark.parametrize(
    ("first", "is_stream"),
    [
        (reply(200, OVERLOADED), False),
        (reply(200, OVERLOADED), True),
        (reply(200, b"data: " + OVERLOADED + b"\n\n", **EVENTS), True),
        (reply(200, b": wait\n\ndata: " + OVERLOADED + b"\n\n", **EVENTS), True),
    ],
)
def test_an_error_under_status_200_goes_on(
    world: HopWorld, providers: Any, first: Script, is_stream: bool
) -> None:
    two(world, providers, first, stream("Hello.") if is_stream else reply())
    status, headers, body = world.send(chat("Hi", stream=is_stream))
    assert (status, headers["x-tenantgate-target"], b"Hello." in body) == (200, "b", True)
    told, _ = world.logged(headers)
    assert told["tries"][0]["outcome"] == "http_529"


def test_an_error_under_status_200_has_a_status_for_the_client(world: HopWorld, providers: Any) -> None:
    (only,) = providers(reply(200, OVERLOADED))
    world.decision = decision(only.target("a"))
    status, _, body = world.send(chat("Hi"))
    assert (status, json.loads(body)) == (529, json.loads(OVERLOADED))


@pytest.mark.parametrize(
    ("first", "is_stream"),
    [
        (reply(200, b""), False),
        (reply(200, b"<html></html>"), False),
        (reply(200, json.dumps(ANSWER).encode()[:-30]), False),
        (reply(204, b""), False),
        (reply(600), False),
        (reply(200, gzip.compress(bytes(70_000_000), 1), Content_Encoding="gzip"), False),
        (reply(200, gzip.compress(json.dumps(ANSWER).encode())[:-9], Content_Encoding="gzip"), False),
        (reply(200), True),
        (reply(200, b"", **EVENTS), True),
        (reply(200, b": wait\n\n", **EVENTS), True),
    ],
)
def test_what_is_no_answer_goes_on_where_that_was_chosen(
    world: HopWorld, providers: Any, first: Script, is_stream: bool
) -> None:
    """It may have been billed."""
    two(world, providers, first, stream("Hello.") if is_stream else reply())
    assert world.decision is not None
    status, headers, _ = world.send(chat("Hi", stream=is_stream))
    assert (status, headers["x-tenantgate-tries"]) == (502, "1")
    world.decision["routing"]["failover_criteria"] = ["reset"]
    status, headers, body = world.send(chat("Hi", stream=is_stream))
    assert (status, headers["x-tenantgate-tries"], b"Hello." in body) == (200, "2", True)
    told, _ = world.logged(headers)
    assert told["tries"][0]["outcome"] == "reset"


CHUNK = b'data: {"choices": [{"index": 0, "delta": {"content": "Half"}%s}]}\n\n'


@pytest.mark.parametrize(
    ("body", "whole"),
    [
        (CHUNK % b"", False),
        (CHUNK % b"" + b"data: [DONE]\n\n", True),
        (CHUNK % b"" + CHUNK % b', "finish_reason": "stop"', True),
    ],
)
def test_a_stream_without_its_end_isnt_whole(
    world: HopWorld, providers: Any, body: bytes, whole: bool
) -> None:
    """Not even where its connection ended as it should."""
    (only,) = providers(reply(200, body, **EVENTS))
    options = {**only.target("a")["options"], "tenantgate": {"stream_usage": "asked"}}
    world.decision = decision(only.target("a", options=options))
    status, _, text = world.send(chat("Hi", stream=True))
    assert (status, b"Half" in text, b"broke off" not in text) == (200, True, whole)


@pytest.mark.parametrize("is_stream", [False, True])
@pytest.mark.parametrize("status", [502, 418])
def test_an_error_that_isnt_json_is_worded(
    world: HopWorld, providers: Any, status: int, is_stream: bool
) -> None:
    """ai-proxy would end the connection."""
    (only,) = providers(reply(status, b"<html>Bad</html>", Content_Type="text/html", Retry_After="3"))
    world.decision = decision(only.target("a"))
    found, headers, body = world.send(chat("Hi", stream=is_stream))
    assert (found, headers["retry-after"]) == (status, "3")
    assert headers["content-type"].startswith("application/json")
    assert json.loads(body)["error"]["code"] == ("bad_gateway" if status == 502 else "error")


def test_the_last_decision_holds_with_all_its_targets(world: HopWorld, providers: Any) -> None:
    two(world, providers, REFUSES, reply())
    assert world.send(chat("Hi", model="m1"))[0] == 200
    world.decision = None
    status, headers, _ = world.send(chat("Hi", model="m1"))
    assert (status, headers["x-tenantgate-tries"]) == (200, "2")


def test_the_last_decision_holds_with_its_egress_list(world: HopWorld, providers: Any) -> None:
    first, second = two(world, providers, reply(), reply(), egress=["api.openai.com"])
    assert world.send(chat("Hi", model="m1"))[0] == 502
    world.decision = None
    assert world.send(chat("Hi", model="m1"))[0] == 502
    assert first.asked == second.asked == []


@pytest.mark.parametrize("missing", [0, 1])
def test_a_target_without_its_credential_is_left_out(world: HopWorld, providers: Any, missing: int) -> None:
    made = two(world, providers, reply(), reply())
    assert world.decision is not None
    for number, target in enumerate(world.decision["targets"]):
        target["name"] = f"name-{number}"
    world.decision["targets"][missing]["auth"]["header_value"] = "{vault://env/NOT_THERE}"
    status, headers, _ = world.send(chat("Hi", model="name-0"))
    assert (status, headers["x-tenantgate-tries"]) == (200, "1")
    assert headers["x-tenantgate-target"] == "ba"[missing]
    assert made[missing].asked == []
    assert json.loads(made[1 - missing].asked[-1].body)["model"] == f"name-{1 - missing}"


@pytest.mark.parametrize(
    "order", [None, "{}", '{"token": null}', '{"token": "guessed", "host": "127.0.0.1"}', "x" * 300_000]
)
def test_nobody_else_gets_out_through_the_hop(world: HopWorld, order: str | None) -> None:
    port: int = world.hop_port
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_S)) as connection:
        connection.request("PUT", "/", b"{}", {} if order is None else {"X-Tenantgate-Order": order})
        response = connection.getresponse()
        assert (response.status, json.loads(response.read())["error"]["code"]) == (
            503,
            "tenantgate_unavailable",
        )


def test_an_order_that_is_too_large_lets_nothing_out(world: HopWorld, providers: Any) -> None:
    (only,) = providers(reply())
    world.decision = decision(only.target("a"), egress=[f"host{i}.example" for i in range(30_000)])
    status, _, body = world.send(chat("Hi"))
    assert (status, json.loads(body)["error"]["code"]) == (503, "tenantgate_unavailable")
    assert only.asked == []


@pytest.mark.parametrize(
    ("host", "egress", "outcome"),
    [
        ("local.example", ["http://*.example:{port}"], "refused"),
        ("private.example", ["http://*.example:{port}", "127.0.0.0/8"], "refused"),
        ("both.example", ["http://*.example:{port}"], "refused"),
        ("local.example", ["http://*.example:{port}", "127.0.0.0/8"], "ok"),
        ("localhost", ["http://localhost:{port}"], "refused"),
        ("localhost", ["http://localhost:{port}", "127.0.0.0/8", "::1/128"], "ok"),
        ("nowhere.example", ["http://*.example:{port}"], "error"),
        ("silent.example", ["http://*.example:{port}"], "error"),
    ],
)
def test_names_are_checked_by_the_addresses_that_they_stand_for(
    world: HopWorld, providers: Any, host: str, egress: list[str], outcome: str
) -> None:
    if world.kong is None and host in NAMES:
        pytest.skip("the embedded host asks the system for names")
    (only,) = providers(reply())
    url = f"http://{host}:{only.port}/v1/chat/completions"
    world.decision = decision(
        only.target("a", options={"upstream_url": url}),
        egress=[each.format(port=only.port) for each in egress],
    )
    world.decision["routing"]["connect_ms"] = 300
    _, headers, _ = world.send(chat("Hi"))
    told, _ = world.logged(headers)
    assert [t["outcome"] for t in told["tries"]] == [outcome]
    assert len(only.asked) == (outcome == "ok")


@pytest.mark.parametrize(
    ("token_uri", "allow", "status"),
    [
        ("http://127.0.0.1:{mock}", "http://127.0.0.1:{mock}", 200),
        ("http://127.0.0.1:{mock}", "api.example", 503),
        ("http://127.0.0.1:{mock}", "127.0.0.0/8", 503),
        ("http://user@127.0.0.1:{mock}", "http://127.0.0.1:{mock}", 503),
        ("http://127.1:{mock}", "http://127.0.0.1:{mock}", 503),
        ("http://local.example:{mock}", "http://local.example:{mock}", 503),
    ],
)
def test_a_token_is_asked_for_only_where_requests_may_go(
    world: HopWorld, providers: Any, token_uri: str, allow: str, status: int
) -> None:
    if world.kong is None:
        pytest.skip("the embedded host can't sign")
    (only,) = providers(reply())
    account = world.provider.google.key_file(token_uri.format(mock=world.mock))
    # Tokens are kept by the text of their account.
    account += " " * (world.provider.google.given + 1)
    auth = {"secrets": {"gcp_service_account_json": account}}
    egress = [f"http://127.0.0.1:{only.port}", allow.format(mock=world.mock)]
    world.decision = decision(only.target("a", auth=auth), egress=egress)
    given = world.provider.google.given
    found, _, _ = world.send(chat("Hi"))
    assert (found, len(only.asked)) == (status, status == 200)
    assert world.provider.google.given - given == (status == 200)
    if status == 200:
        assert only.asked[-1].headers["authorization"] == f"Bearer {world.provider.google.token()}"


@pytest.mark.parametrize(
    ("ending", "first", "status", "outcomes"),
    [(1, reply(), 200, ["ok"]), (1, REFUSES, 503, ["http_503"]), (2, reply(), 503, ["unknown"])],
)
def test_an_order_that_didnt_reach_the_hop_is_sent_once_more(
    world: HopWorld, providers: Any, ending: int, first: Script, status: int, outcomes: list[str]
) -> None:
    made = two(world, providers, first, reply())
    assert world.decision is not None
    world.decision["routing"]["retries"] = 1
    world.relay.ending = ending
    found, headers, _ = world.send(chat("Hi"))
    told, _ = world.logged(headers)
    assert (found, [t["outcome"] for t in told["tries"]]) == (status, outcomes)
    assert len(made[0].asked) == (outcomes != ["unknown"])
    assert made[1].asked == []
