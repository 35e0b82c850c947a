from __future__ import annotations

import asyncio
from typing import Any

import pytest

from lua_rig import Code, Log, exchange, state, value
from tenantgate.devhost.exchange import Exchange, Exited, Phase
from tenantgate.devhost.lua_state import LuaError, LuaState
from tenantgate.devhost.record import serialize
from tenantgate.errors import ConfigError

SECRET = "4111 1111 1111 1111"


@pytest.mark.parametrize(
    ("code", "shown"),
    [
        ("local t return t.x", "code:1: attempt to index local 't' (a nil value), in access"),
        ("return 1 + {}", "code:1: attempt to perform arithmetic on a table value, in access"),
        ("return ({}) .. 'x'", "code:1: attempt to concatenate a table value, in access"),
        ("return 1 < 'x'", "code:1: attempt to compare number with string, in access"),
        (
            "local n = ('s'):find() return n",
            "code:1: bad argument #1 to 'find' (string expected, got no value), in access",
        ),
        ("\n\nkong.nothing()", "code:3: the embedded host has no kong.nothing, in access"),
        ("kong.response.exit('200') return", "code:1: code must be a number between 100 and 599, in access"),
        (
            "kong.response.get_raw_body()",
            "code:1: function cannot be called in access phase (only in: body_filter), in access",
        ),
        ("local v = ngx.var.nothing return v", "code:1: the embedded host has no ngx.var.nothing, in access"),
        ("ngx.var.uri = '/'", "code:1: the embedded host can't set ngx.var.uri, in access"),
        ("local m = require 'ffi' return m", "code:1: require 'ffi' not allowed within sandbox, in access"),
        ("string.format = 1", "code:1: Can not modify string.format. Protected by the sandbox., in access"),
    ],
)
def test_errors_of_lua_and_of_the_host_are_told_with_their_place(code: str, shown: str) -> None:
    with pytest.raises(LuaError) as caught:
        value(code)
    assert str(caught.value) == shown


@pytest.mark.parametrize(
    "code",
    [
        f"error('{SECRET}')",
        f"error({{'{SECRET}'}})",
        f"error('attempt to index {SECRET}')",
        f"error('{SECRET}:1: x', 0)",
        f"error('bad argument #1 to {SECRET}')",
        f"return tonumber('z', '{SECRET}')",
        f"return ('x'):format('%{SECRET}')() ",
        f"error('\\n{SECRET}')",
        f"local f = assert(nil, '{SECRET}')",
        f"error(setmetatable({{}}, {{__tostring = function() return '{SECRET}' end}}))",
    ],
)
def test_texts_of_a_plugin_are_in_no_message(code: str) -> None:
    with pytest.raises(LuaError) as caught:
        value(code)
    assert "4111" not in str(caught.value)


@pytest.mark.parametrize(
    "name",
    [
        "io",
        "debug",
        "package",
        "loadstring",
        "load",
        "dofile",
        "setmetatable",
        "rawset",
        "getfenv",
        "collectgarbage",
        "python",
        "jit",
        "newproxy",
        "os.execute",
        "os.getenv",
        "os.exit",
        "string.dump",
        "require('os')",
    ],
)
def test_the_sandbox_has_no_way_out(name: str) -> None:
    """`kong/tools/kong-lua-sandbox.lua`: what isn't in its list isn't there."""
    assert value(f"local ok, v = pcall(function() return {name} end) return ok and v ~= nil") is False


def test_functions_of_the_host_show_nothing_of_python() -> None:
    lua = state()
    handed = lua._host[b"kong"][b"request"][b"get_method"]
    reach = lua._lua.eval(b"function(f) return pcall(function() return f.__globals__ end) end")
    assert reach(handed)[0] is False
    assert reach(lua._call)[0] is False
    assert value("return type(python)") == "nil"


