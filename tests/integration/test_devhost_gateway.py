"""The embedded gateway over real sockets: a scripted plugin server on one side, the mock provider on the other."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import queue
import socketserver
import threading
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import msgpack
import pytest
import yaml
from aiohttp import web

from tenantgate.config.scripts import END_OF_STREAM, FINISH_REASON
from tenantgate.devhost import declarative, kong_conf
from tenantgate.devhost.gateway import Gateway, Loaded
from tenantgate.devhost.logs import KongLog
from tenantgate.devhost.mock_provider import Behaviour, MockProvider
from tenantgate.devhost.plugin_servers import PluginInfo

from support import until

Script = Callable[[], Generator[tuple[str, list[Any]], Any, None]]
JSON = {"Content-Type": "application/json", "apikey": "k"}


class PluginServer:
    """Kong-pdk's side of the protocol, playing one generator for each phase."""

    def __init__(self, path: Path) -> None:
        self.scripts: dict[str, Script] = {}
        self.configs: list[dict[str, Any]] = []
        self.methods: list[str] = []
        self.instances: set[int] = set()
        self.refuse_start = False
        self.mute = False
        self._events: dict[int, Generator[Any, Any, None]] = {}
        self._ids = iter(range(1, 10**6))
        server = self

        class Handler(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                unpacker = msgpack.Unpacker(raw=False, strict_map_key=False, unicode_errors="surrogateescape")
                while data := self.request.recv(1 << 16):
                    unpacker.feed(data)
                    for _, msgid, method, (argument,) in unpacker:
                        if server.mute:
                            return
                        self.request.sendall(msgpack.packb([1, msgid, *server.answer(method, argument)]))

        class Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
            daemon_threads = True

        self._server = Server(str(path), Handler)
        threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True
        ).start()

    def answer(self, method: str, argument: Any) -> tuple[Any, Any]:
        self.methods.append(method)
        if method == "plugin.StartInstance":
            if self.refuse_start:
                return "no", None
            self.configs.append(json.loads(argument["Config"]))
            number = next(self._ids)
            self.instances.add(number)
            return None, {
                "Name": argument["Name"],
                "Id": number,
                "Config": argument["Config"],
                "StartTime": 0,
            }
        if method == "plugin.HandleEvent":
            if argument["InstanceId"] not in self.instances:
                return f"no plugin instance #{argument['InstanceId']}", None
            script = self.scripts.get(argument["EventName"])
            if script is None:
                return None, {"EventId": 0, "Data": "ret"}
            event = next(self._ids)
            self._events[event] = script()
            return self._step(event, None)
        return self._step(argument["EventId"], argument.get("Data"))

    def _step(self, event: int, value: Any) -> tuple[Any, Any]:
        try:
            method, args = self._events[event].send(value)
        except StopIteration:
            return None, {"EventId": event, "Data": "ret"}
        return None, {"EventId": event, "Data": {"Method": method, "Args": args}}

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


