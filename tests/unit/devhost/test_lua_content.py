"""What Lua waits for in content_by_lua: sockets, names, the client."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from lua_rig import Log, exchange
from tenantgate.devhost.exchange import Exchange
from tenantgate.devhost.lua_content import Content
from tenantgate.devhost.lua_state import LuaError, LuaState
from tenantgate.devhost.mock_tls import Authority

Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Client:
    """What the client is sent; it may have left."""

    def __init__(self, *, gone: bool = False) -> None:
        self.gone = gone
        self.sent = b""

    async def send(self, x: Exchange, chunk: bytes) -> None:
        if self.gone:
            raise ConnectionResetError
        self.sent += chunk


def state() -> LuaState:
    return LuaState(Log(), dicts=("mine",))


def ran(code: str, talk: Talk | None = None, *, client: Client | None = None, tls: ssl.SSLContext | None = None,
        trust: ssl.SSLContext | None = None) -> tuple[Client, Exchange]:  # fmt: skip
    """Run Lua whose global `port` is of a server that talks so."""
    lua, x, client = state(), exchange(body=b"asked"), client or Client()

    async def run() -> None:
        async def closing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            if talk:
                await talk(reader, writer)
            writer.close()

        server = await asyncio.start_server(closing, "127.0.0.1", 0, ssl=tls)
        async with server:
            port = server.sockets[0].getsockname()[1]
            made = lua.trusted(f"local port = {port} local sock = ngx.socket.tcp() {code}", "content")
            await Content(lua, trust or ssl.create_default_context(), client).run(x, made)

    asyncio.run(run())
    return client, x


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write((await reader.read(100)).upper())
    await writer.drain()


async def silence(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
    await reader.read(100)
    await reader.read(100)


CONNECTED = "assert(sock:connect('127.0.0.1', port)) "


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("sock:send({'a', {'b', 1}}) ngx.print(sock:receiveany(10))", b"AB1"),
        (
            "sock:send('ab') sock:receiveany(9) local d, why = sock:receiveany(9) ngx.print(tostring(d), why)",
            b"nilclosed",
        ),
        ("sock:close() local d, why = sock:send('a') ngx.print(tostring(d), why)", b"nilclosed"),
        ("sock:close() ngx.print(select(2, sock:close()))", b"closed"),
        ("ngx.print(sock:getreusedtimes())", b"0"),
        ("sock:setkeepalive(1, 2) ngx.print(select(2, sock:receiveany(1)))", b"closed"),
    ],
)
def test_sockets(code: str, said: bytes) -> None:
    assert ran(CONNECTED + code, echo)[0].sent == said


def test_a_server_that_says_nothing_is_a_timeout() -> None:
    code = CONNECTED + "sock:settimeout(10) sock:send('a') ngx.print(select(2, sock:receiveany(1)))"
    assert ran(code, silence)[0].sent == b"timeout"


def test_nobody_listens() -> None:
    code = "local ok, why = sock:connect('127.0.0.1', 1) ngx.print(tostring(ok), why)"
    assert ran(code)[0].sent == b"nilconnection refused"


@pytest.mark.parametrize(
    ("name", "asked", "said"),
    [
        ("localhost", "localhost", b"true"),
        ("other.example", "localhost", b"certificate host mismatch"),
        ("127.0.0.1", "127.0.0.1", b"true"),
    ],
)
def test_tls_goes_by_the_name_that_was_asked_for(tmp_path: Path, name: str, asked: str, said: bytes) -> None:
    authority = Authority()
    (tmp_path / "ca.pem").write_bytes(authority.pem)
    trust = ssl.create_default_context(cafile=str(tmp_path / "ca.pem"))
    code = (
        CONNECTED + f"local ok, why = sock:sslhandshake(nil, '{asked}', true) ngx.print(tostring(why or ok))"
    )
    assert ran(code, tls=authority.context(name), trust=trust)[0].sent == said


def test_tls_without_a_check_is_refused() -> None:
    with pytest.raises(LuaError, match="without a check"):
        ran(CONNECTED + "sock:sslhandshake(nil, 'a', false)", echo)


def test_names() -> None:
    code = "for _, a in ipairs(kong.dns.resolve('localhost')) do ngx.print(a.address, ' ') end"
    assert b"127.0.0.1 " in ran(code)[0].sent
    code = (
        "local found, why = kong.dns.resolve('nothing.invalid') ngx.print(tostring(found), #why > 0 and '+')"
    )
    assert ran(code)[0].sent == b"nil+"


@pytest.mark.parametrize(
    ("code", "status", "headers", "body"),
    [
        ("ngx.status = 404 ngx.header['X-A'] = 'b' ngx.print('no')", 404, {"X-A": "b"}, b"no"),
        ("ngx.exit(403) ngx.print('never')", 403, {}, b""),
        ("pcall(ngx.exit, 403) ngx.print('never')", 403, {}, b""),
        ("ngx.print(ngx.req.get_body_data(), ' ', ngx.req.get_method())", 200, {}, b"asked POST"),
        ("ngx.print(tostring(ngx.headers_sent))", 200, {}, b"false"),
    ],
)
def test_replies(code: str, status: int, headers: dict[str, str], body: bytes) -> None:
    client, x = ran(code)
    assert (x.status, dict(x.out), client.sent) == (status, headers, body)


def test_a_client_that_has_left() -> None:
    client = Client(gone=True)
    with pytest.raises(ConnectionResetError):  # of the end, which nobody hears of
        ran("assert(not ngx.print('a')) kong.ctx.shared.seen = 1 ", client=client)


def test_errors_are_told_with_their_place() -> None:
    with pytest.raises(LuaError, match="content:1: attempt to index local 'a'"):
        ran("local a return a.b")


def test_connections_end_with_their_request() -> None:
    ended = asyncio.Event()

    async def listening(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        try:
            await reader.read()
        finally:
            ended.set()

    ran(CONNECTED, listening)
    assert ended.is_set()


def test_elsewhere_nothing_waits() -> None:
    lua = state()
    for code in (
        "ngx.socket.tcp():connect('127.0.0.1', 1)",
        "kong.dns.resolve('localhost')",
        "ngx.print('a')",
    ):
        with pytest.raises(LuaError):
            lua.run(exchange(), "p", lua.trusted(code, "code"))


# -- shared memory


@pytest.mark.parametrize(
    ("code", "made"),
    [
        ("d:set('a', 1) return d:get('a')", 1),
        ("return tostring(d:get('a'))", "nil"),
        ("d:set('a', 1) return d:add('a', 2)", False),
        ("d:set('a', 1) d:add('a', 2) return d:get('a')", 1),
        ("d:set('a', 1) d:delete('a') return d:add('a', 2)", True),
        ("d:set('a', 1, -1) return d:get('a')", 1),
        ("d:set('a', nil) return tostring(d:get('a'))", "nil"),
        ("d:incr('a', 2, 5) return d:incr('a', 1)", 8),
        ("return select(2, d:incr('a', 1))", "not found"),
    ],
)
def test_shared_memory(code: str, made: Any) -> None:
    lua = state()
    found = lua.run(exchange(), "p", lua.trusted(f"local d = ngx.shared.mine {code}", "code"))
    assert lua.values.to_python(found) == made


def test_shared_memory_forgets_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr("tenantgate.devhost.lua_state.time.time", lambda: now[0])
    lua, x = state(), exchange()
    get = lua.trusted("return tostring(ngx.shared.mine:get('a'))", "code")
    lua.run(x, "p", lua.trusted("ngx.shared.mine:set('a', 'v', 10)", "code"))
    assert lua.run(x, "p", get) == b"v"
    now[0] = 110.0
    assert lua.run(x, "p", get) == b"nil"
