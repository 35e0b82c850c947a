"""A gateway with the Lua plugins around the engine, whose part the test plays; embedded, or a real Kong."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import http.client
import json
import os
import queue
import threading
from collections.abc import AsyncIterator, Callable, Generator, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, Self

import yaml
from aiohttp import web
from aiohttp.typedefs import Handler

from devhost_rig import PluginServer
from tenantgate.config import scripts
from tenantgate.devhost import gateway, mock_formats, readiness
from tenantgate.devhost.logs import KongLog
from tenantgate.devhost.mock_google import TokenServer
from tenantgate.devhost.mock_provider import Behaviour, MockProvider
from tenantgate.devhost.real_kong import RealKong
from tenantgate.devhost.redis_server import free_port
from tenantgate.guard.scripts import REPLY_GUARD_BODY, REPLY_GUARD_CHECK

from support import ROOT

KEY = "sk-provider-secret"
SERVER = {
    "Protocol": "MsgPack:1",
    "Plugins": [
        {
            "Name": "tenantgate",
            "Priority": 799,
            "Version": "0.1.0",
            "Phases": ["access", "response", "log"],
            "Schema": {"name": "tenantgate", "fields": [{"config": {"type": "record", "fields": []}}]},
        }
    ],
}


def plugin(name: str, **config: Any) -> dict[str, Any]:
    return {"name": name, "config": config}


def tree(
    more: Sequence[dict[str, Any]] = (), target: Mapping[str, Any] = MappingProxyType({})
) -> dict[str, Any]:
    """kong.yml: shared routes, one ai-proxy whose own configuration leads nowhere, and `more` plugins.

    `target` is added to the configuration of tenantgate-target.
    """
    nowhere = {"upstream_url": "http://127.0.0.1:1/"}
    ours = [
        plugin("tenantgate-request"),
        plugin("tenantgate"),
        plugin(
            "tenantgate-target",
            keep_headers=["OpenAI-Organization"],
            correlation_header="X-Request-ID",
            **target,
        ),
        plugin(
            "ai-proxy",
            route_type="llm/v1/chat",
            model={"provider": "openai", "name": "none", "options": nowhere},
            logging={"log_statistics": True, "log_payloads": True},
        ),
        plugin(
            "post-function",
            header_filter=[scripts.where_held(REPLY_GUARD_CHECK)],
            body_filter=[scripts.where_held(REPLY_GUARD_BODY)],
        ),
        *more,
    ]
    key_auth = plugin("key-auth", key_names=["apikey"], hide_credentials=True)
    shared = {"methods": ["POST"], "strip_path": True, "response_buffering": False}
    routes = [
        {"name": "chat", "paths": ["/v1/chat/completions"], "plugins": [key_auth, *ours], **shared},
        {
            "name": "by-path",
            "paths": ["~/v1/llm/(?<provider>[^/]+)/(?<model>[^/]+)/chat/completions$"],
            "plugins": [key_auth, *ours],
            **shared,
        },
        {"name": "keyless", "paths": ["/keyless"], "plugins": ours, **shared},
    ]
    return {
        "_format_version": "3.0",
        "services": [{"name": "llm", "url": "https://llm.invalid", "retries": 0, "routes": routes}],
        "consumers": [
            {"username": "u1", "custom_id": "acme", "keyauth_credentials": [{"key": "k-acme"}]},
            {"username": "u2", "custom_id": "b:\u00fc", "keyauth_credentials": [{"key": "k-b"}]},
            {"username": "u3", "keyauth_credentials": [{"key": "k-nobody"}]},
        ],
    }


class Provider(MockProvider):
    """The mock provider, which may wait in a stream after its first chunk, and may ask for one of its credentials.

    Attributes:
        more: headers of all replies, beside their own.
        reply: type and body in place of each reply.
    """

    def __init__(self) -> None:
        super().__init__(Behaviour(keep_bodies=True))
        self.google = TokenServer()
        self.go_on = asyncio.Event()
        self.go_on.set()
        self.accepts: frozenset[str] | None = None
        self.more: Mapping[str, str] = {}
        self.reply: tuple[str, bytes] | None = None

    async def _named(self, _request: web.Request, reply: web.StreamResponse) -> None:
        reply.headers.update(self.more)

    @web.middleware
    async def _known(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        if self.reply is not None:
            kind, body = self.reply
            return web.Response(body=body, headers={"Content-Type": kind})
        if self.accepts is None or request.headers.get("Authorization") in self.accepts:
            return await handler(request)
        return web.json_response({"error": {"message": "unknown key", "code": "invalid_api_key"}}, status=401)

    def app(self) -> web.Application:
        made = super().app()
        self.google.add_to(made)
        made.middlewares.append(self._known)
        made.on_response_prepare.append(self._named)
        return made

    async def _stream(
        self, request: web.Request, behaviour: Behaviour, chunks: AsyncIterator[bytes], kind: str
    ) -> web.StreamResponse:
        async def waiting() -> AsyncIterator[bytes]:
            async for chunk in chunks:
                yield chunk
                await self.go_on.wait()

        return await super()._stream(request, behaviour, waiting(), kind)


class EngineWorld:
    """The gateway, the provider, and the engine's decisions.

    Attributes:
        decision: what the engine decides next; None: it says nothing.
        secrets: the folder of the vault `file`.
        requests: the tables `tenantgate_request` that it was given, newest last.
        logs: (tenantgate_log, Kong's record) by request.
    """

    def __init__(
        self,
        folder: Path,
        kong_bin: str | None,
        *,
        plugins: Sequence[dict[str, Any]] = (),
        target: Mapping[str, Any] = MappingProxyType({}),
        settings: Mapping[str, object] = MappingProxyType({}),
    ) -> None:
        self.engine = PluginServer(folder / "tenantgate.socket")
        self.decision: dict[str, Any] | None = None
        self.response: list[tuple[str, list[Any]]] = [
            ("kong.ctx.shared.set", ["tenantgate_reply_guard", "pass"])
        ]
        self.requests: list[Any] = []
        self.responses = 0
        self.logs: queue.Queue[Any] = queue.Queue()
        self.engine.scripts = {"access": self._access, "response": self._response, "log": self._log}
        self.error_log = folder / "logs" / "error.log"
        self.secrets = folder / "secrets"
        self.secrets.mkdir()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self.provider = Provider()
        self.mock = self._call(self._start_mock())
        self.port, status = free_port(), free_port()
        (folder / "kong.yml").write_text(yaml.safe_dump(tree(plugins, target)))
        (folder / "dump.json").write_text(json.dumps(SERVER))
        conf = folder / "kong.conf"
        names = ["tenantgate-request", "tenantgate-target", *(p["name"] for p in plugins), "tenantgate"]
        given = {
            "prefix": folder,
            "database": "off",
            "declarative_config": folder / "kong.yml",
            "proxy_listen": f"127.0.0.1:{self.port}",
            "admin_listen": "off",
            "admin_gui_listen": "off",
            "status_listen": f"127.0.0.1:{status}",
            "log_level": "notice",
            "anonymous_reports": "off",
            "nginx_http_client_body_buffer_size": "16k",
            "nginx_http_client_max_body_size": "4m",
            "nginx_http_lua_socket_read_timeout": "500ms",
            "vaults": "bundled,file",
            "vault_file_prefix": self.secrets,
            "lua_package_path": f"{ROOT}/plugins/?.lua;;",
            "plugins": ",".join(["bundled", *names]),
            "pluginserver_names": "tenantgate",
            "pluginserver_tenantgate_socket": folder / "tenantgate.socket",
            "pluginserver_tenantgate_query_cmd": f"cat {folder}/dump.json",
            **(RealKong.settings() if kong_bin else {}),
            **settings,
        }
        conf.write_text("".join(f"{name} = {value}\n" for name, value in given.items()))
        environ = {**os.environ, "PROVIDER_KEY": KEY, "BAD_KEY": "two\nlines", "EMPTY_KEY": ""}
        environ["GCP_ACCOUNT"] = self.provider.google.key_file(f"http://127.0.0.1:{self.mock}")
        environ |= {"AWS_ID": mock_formats.AWS_KEY, "AWS_SECRET": mock_formats.AWS_SECRET}
        self.kong: RealKong | None = None
        if kong_bin:
            self.kong = RealKong(Path(kong_bin), conf, folder, log=folder / "start.log")
            self.kong.start(environ)
            readiness.wait(self.kong, status, conf, timeout_s=60)
        else:
            self.error_log.parent.mkdir()
            self._out = KongLog(self.error_log, "notice")
            self._gateway = gateway.Gateway(gateway.load(folder / "kong.yml", conf, environ), self._out)
            self._call(self._gateway.start("127.0.0.1", self.port, status))

    async def _start_mock(self) -> int:
        self._runner = web.AppRunner(self.provider.app(), access_log=None, handler_cancellation=True)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        return int(self._runner.addresses[0][1])

    def _call(self, coroutine: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(20)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        if self.kong:
            self.kong.stop()
        else:
            self._call(self._gateway.stop())
            self._out.close()
        self._call(self._runner.cleanup())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()
        self.engine.close()

    def write_secret(self, name: str, text: str) -> None:
        """Put a file of the vault `file` in the place of another, as Kubernetes and `mv` do."""
        new = self.secrets / f"{name}.new"
        new.write_text(text)
        new.chmod(0o600)
        new.replace(self.secrets / name)

    # -- the engine

    def _access(self) -> Generator[tuple[str, list[Any]], Any, None]:
        self.requests.append((yield "kong.ctx.shared.get", ["tenantgate_request"]))
        if self.decision is not None:
            yield "kong.ctx.shared.set", ["tenantgate_decision", self.decision]

    def _response(self) -> Generator[tuple[str, list[Any]], Any, None]:
        self.responses += 1
        yield from self.response

    def _log(self) -> Generator[tuple[str, list[Any]], Any, None]:
        told = yield "kong.ctx.shared.get", ["tenantgate_log"]
        self.logs.put((told, json.loads((yield "kong.log.serialize", []))))

    def decide(self, provider: str = "openai", **more: Any) -> dict[str, Any]:
        """A decision for the mock provider in this format; what is given in `target` comes on top."""
        at = f"http://127.0.0.1:{self.mock}"
        known = {
            "openai": ("/v1/chat/completions", "Authorization", {}),
            "anthropic": ("/v1/messages", "x-api-key", {"anthropic_version": "2023-06-01", "max_tokens": 99}),
            "gemini": ("/v1beta/models/m1:generateContent", "x-goog-api-key", {}),
        }
        path, header, options = known[provider]
        target = {
            "provider": provider,
            "name": "m1",
            "options": {"upstream_url": at + path, **options},
            "auth": {
                "header_name": header,
                "header_value": "{vault://env/PROVIDER_KEY}",
                "bearer": header == "Authorization",
            },
            "response_streaming": "allow",
            "log_payloads": False,
            "max_request_body_size": 4 << 20,
            **more.pop("target", {}),
        }
        return {"target": target, "fail_closed": False, "reply_guard": False, **more}

    # -- the client

    @contextlib.contextmanager
    def opened(
        self,
        body: bytes | dict[str, Any],
        path: str = "/v1/chat/completions",
        headers: dict[str, str] | None = None,
    ) -> Iterator[http.client.HTTPResponse]:
        raw = json.dumps(body).encode() if isinstance(body, dict) else body
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        with contextlib.closing(connection):
            sent = {"Content-Type": "application/json", "apikey": "k-acme", **(headers or {})}
            connection.request("POST", path, raw, sent)
            yield connection.getresponse()

    def send(
        self, body: bytes | dict[str, Any], path: str = "/v1/chat/completions", **headers: str
    ) -> tuple[int, dict[str, str], bytes]:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        with self.opened(body, path, named) as response:
            return response.status, {n.lower(): v for n, v in response.getheaders()}, response.read()

    def logged(self, headers: Mapping[str, str]) -> tuple[Any, Any]:
        """`tenantgate_log` and Kong's record of the request that got these headers."""
        while True:
            told, record = self.logs.get(timeout=10)
            if record["request"]["id"] == headers["x-kong-request-id"]:
                return told, record

    def asked(self) -> dict[str, Any]:
        """What the provider was asked last."""
        return dict(self.provider.ledger.records[-1])

    def sent_body(self) -> bytes:
        """The body that the provider was sent last."""
        return base64.b64decode(self.asked()["body"])

    @contextlib.contextmanager
    def waiting_stream(self) -> Iterator[Callable[[], Any]]:
        """The provider sends one chunk of a stream, and the others when the function is called."""
        self._loop.call_soon_threadsafe(self.provider.go_on.clear)
        try:
            yield lambda: self._loop.call_soon_threadsafe(self.provider.go_on.set)
        finally:
            self._loop.call_soon_threadsafe(self.provider.go_on.set)


def chat(text: str = "Hi", model: str | None = "m1", **more: Any) -> dict[str, Any]:
    made = {"messages": [{"role": "user", "content": text}], **more}
    return made if model is None else {"model": model, **made}