@pytest.mark.parametrize(
    ("code", "made"),
    [
        ("return kong.request.get_header('x-ODD')", "1"),
        ("return kong.request.get_headers()['X_Odd']", "1"),
        ("return kong.request.get_headers().x_many", ["a", "b"]),
        ("return kong.request.get_header('none')", None),
        ("return kong.request.get_query()", {"key": "1"}),
        ("return kong.request.get_path()", "/acme/chat/completions"),
        ("return kong.request.get_http_version()", 1.1),
        ("return kong.request.get_raw_body()", "caf\udce9"),
        ("return kong.client.get_consumer()", None),
        ("return {kong.version, kong.version_num}", ["3.9.3", 3009003]),
        ("return ngx.get_phase()", "access"),
        ("return ngx.var.http_x_odd", "1"),
        ("return ngx.var.request_completion", ""),
        ("return ngx.var.upstream_x_forwarded_for", "203.0.113.7"),
        ("return #ngx.req.get_headers(0).x_many", 2),
        ("return tostring(ngx.null)", "userdata: NULL"),
        ("return {ngx.null, 1}", [None, 1]),
        ("ngx.ctx.a = {b = 1} ngx.ctx.a.c = 2 return ngx.ctx.a", {"b": 1, "c": 2}),
        ("kong.ctx.plugin.a = 1 return kong.ctx.plugin.a", 1),
        ("kong.ctx.shared.a = {} local n = 0 for k in pairs(kong.ctx.shared) do n = n + 1 end return n", 1),
        ("return kong.table.merge({a = 1, b = 1}, {b = 2})", {"a": 1, "b": 2}),
        ("return table.concat({'a', 'b'})", "ab"),
        ("return 2^53 + 1", 2**53),
        ("return {}", {}),
    ],
)
def test_the_pdk_answers_as_kongs(code: str, made: Any) -> None:
    x = exchange([("X-Odd", "1"), ("X-Many", "a"), ("x-many", "b")], body=b"caf\xe9")
    assert value(code, x) == made


def test_calls_change_the_request() -> None:
    x = exchange([("X-A", "1")])
    value(
        "kong.service.request.set_header('X-A', {'2', ''}) kong.service.request.add_header('X-B', 3) "
        "kong.service.request.set_raw_body('caf\\233') kong.response.set_header('X-R', true) "
        "kong.service.request.set_raw_query('q=1')",
        x,
    )
    assert (x.headers.getall("X-A"), x.headers["X-B"], x.out["X-R"]) == (["2", " "], "3", "true")
    assert (x.body, x.headers["Content-Length"], x.args) == (b"caf\xe9", "4", "q=1")


def test_headers_of_the_reply_are_ngx_header() -> None:
    x = exchange(status=200, phase=Phase.HEADER_FILTER)
    made = value(
        "ngx.header['X-A'] = 'a' ngx.header.x_b = {'b', 'c'} ngx.header.x_b = nil ngx.status = 201 "
        "return {ngx.header.x_a, ngx.status}",
        x,
        phase=Phase.HEADER_FILTER,
    )
    assert (made, x.status, dict(x.out)) == (["a", 201], 201, {"X-A": "a"})


@pytest.mark.parametrize("through", ["{}", "pcall(function() {} end)", "(function() {} end)()"])
def test_an_answer_ends_the_phase_wherever_it_is_given(through: str) -> None:
    exit_ = "kong.response.exit(403, {message = 'no'}, {['X-Why'] = 'w'})"
    code = Code(access=[through.format(exit_) + " kong.ctx.shared.after = 1", "kong.ctx.shared.next = 1"])
    answer = code.access()
    assert answer is not None
    assert (answer.status, answer.body) == (403, b'{"message":"no"}')
    assert ("X-Why", "w") in answer.headers
    assert dict(code.x.shared) == {}


def test_an_answer_in_header_filter_is_refused_by_name() -> None:
    code = Code(exchange(status=200), header_filter=["kong.response.exit(403)"])
    with pytest.raises(LuaError, match="can't answer in header_filter"):
        code.header_filter()


