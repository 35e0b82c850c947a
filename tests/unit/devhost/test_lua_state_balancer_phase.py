"""What plugins may do between two tries: Kong's balancer phase, in which nothing may yield."""

from __future__ import annotations

from typing import Any

import pytest

from lua_rig import Log, exchange
from tenantgate.devhost.exchange import Exchange, Phase, Upstream
from tenantgate.devhost.lua_state import LuaError, LuaState


def at(phase: Phase, **more: Any) -> Exchange:
    to = Upstream(scheme="http", host="a", port=80, path="/a", host_header="a")
    return exchange([("X-One", "1"), ("Content-Type", "application/json")], phase=phase, upstream=to, **more)


def run(lua: LuaState, x: Exchange, code: str) -> Any:
    return lua.values.to_python(lua.run(x, "p", lua.trusted(code, "code")))


@pytest.mark.parametrize(
    "code",
    [
        "kong.service.request.set_body({}, 'application/json')",
        "kong.service.request.clear_header('x-one')",
        "kong.service.request.add_header('x-two', '2')",
        "kong.service.request.set_headers({['x-two'] = '2'})",
        "kong.service.request.set_raw_query('a=b')",
        "kong.service.request.set_query({a = 'b'})",
        "kong.service.set_retries(1)",
        "kong.service.set_timeouts(1, 1, 1)",
        "kong.service.set_target_retry_callback(function() end)",
        "kong.response.set_header('a', 'b')",
        "kong.response.exit(200)",
        "kong.request.get_raw_body()",
        "kong.vault.get('{vault://env/A}')",
        "ngx.socket.tcp():connect('127.0.0.1', 1)",
    ],
)
def test_what_kong_refuses_there(code: str) -> None:
    lua = LuaState(Log(), environ={"A": "a"})
    with pytest.raises(LuaError):
        run(lua, at(Phase.BALANCER), code)


def test_what_kong_permits_there() -> None:
    lua, x = LuaState(Log()), at(Phase.BALANCER)
    run(lua, x, "kong.service.set_target('b', 8443) kong.service.request.set_scheme('https')")
    run(lua, x, "kong.service.request.set_path('/b') kong.service.request.set_raw_body('{}')")
    assert x.upstream == Upstream(scheme="https", host="b", port=8443, path="/b", host_header="b")
    assert (x.body, x.headers["Content-Length"]) == (b"{}", "2")
    run(lua, x, "ngx.req.clear_header('x-one') ngx.req.set_header('x-two', {'2', '3'})")
    run(lua, x, "kong.service.request.set_header('x-four', '4') kong.service.request.enable_buffering()")
    assert "x-one" not in x.headers
    assert (x.headers.getall("x-two"), x.headers["x-four"]) == (["2", "3"], "4")
    run(lua, x, "ngx.req.set_body_data('body') ngx.req.set_method(ngx.HTTP_PUT)")
    assert (x.body, x.method) == (b"body", "PUT")
    assert run(lua, x, "return kong.request.get_header('x-four') .. ngx.get_phase()") == "4balancer"
    run(lua, x, "require('ngx.balancer').recreate_request()")
    assert x.rebuild


@pytest.mark.parametrize(
    ("code", "problem"),
    [
        ("kong.service.set_retries(-1)", "retries must be an integer between 0 and 32767: given -1"),
        ("kong.service.set_retries(1.5)", "retries must be an integer"),
        ("kong.service.set_retries('1')", "retries must be an integer"),
        ("kong.service.set_timeouts(1, 0, 1)", "write_timeout must be an integer between"),
        ("kong.service.set_target('a', 70000)", "port must be an integer between 0 and 65535"),
        ("kong.service.set_target_retry_callback('f')", "retry_callback must be a function"),
        ("kong.service.request.set_scheme('ftp')", "the embedded host has no upstream scheme but"),
    ],
)
def test_arguments_are_checked(code: str, problem: str) -> None:
    with pytest.raises(LuaError) as told:
        run(LuaState(Log()), at(Phase.ACCESS), code)
    assert problem in str(told.value) or "an error of the plugin's own" in str(told.value)


@pytest.mark.parametrize(
    ("callback", "why"),
    [
        ("function() return true end", None),
        ("function() return nil end", "it gave none"),
        ("function() return false end", "it gave none"),
        ("function() error('no') end", "code:1: an error of the plugin's own, in balancer"),
        ("function() coroutine.yield() return true end", "it gave none"),
        ("function() kong.response.exit(200) end", "code:1: function cannot be called in balancer phase"),
    ],
)
def test_callbacks(callback: str, why: str | None) -> None:
    lua, x = LuaState(Log()), at(Phase.ACCESS)
    run(lua, x, f"kong.service.set_target_retry_callback({callback})")
    x.phase = Phase.BALANCER
    told = lua.retry(x)
    assert told == why or (why is not None and told is not None and told.startswith(why))


def test_without_a_callback_the_target_stays() -> None:
    lua, x = LuaState(Log()), at(Phase.ACCESS)
    assert lua.retry(x) is None
    run(lua, x, "return 1")
    x.phase = Phase.BALANCER
    assert lua.retry(x) is None


def test_balancer_data() -> None:
    lua, x = LuaState(Log()), at(Phase.ACCESS)
    code = "local d = ngx.ctx.balancer_data return {d.host, d.port, d.scheme, tostring(d.preserve_host)}"
    assert run(lua, x, code) == ["a", 80, "http", "nil"]
    run(lua, x, "ngx.ctx.balancer_data.preserve_host = false")
    assert run(lua, x, "return ngx.ctx.balancer_data.preserve_host") is False