def route(name: str, *plugins: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {
        "name": name,
        "paths": [f"/{name}"],
        "plugins": list(plugins),
        "response_buffering": False,
        **more,
    }


def ai(port: int, **more: Any) -> dict[str, Any]:
    options = {"upstream_url": f"http://127.0.0.1:{port}/v1/chat/completions"}
    return {
        "name": "ai-proxy",
        "config": {
            "route_type": "llm/v1/chat",
            "auth": {"header_name": "Authorization", "header_value": "{vault://env/cred}"},
            "model": {"provider": "openai", "name": "m1", "options": options},
            "logging": {"log_statistics": True, "log_payloads": True},
            **more,
        },
    }


def tree(mock: int) -> dict[str, Any]:
    key_auth = {"name": "key-auth", "config": {}}
    acl = {"name": "acl", "config": {"allow": ["g"], "hide_groups_header": True}}
    mine = {"name": "mine", "config": {"word": "w"}}
    whole = {"name": "pre-function", "config": {"body_filter": [END_OF_STREAM]}}
    reason = {"name": "post-function", "config": {"body_filter": [FINISH_REASON]}}
    body = '{"error":"no verdict"}'
    check = (
        'if kong.ctx.shared.guard ~= "pass" then\n  return kong.response.exit(503, '
        f'\'{body}\', {{["Content-Type"] = "application/json"}})\nend'
    )
    routes = [
        route("chat", key_auth, acl, mine, ai(mock), reason),
        route("whole", key_auth, whole, mine, ai(mock)),
        route("bare", ai(mock)),
        route("deny", ai(mock, response_streaming="deny")),
        route("slow", mine, ai(mock)),
        route("buffer", {"name": "buffers", "config": {}}, ai(mock)),
        route("dead", mine, ai(1)),
        route("closed", {"name": "post-function", "config": {"access": [check]}}, mine, ai(mock)),
        route(
            "small",
            {
                "name": "request-size-limiting",
                "config": {"allowed_payload_size": 1, "size_unit": "kilobytes"},
            },
        ),
        route("limit", {"name": "rate-limiting", "config": {"year": 2, "limit_by": "ip"}}),
    ]
    upstream = f"http://127.0.0.1:{mock}"
    return {
        "_format_version": "3.0",
        "services": [{"name": "s", "url": upstream, "read_timeout": 300, "retries": 1, "routes": routes}],
        "plugins": [{"name": "correlation-id", "config": {"header_name": "X-Id", "echo_downstream": True}}],
        "consumers": [
            {
                "username": "tenant_a",
                "custom_id": "a",
                "keyauth_credentials": [{"key": "k"}],
                "acls": [{"group": "g"}],
            },
            {"username": "tenant_b", "custom_id": "b", "keyauth_credentials": [{"key": "other"}]},
        ],
    }


SCHEMA = [{"config": {"type": "record", "fields": [{"word": {"type": "string", "default": "d"}}]}}]


class World:
    """A gateway, its plugin server and its provider."""

    def __init__(self, folder: Path) -> None:
        self.plugins = PluginServer(folder / "p.socket")
        self.log = folder / "error.log"
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self.provider = MockProvider(Behaviour())
        self.mock = self._call(self._start_mock())
        conf = kong_conf.parse(
            f"prefix = {folder}\npluginserver_names = p\npluginserver_p_socket = {folder}/p.socket\n"
            "nginx_http_lua_socket_read_timeout = 300ms\nnginx_http_client_body_buffer_size = 2m\n"
        )
        (server,) = conf.plugin_servers
        infos = tuple(
            PluginInfo(
                name=name,
                priority=794,
                version="1.0.0",
                phases=frozenset(phases),
                schema=SCHEMA,
                server=server,
            )
            for name, phases in (("mine", {"access", "log"}), ("buffers", {"access", "response", "log"}))
        )
        config = declarative.load_text(
            yaml.safe_dump(tree(self.mock)),
            external={i.name: i.schema for i in infos},
            environ={"CRED": "Bearer provider-secret"},
        )
        self._out = KongLog(self.log, "info")
        self.gateway = Gateway(Loaded(conf=conf, config=config, plugins=infos), self._out)
        self.port, self.status_port = self._call(self.gateway.start("127.0.0.1", 0, 0))

    async def _start_mock(self) -> int:
        self._runner = web.AppRunner(self.provider.app(), access_log=None, handler_cancellation=True)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        return int(self._runner.addresses[0][1])

    def _call(self, coroutine: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(20)

    def send(
        self, path: str, body: bytes | dict[str, Any] | None = None, headers: dict[str, str] | None = None
    ) -> tuple[int, dict[str, str], bytes]:
        raw = json.dumps(body).encode() if isinstance(body, dict) else body
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        with contextlib.closing(connection):
            connection.request("POST", path, raw, {**JSON, **(headers or {})})
            response = connection.getresponse()
            return response.status, {n.lower(): v for n, v in response.getheaders()}, response.read()

    def chat(
        self, path: str = "/chat", text: str = "Hi you", **more: Any
    ) -> tuple[int, dict[str, str], bytes]:
        headers = more.pop("headers", None)
        return self.send(path, {"messages": [{"role": "user", "content": text}], **more}, headers)

    @contextlib.contextmanager
    def behaviour(self, **how: Any) -> Iterator[None]:
        connection = http.client.HTTPConnection("127.0.0.1", self.mock, timeout=10)
        with contextlib.closing(connection):
            connection.request("PUT", "/_mock/behaviour", json.dumps(how))
            assert connection.getresponse().read()
        try:
            yield
        finally:
            self.provider._now = self.provider._default

    def records(self) -> queue.Queue[Any]:
        """What the log phase was told, from now on."""
        told: queue.Queue[Any] = queue.Queue()

        def log() -> Generator[tuple[str, list[Any]], Any, None]:
            told.put(json.loads((yield "kong.log.serialize", [])))

        self.plugins.scripts["log"] = log
        return told

    def close(self) -> None:
        self._call(self.gateway.stop())
        self._call(self._runner.cleanup())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()
        self.plugins.close()
        self._out.close()


@pytest.fixture(scope="module")
def only_world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    made = World(tmp_path_factory.mktemp("w"))
    yield made
    made.close()


@pytest.fixture
def world(only_world: World) -> Iterator[World]:
    only_world.plugins.scripts = {}
    only_world.plugins.configs = []
    only_world.plugins.methods = []
    yield only_world
    only_world.plugins.scripts = {}
    only_world.plugins.refuse_start = only_world.plugins.mute = False


def record(told: queue.Queue[Any], headers: dict[str, str]) -> Any:
    """The record of this request; an earlier one's log phase may still be under way."""
    while True:
        found = told.get(timeout=10)
        if found["request"]["id"] == headers["x-kong-request-id"]:
            return found


def plays(world: World, *steps: tuple[str, list[Any]], phase: str = "access") -> list[Any]:
    """The plugin calls these functions; their answers are collected."""
    answers: list[Any] = []

    def script() -> Generator[tuple[str, list[Any]], Any, None]:
        for step in steps:
            answers.append((yield step))  # noqa: PERF401

    world.plugins.scripts[phase] = script
    return answers


def words(body: bytes) -> str:
    return str(json.loads(body)["choices"][0]["message"]["content"])


def events(body: bytes) -> list[Any]:
    lines = [line[6:] for line in body.decode().split("\n") if line.startswith("data: ")]
    assert lines[-1] == "[DONE]"
    return [json.loads(line) for line in lines[:-1]]


# -- the way through


def test_a_request_reaches_the_provider_with_its_credential_alone(world: World) -> None:
    status, headers, body = world.chat(text="What is seven?", headers={"Authorization": "Bearer mine"})
    assert status == 200
    assert "What is seven?" in words(body)
    assert headers["x-kong-llm-model"] == "openai/m1"
    assert {
        "via",
        "x-kong-upstream-latency",
        "x-kong-proxy-latency",
        "x-kong-request-id",
        "x-id",
    } <= headers.keys()
    seen = world.provider._records[-1]
    assert seen["model"] == "m1"
    assert seen["headers"]["X-Consumer-Custom-ID"] == "a"
    assert "provider-secret" not in json.dumps(seen)
    assert "mine" not in json.dumps(seen["headers"])


@pytest.mark.parametrize(
    ("path", "headers", "status", "message"),
    [
        ("/chat", {"apikey": ""}, 401, "No API key found in request"),
        ("/chat", {"apikey": "wrong"}, 401, "Unauthorized"),
        ("/chat", {"apikey": "other"}, 403, "You cannot consume this service"),
        ("/nowhere", {}, 404, "no Route matched with those values"),
        ("/small", {}, 413, "Request size limit exceeded"),
    ],
)
def test_refusals_have_kongs_form(
    world: World, path: str, headers: dict[str, str], status: int, message: str
) -> None:
    got, names, body = world.send(path, b"x" * 1025, headers)
    assert (got, json.loads(body)) == (status, {"message": message, "request_id": names["x-kong-request-id"]})
    assert "x-kong-response-latency" in names
    assert "via" not in names


def test_a_limit_is_counted_and_told(world: World) -> None:
    got = [world.send("/limit/_mock/ready") for _ in range(3)]
    assert [(s, h["x-ratelimit-remaining-year"]) for s, h, _ in got][1:] == [(405, "0"), (429, "0")]
    assert json.loads(got[-1][2])["message"] == "API rate limit exceeded"
    assert got[-1][1]["retry-after"] == got[-1][1]["ratelimit-reset"]


@pytest.mark.parametrize(
    ("body", "path", "message"),
    [
        (b"hello", "/bare", "request body doesn't contain valid prompts"),
        (b'{"messages": [], "x": 1}', "/bare", "request body doesn't contain valid prompts"),
        (b'{"messages": ["a"], "model": "m2"}', "/bare", "cannot use own model - must be: m1"),
        (
            b'{"prompt": "a"}',
            "/bare",
            "[llm/v1/completions] message format is not compatible with [llm/v1/chat] route type",
        ),
        (b'{"prompt": "a", "messages": ["a"]}', "/bare", "request matches multiple LLM request formats"),
        (b'{"messages": ["a"], "stream": true}', "/deny", "response streaming is not enabled for this LLM"),
    ],
)
def test_ai_proxy_refuses_as_kongs_does(world: World, body: bytes, path: str, message: str) -> None:
    status, _, got = world.send(path, body)
    assert (status, json.loads(got)) == (400, {"error": {"message": message}})


def test_a_message_that_lua_cant_index_is_a_500(world: World) -> None:
    status, _, body = world.send("/bare", b'{"messages": [1]}')
    assert (status, json.loads(body)["message"]) == (500, "An unexpected error occurred")


def test_a_megabyte_passes_both_ways(world: World) -> None:
    answers = plays(world, ("kong.request.get_raw_body", []))
    status, _, body = world.chat(text="word " * 250_000)
    assert (status, len(answers[0]) > 1_250_000) == (200, True)
    assert "word word" in words(body)


# -- streams


def test_a_stream_flows_and_its_log_has_the_assembled_text(world: World) -> None:
    told = world.records()
    with world.behaviour(chunk_ms=2):
        status, headers, body = world.chat("/whole", stream=True)
    assert (status, headers["content-type"]) == (200, "text/event-stream")
    text = "".join(e["choices"][0]["delta"].get("content", "") for e in events(body))
    proxy = record(told, headers)["ai"]["proxy"]
    logged = json.loads(proxy["payload"]["response"])
    assert logged["choices"][0]["message"]["content"] == text
    assert logged["object"] == "chat.completion"
    assert proxy["usage"]["prompt_tokens"] == 4  # two words times 1.8: an estimate, as Kong's
    assert proxy["meta"] == {
        **proxy["meta"],
        "provider_name": "openai",
        "request_model": "m1",
        "response_model": "m1",
    }
    assert json.loads(proxy["payload"]["request"])["stream"] is True


def test_kong_repeats_a_streams_last_chunk_in_the_log_unless_told_otherwise(world: World) -> None:
    told = world.records()
    for path, times in (("/whole", 1), ("/chat", 2)):
        with world.behaviour(at_once=True):
            _, headers, body = world.chat(path, stream=True)
        text = "".join(e["choices"][0]["delta"].get("content", "") for e in events(body))
        logged = json.loads(record(told, headers)["ai"]["proxy"]["payload"]["response"])
        assert logged["choices"][0]["message"]["content"] == text * times, path


def test_the_reason_of_a_streams_end_is_noted(world: World) -> None:
    told: queue.Queue[Any] = queue.Queue()

    def log() -> Generator[tuple[str, list[Any]], Any, None]:
        found = json.loads((yield "kong.log.serialize", []))
        told.put(found | {"reason": (yield "kong.ctx.shared.get", ["tenantgate_finish_reason"])})

    world.plugins.scripts["log"] = log
    with world.behaviour(finish_reason="length"):
        _, headers, _ = world.chat(stream=True)
    assert record(told, headers)["reason"] == "length"


def test_a_client_that_leaves_ends_the_request_and_is_logged_without_ai(world: World) -> None:
    told = world.records()
    body = json.dumps({"messages": [{"role": "user", "content": "long"}], "stream": True}).encode()
    with world.behaviour(chunk_ms=200):
        connection = http.client.HTTPConnection("127.0.0.1", world.port, timeout=10)
        connection.request("POST", "/slow", body, JSON)
        response = connection.getresponse()
        assert response.read1(10)
        connection.close()
        found = record(told, {name.lower(): value for name, value in response.getheaders()})
    assert found["response"]["status"] == 200
    assert "ai" not in found


# -- plugins in their server


def test_what_a_plugin_sets_reaches_client_and_provider(world: World) -> None:
    body = {"messages": [{"role": "user", "content": "rewritten"}]}
    for stream in (False, True):
        plays(
            world,
            ("kong.response.set_headers", [{"X-Cache-Status": "Miss", "X-N": 3}]),
            ("kong.service.request.set_raw_body", [json.dumps({**body, "stream": stream}).encode()]),
        )
        status, headers, got = world.chat()
        assert (status, headers["x-cache-status"], headers["x-n"]) == (200, "Miss", "3")
        assert b"rewritten" in got


def test_a_plugin_is_told_what_kong_tells(world: World) -> None:
    answers = plays(
        world,
        ("kong.client.get_consumer", []),
        ("kong.request.get_headers", []),
        ("kong.request.get_query", []),
        ("kong.request.get_header", ["X-ODD"]),
        ("kong.request.get_header", ["nope"]),
        ("kong.router.get_route", []),
        ("kong.nonsense", []),
        ("kong.ctx.shared.set", ["mark", {"a": []}]),
        ("kong.ctx.shared.get", ["mark"]),
    )
    world.chat("/chat?a=1&a=2&b", headers={"X-Odd": b"caf\xe9".decode("latin-1")})
    consumer, headers, query, odd, nope, found, nonsense, _, mark = answers
    assert (consumer["custom_id"], found["name"]) == ("a", "chat")
    assert (headers["x-odd"], odd) == (["caf\udce9"], "caf\udce9")
    assert query == {"a": ["1", "2"], "b": []}
    assert (nope, nonsense, mark) == (None, None, {"a": []})
    assert {"plugin.StepConsumer", "plugin.StepMultiMap", "plugin.StepRoute", "plugin.Step"} <= set(
        world.plugins.methods
    )
    assert world.provider._records[-1]["headers"]["X-Odd"] == "caf\\udce9"


def test_an_answer_of_a_plugin_passes_untouched_and_ends_the_phase(world: World) -> None:
    told = world.records()
    after = plays(
        world, ("kong.response.exit", [200, "data: {}\n\n", {"Content-Type": "text/event-stream"}]), ("x", [])
    )
    before = world.provider._counts.total()
    status, headers, body = world.chat(stream=True)
    assert (status, headers["content-type"], body) == (200, "text/event-stream", b"data: {}\n\n")
    assert (after, world.provider._counts.total()) == ([], before)
    meta = record(told, headers)["ai"]["proxy"]["meta"]
    assert (meta["provider_name"], meta["request_model"]) == ("UNSPECIFIED", "UNSPECIFIED")


def test_the_log_phase_sees_what_was_saved(world: World) -> None:
    plays(world, ("kong.response.set_header", ["X-A", "1"]))
    answers = plays(
        world,
        ("kong.response.get_status", []),
        ("kong.response.get_header", ["x-a"]),
        ("kong.response.get_source", []),
        ("kong.request.get_header", ["apikey"]),
        ("kong.client.get_consumer", []),
        phase="log",
    )
    world.chat()
    until(lambda: len(answers), lambda n: n == 5, what="answers in log")
    assert [*answers[:4], answers[4]["custom_id"]] == [200, "1", "service", "k", "a"]


@pytest.mark.parametrize(
    "method", ["kong.request.get_raw_body", "kong.request.get_method", "kong.response.exit"]
)
def test_what_a_timer_cant_do_is_never_answered_in_log(world: World, method: str) -> None:
    world.log.write_text("")
    answers = plays(world, (method, [200]), phase="log")
    assert world.chat()[0] == 200
    until(world.log.read_text, lambda t: "lua entry thread aborted" in t, what="error log")
    assert answers == []


@pytest.mark.parametrize(
    "step",
    [
        ("kong.response.exit", ["no number"]),
        ("kong.service.response.get_raw_body", []),
        ("kong.response.get_raw_body", []),
    ],
)
def test_misuse_is_a_500(world: World, step: tuple[str, list[Any]]) -> None:
    plays(world, step)
    status, _, body = world.chat()
    assert (status, json.loads(body)["message"]) == (500, "An unexpected error occurred")


def test_a_restarted_server_gets_new_instances(world: World) -> None:
    plays(world, ("kong.response.set_header", ["X-A", "1"]))
    assert world.chat()[1]["x-a"] == "1"
    world.plugins.instances.clear()
    world.plugins.methods.clear()
    assert world.chat()[1]["x-a"] == "1"
    # The log event of the first request may still come in between, and wants an instance as well.
    first = world.plugins.methods.index("plugin.StartInstance")
    assert "plugin.HandleEvent" in world.plugins.methods[:first]
    assert "plugin.HandleEvent" in world.plugins.methods[first:]


def test_a_server_that_hangs_is_passed_by(world: World) -> None:
    plays(world, ("kong.response.set_header", ["X-A", "1"]))
    assert world.chat()[1]["x-a"] == "1"
    world.plugins.mute = True
    status, headers, _ = world.chat()
    assert (status, headers.get("x-a")) == (200, None)


def test_no_instance_is_a_500(world: World) -> None:
    world.plugins.instances.clear()
    world.plugins.refuse_start = True
    status, _, body = world.chat()
    assert (status, json.loads(body)["message"]) == (500, "An unexpected error occurred")


def test_without_the_guards_mark_the_route_is_closed(world: World) -> None:
    status, headers, body = world.chat("/closed")
    assert (status, headers["content-type"], body) == (503, "application/json", b'{"error":"no verdict"}')
    plays(world, ("kong.ctx.shared.set", ["guard", "pass"]))
    assert world.chat("/closed")[0] == 200


# -- replies that are buffered


def test_a_response_phase_sees_the_whole_reply(world: World) -> None:
    answers = plays(
        world,
        ("kong.service.response.get_raw_body", []),
        ("kong.service.response.get_status", []),
        ("kong.response.set_header", ["X-R", "1"]),
        phase="response",
    )
    status, headers, body = world.chat("/buffer", stream=True)
    assert (status, headers["x-r"], answers[1]) == (200, "1", 200)
    assert answers[0].startswith(b"data: ")
    assert events(body)


def test_a_response_phase_may_replace_the_reply(world: World) -> None:
    plays(world, ("kong.response.exit", [451, "blocked"]), phase="response")
    status, _, body = world.chat("/buffer")
    assert (status, body) == (451, b"blocked")


def test_access_may_undo_the_buffering(world: World) -> None:
    plays(world, ("kong.nginx.set_ctx", ["buffered_proxying", False]))
    seen = plays(world, ("kong.service.response.get_status", []), phase="response")
    assert world.chat("/buffer", stream=True)[0] == 200
    assert seen == []


# -- providers that fail


def test_a_provider_that_isnt_there_is_a_502(world: World) -> None:
    told = world.records()
    status, headers, body = world.chat("/dead")
    assert (status, json.loads(body)["message"]) == (
        502,
        "An invalid response was received from the upstream server",
    )
    assert [t["code"] for t in record(told, headers)["tries"]] == [502, 502]


def test_a_provider_that_is_silent_is_a_504(world: World) -> None:
    with world.behaviour(latency_ms=5000):
        status, _, body = world.chat("/bare", stream=True)
    assert (status, json.loads(body)["message"]) == (504, "The upstream server is timing out")


@pytest.mark.parametrize("status", [400, 429, 500])
def test_a_providers_error_passes(world: World, status: int) -> None:
    with world.behaviour(status=status):
        got, _, body = world.chat("/bare")
    assert (got, json.loads(body)["error"]["message"]) == (status, "the mock provider was told to fail")


def test_a_reply_that_isnt_one_is_a_500_that_says_so(world: World) -> None:
    with world.behaviour(malformed=True):
        status, _, body = world.chat("/bare")
    told = "transformation failed from type openai://llm/v1/chat: failed to decode llm/v1/chat response"
    assert (status, json.loads(body)) == (500, {"error": {"message": told}})


def test_a_stream_that_breaks_off_breaks_off_for_the_client(world: World) -> None:
    with world.behaviour(close_after=3), pytest.raises((http.client.IncompleteRead, ConnectionError)):
        world.chat("/bare", stream=True)


def test_the_status_port_says_when_it_is_ready(world: World) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", world.status_port, timeout=10)
    with contextlib.closing(connection):
        connection.request("GET", "/status/ready")
        assert connection.getresponse().status == 200