def test_a_body_can_be_read_and_set_whole() -> None:
    code = Code(
        exchange(status=200),
        body_filter=[
            "local b = kong.response.get_raw_body() if b then kong.response.set_raw_body(b:upper()) end"
        ],
    )
    assert code.body(b"one ", b"two") == [b"", b"", b"ONE TWO"]


def test_a_body_cant_be_ended_early() -> None:
    code = Code(exchange(status=200), body_filter=["ngx.arg[2] = true"])
    with pytest.raises(LuaError, match="can't end a body before its end"):
        code.body(b"x")


@pytest.mark.parametrize(("made", "piece"), [("nil", b""), ("{'a', {'b'}}", b"ab"), ("12", b"12")])
def test_a_piece_may_be_nil_a_table_or_a_number(made: str, piece: bytes) -> None:
    assert Code(exchange(status=200), body_filter=[f"ngx.arg[1] = {made}"]).body() == [piece]


def test_what_is_shared_goes_between_lua_and_python() -> None:
    lua, x = state(), exchange()
    x.shared["before"] = {"list": [1, {"a": None}], "text": "caf\udce9"}
    seen = lua.run(
        x, "p", lua.compile("kong.ctx.shared.made = {1, {b = 'c'}} return kong.ctx.shared.before", "c")
    )
    assert lua.values.to_python(seen) == {"list": [1, {"a": None}], "text": "caf\udce9"}
    assert x.shared["made"] == [1, {"b": "c"}]
    x.shared["later"] = "x"
    assert lua.run(x, "p", lua.compile("return kong.ctx.shared.later", "c")) == b"x"
    del x.shared["later"]
    assert sorted(x.shared) == ["before", "made"]


def test_requests_share_nothing() -> None:
    lua = state()
    code = lua.compile("local was = kong.ctx.shared.a kong.ctx.shared.a = 1 return was", "c")
    assert [lua.run(exchange(), "p", code) for _ in range(2)] == [None, None]


def test_plugins_have_a_context_of_their_own() -> None:
    lua, x = state(), exchange()
    code = lua.compile("local was = kong.ctx.plugin.a kong.ctx.plugin.a = 1 return was", "c")
    assert [lua.run(x, name, code) for name in ("p", "q", "p")] == [None, None, 1]


def test_logs_name_the_plugin_and_the_level() -> None:
    lua = state()
    lua.run(
        exchange(),
        "mine",
        lua.compile("kong.log.err('a', 1, nil, true) kong.log('b') ngx.log(ngx.WARN, 'c')", "c"),
    )
    lines = lua.log.text.getvalue().splitlines()  # type: ignore[attr-defined]
    assert [line.split(" ", 2)[2] for line in lines] == [
        "[error] [mine] a1niltrue",
        "[notice] [mine] b",
        "[warn] [mine] c",
    ]


def test_outside_of_a_request_functions_say_so() -> None:
    lua = state()
    with pytest.raises(Exception, match="outside of a request"):
        lua._lua.execute(b"return kong.request.get_method()")


def test_a_set_serialize_value_that_is_a_function_is_refused() -> None:
    with pytest.raises(LuaError, match="a Lua function is no value"):
        value("kong.log.set_serialize_value('a', print or type)")


@pytest.mark.parametrize(
    ("mode", "made"),
    [
        ("set", {"old": {"a": 1}, "new": {"a": 1}}),
        ("add", {"old": {"a": 0}, "new": {"a": 1}}),
        ("replace", {"old": {"a": 1}}),
    ],
)
def test_modes_of_serialize_values(mode: str, made: dict[str, Any]) -> None:
    x = exchange(serialize_values=[("old.a", 0, "set")])
    value(
        f"for _, k in ipairs({{'old.a', 'new.a'}}) do kong.log.set_serialize_value(k, 1, {{mode = '{mode}'}}) end",
        x,
    )
    assert {k: v for k, v in serialize(x).items() if k in ("old", "new")} == made


