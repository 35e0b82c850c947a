"""Tries of the embedded host at upstreams that fail, as nginx and Kong make them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from aiohttp import web

from lua_rig import Log, exchange
from tenantgate.devhost.entities import Route, Service
from tenantgate.devhost.exchange import Exchange, Phase, Upstream
from tenantgate.devhost.lua_state import LuaState
from tenantgate.devhost.redis_server import free_port
from tenantgate.devhost.router import Match
from tenantgate.devhost.upstream import Client, UpstreamError

ASKING = frozenset({"error", "timeout", "http_503"})
CALLBACK = """
kong.service.set_retries({retries})
kong.service.set_target_retry_callback(function()
  kong.service.set_target("127.0.0.1", {port})
  kong.service.request.set_path("/other")
  kong.service.request.set_raw_body("second")
  ngx.req.clear_header("x-first")
  {more}
  return true
end)
"""


@dataclass
class World:
    """Servers by name, and what each was asked: (path, Host, body, whether it has X-First)."""

    ports: dict[str, int] = field(default_factory=dict)
    asked: list[tuple[str, str, str, str, bool]] = field(default_factory=list)

    def handler(self, name: str, status: int) -> Callable[[web.Request], Any]:
        async def handle(request: web.Request) -> web.Response:
            body = await request.text()
            first = "X-First" in request.headers
            self.asked.append((name, request.path_qs, request.headers["Host"], body, first))
            if status == 0:
                await asyncio.Event().wait()
            return web.Response(status=status, text=name)

        return handle


def tried(
    first: int,
    *,
    method: str = "POST",
    next_upstream: frozenset[str] = ASKING,
    retries: int = 1,
    more: str = "",
    code: str = CALLBACK,
) -> tuple[World, Exchange, int | str]:
    """A request to a server that answers with this status (0: never, -1: nobody listens), then to one that is well."""
    world, log = World(), Log()

    async def run() -> tuple[Exchange, int | str]:
        runners = []
        for name, status in (("first", first), ("second", 200)):
            app = web.Application()
            app.router.add_route("*", "/{tail:.*}", world.handler(name, status))
            runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
            await runner.setup()
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            world.ports[name] = runner.addresses[0][1]
            runners.append(runner)
        port = free_port() if first == -1 else world.ports["first"]
        service = Service(
            id="s", name="s", protocol="http", host="127.0.0.1", port=port, path=None, connect_timeout=1000,
            write_timeout=1000, read_timeout=500 if first == 0 else 10_000, entity={"retries": 0},
        )  # fmt: skip
        route = Route(
            id="r", name="r", service=service, paths=("/",), hosts=(), methods=frozenset(), headers={},
            strip_path=False, preserve_host=False, regex_priority=0, response_buffering=False, entity={},
        )  # fmt: skip
        x = exchange([("X-First", "1")], method=method, body=b"asked", args="q=1", match=Match(route, "/"))
        x.upstream = Upstream(
            scheme="http", host="127.0.0.1", port=port, path="/path", host_header="127.0.0.1"
        )
        lua = LuaState(log)
        text = code.format(retries=retries, port=world.ports["second"], more=more)
        lua.run(x, "p", lua.trusted(text, "code"))
        client = Client(lua, next_upstream)
        try:
            response = await client.send(x)
            async with response:
                result: int | str = f"{response.status} {await response.text()}"
        except UpstreamError as error:
            result = error.status
        await client.close()
        for runner in runners:
            await runner.cleanup()
        return x, result

    return world, *asyncio.run(run())


@pytest.mark.parametrize(
    ("first", "method", "next_upstream", "result"),
    [
        (-1, "POST", ASKING, "200 second"),
        (-1, "POST", frozenset({"off"}), 502),
        (503, "PUT", ASKING, "200 second"),
        (503, "POST", ASKING, "503 first"),
        (503, "POST", ASKING | {"non_idempotent"}, "200 second"),
        (500, "PUT", ASKING, "500 first"),
        (429, "PUT", ASKING, "429 first"),
        (0, "PUT", ASKING, "200 second"),
        (0, "POST", ASKING, 504),
        (0, "PUT", frozenset({"error"}), 504),
        (200, "PUT", ASKING, "200 first"),
    ],
)
def test_when_there_is_another_try(
    first: int, method: str, next_upstream: frozenset[str], result: int | str
) -> None:
    _world, x, found = tried(first, method=method, next_upstream=next_upstream)
    assert found == result
    assert len(x.tries) == (2 if found == "200 second" else 1)


def test_the_last_try_passes_the_status_on() -> None:
    assert tried(503, method="PUT", retries=0)[2] == "503 first"


def test_a_request_that_isnt_built_anew_reaches_the_second() -> None:
    """`set_target` freezes Host, and with it the whole request."""
    world, _, found = tried(503, method="PUT")
    assert found == "200 second"
    assert [entry[1:] for entry in world.asked] == [("/path?q=1", "127.0.0.1", "asked", True)] * 2


@pytest.mark.parametrize(
    ("more", "host"),
    [
        ("ngx.ctx.balancer_data.preserve_host = false", "127.0.0.1:{port}"),
        ("require('ngx.balancer').recreate_request()", "127.0.0.1"),
    ],
)
def test_a_request_that_is_built_anew(more: str, host: str) -> None:
    """But for its path, which nginx evaluates once."""
    world, _, found = tried(503, method="PUT", more=more)
    assert found == "200 second"
    expected = ("second", "/path?q=1", host.format(port=world.ports["second"]), "second", False)
    assert world.asked[1] == expected


def test_tries_are_noted() -> None:
    _, x, _ = tried(503, method="PUT")
    assert [(entry.get("state"), entry.get("code")) for entry in x.tries] == [("next", 503), (None, None)]
    assert x.phase is Phase.BALANCER


@pytest.mark.parametrize(
    "more", ["do return nil end", "error('no')", "kong.service.request.clear_header('x-first')"]
)
def test_a_callback_without_a_target_is_503(more: str) -> None:
    assert tried(503, method="PUT", more=more)[2] == 503
