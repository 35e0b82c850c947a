"""An embedded gateway in this process, a scripted plugin server on one side and the mock provider on the other."""

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
import yaml
from aiohttp import web

from tenantgate.config.scripts import END_OF_STREAM, FINISH_REASON
from tenantgate.devhost import declarative, kong_conf, lua_plugins
from tenantgate.devhost.gateway import Gateway, Loaded
from tenantgate.devhost.logs import KongLog
from tenantgate.devhost.lua_state import LuaState
from tenantgate.devhost.mock_provider import Behaviour, MockProvider
from tenantgate.devhost.plugin_servers import PluginInfo
from tenantgate.devhost.stock_schemas import SCHEMAS

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
        if method == "plugin.CloseInstance":
            self.instances.discard(argument)
            return None, {}
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

    def __init__(
        self, folder: Path, make: Callable[[int], dict[str, Any]] = tree, settings: str = ""
    ) -> None:
        """`make` gives the content of kong.yml for the provider's port; `settings` are more lines of kong.conf."""
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
            f"{settings}"
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
        self._out = KongLog(self.log, "info")
        state = LuaState(self._out, conf.settings, conf.lua_package_path)
        own = lua_plugins.load(conf, {*SCHEMAS, *(i.name for i in infos)}, state)
        text = yaml.safe_dump(make(self.mock))
        schemas = {**{i.name: i.schema for i in infos}, **{p.name: p.fields for p in own}}
        environ = {"CRED": "Bearer provider-secret"}
        config = declarative.load_text(text, external=schemas, environ=environ)
        loaded = Loaded(
            conf=conf,
            config=config,
            plugins=infos,
            lua_plugins=own,
            lua=state,
            text=text,
            schemas=schemas,
            environ=environ,
        )
        self.gateway = Gateway(loaded, self._out)
        self.port, self.status_port, self.admin_port = self._call(self.gateway.start("127.0.0.1", 0, 0, 0))

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
            self.provider.rules.now = self.provider.rules.default

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