def test_a_serialize_value_that_is_replaced_by_nothing_goes() -> None:
    x = exchange(serialize_values=[("old.a", 0, "set")])
    value("kong.log.set_serialize_value('old', nil, {mode = 'replace'})", x)
    assert "old" not in serialize(x)


def test_an_unknown_mode_of_serialize_values_is_refused() -> None:
    with pytest.raises(LuaError, match="mode must be 'set', 'add' or 'replace'"):
        value("kong.log.set_serialize_value('a', 1, {mode = 'more'})")


@pytest.mark.parametrize(
    ("reference", "found"),
    [
        ("{vault://env/my-key}", "secret"),
        ("{vault://env/MY_KEY}", "secret"),
        ("{vault://env/my-key/part}", None),
        ("{vault://env/my-key?prefix=a}", None),
        ("{vault://env/other}", None),
        ("{vault://env/empty}", None),
        ("{vault://aws/my-key}", None),
        (" {vault://env/my-key}", None),
        ("my-key", None),
    ],
)
def test_vault_references(reference: str, found: str | None) -> None:
    made = LuaState(Log(), environ={"MY_KEY": "secret", "EMPTY": ""})
    code = made.compile(f"return kong.vault.get('{reference}')", "code")
    assert made.values.to_python(made.run(exchange(), "post-function", code)) == found


@pytest.mark.parametrize(
    ("code", "removed"),
    [
        ("", []),
        ("local p = ngx.ctx.plugins.response p[0] = 0", ["a", "b"]),
        ("local p = ngx.ctx.plugins.response p[1], p[2], p[0] = p[3], p[4], 2", ["a"]),
        ("ngx.ctx.plugins.response[0] = ngx.ctx.plugins.response[0] - 2", ["b"]),
    ],
)
def test_response_phases_can_be_taken_out(code: str, removed: list[str]) -> None:
    x = exchange(response_plugins=["a", "b"])
    value(f"assert(ngx.ctx.plugins.response[0] == 4) {code}", x)
    assert x.ctx["plugins"].plain() == removed


def test_values_that_ai_proxy_shares() -> None:
    made, x = module_state(), exchange()
    assert run(made, x, "return ctx.has_namespace('n')") is False
    run(made, x, "ctx.get_namespaced_accesors('n', {t = 'table', s = 'string'})")
    assert run(
        made, x, "ctx.set_namespaced_ctx('n', 't', {a = {}}) return ctx.get_namespaced_ctx('n', 't')"
    ) == {"a": {}}
    assert x.ctx["ai_namespaced_ctx"].plain() == {"n": {"t": {"a": {}}}}
    for wrong in (
        "ctx.set_namespaced_ctx('n', 's', 1)",
        "ctx.set_namespaced_ctx('n', 'other', 1)",
        "ctx.get_namespaced_ctx('other', 's')",
        "ctx.get_namespaced_accesors('n', {})",
    ):
        assert run(made, x, f"return pcall(function() {wrong} end)") is False


def test_the_least_recently_used_entry_goes() -> None:
    made, x = module_state(), exchange()
    code = "lru.c = lru.new(2) local c = lru.c c:set('a', 1) c:set('b', 2) c:get('a') c:set('c', 3) c:set('c', 4)"
    run(made, x, code)
    assert run(made, x, "local c = lru.c return {a = c:get('a'), b = c:get('b'), c = c:get('c')}") == {
        "a": 1,
        "c": 4,
    }
    run(made, x, "local c = lru.c c:delete('a') c:set('d', 5, 0)")
    assert run(made, x, "local c = lru.c return {a = c:get('a'), c = c:get('c'), d = c:get('d')}") == {"c": 4}


def module_state() -> LuaState:
    made = state({"untrusted_lua": "on"})
    made._lua.execute(b"ctx, lru = require 'kong.llm.plugin.ctx', require 'resty.lrucache'")
    return made


def run(made: LuaState, x: Exchange, code: str) -> Any:
    return made.values.to_python(made.run(x, "post-function", made.compile(code, "code")))


@pytest.mark.parametrize(
    ("settings", "code", "made"),
    [
        ({"untrusted_lua": "on"}, "return type(io)", "table"),
        (
            {"untrusted_lua_sandbox_requires": "cjson.safe, other"},
            "return type(require('cjson.safe'))",
            "table",
        ),
    ],
)
def test_the_sandbox_is_as_wide_as_kong_conf_says(settings: dict[str, str], code: str, made: str) -> None:
    lua = state(settings)
    assert lua.run(exchange(), "p", lua.compile(code, "c")) == made.encode()


@pytest.mark.parametrize(
    "settings", [{"untrusted_lua": "maybe"}, {"untrusted_lua_sandbox_environment": "io"}]
)
def test_what_kong_conf_may_not_say(settings: dict[str, str]) -> None:
    with pytest.raises(ConfigError, match=r"kong.conf: untrusted_lua"):
        state(settings)


CJSON = state({"untrusted_lua_sandbox_requires": "cjson,cjson.safe,kong.tools.cjson"})


@pytest.mark.parametrize(
    ("code", "made"),
    [
        ("return cjson.encode({a = {}})", '{"a":{}}'),
        ("return cjson.encode({1, 2, cjson.null})", "[1,2,null]"),
        ("return cjson.encode({[1] = 1, [3] = 3})", "[1,null,3]"),
        ("return cjson.encode({[2^20] = 1})", (None, "Cannot serialise table: excessively sparse array")),
        ("return cjson.encode(cjson.empty_array)", "[]"),
        ("return cjson.encode({a = 1.5, b = 3})", None),
        (
            "return cjson.encode({[true] = 1})",
            (None, "Cannot serialise table: table key must be a number or string"),
        ),
        ("return cjson.encode(type)", (None, "a Lua function is no value that can be passed on")),
        ("local t = {} t.t = t return cjson.encode(t)", (None, "Cannot serialise, excessive depth")),
        ("return cjson.decode('{\"a\":[1,null]}').a[2] == cjson.null", True),
        ("return cjson.decode('nope')", (None, "the text is no JSON")),
        ("return cjson.decode('null') == ngx.null", True),
        ("return cjson.encode(cjson.decode('[]'))", "{}"),
        ("return kcjson.encode(kcjson.decode_with_array_mt('{\"a\":[]}'))", '{"a":[]}'),
        ("local ok = pcall(raising.decode, 'nope') return ok", False),
        (
            "local _, e = pcall(function() return cjson.nothing end) return e:match('no cjson.safe.nothing')",
            "no cjson.safe.nothing",
        ),
    ],
)
def test_cjson_is_as_in_kong(code: str, made: Any) -> None:
    head = "local cjson, kcjson, raising = require 'cjson.safe', require 'kong.tools.cjson', require 'cjson' "
    got = CJSON.run(
        exchange(), "p", CJSON.compile(f"local function f() {head}{code} end return {{f()}}", "c")
    )
    first, second = got[1], got[2]
    if isinstance(made, tuple):
        assert (first, second.decode()) == made
    elif made is not None:
        assert CJSON.values.to_python(first) == made


def test_a_phase_in_rewrite_may_answer() -> None:
    lua, x = state(), exchange(phase=Phase.REWRITE)
    with pytest.raises(Exited):
        lua.run(x, "p", lua.compile("return kong.response.exit(200, 'x')", "c"))


def test_many_requests_leave_nothing_behind() -> None:
    """Tables of a request go with it: the state doesn't grow."""
    lua = state()
    code = lua.compile("kong.ctx.shared.a = ('x'):rep(1000) .. kong.request.get_method()", "c")

    async def many(n: int) -> None:
        for _ in range(n):
            lua.run(exchange(), "p", code)

    used = lua._lua.eval(b"function() collectgarbage() return collectgarbage('count') end")
    asyncio.run(many(100))
    before = used()
    asyncio.run(many(2000))
    assert used() - before < 64  # KiB
