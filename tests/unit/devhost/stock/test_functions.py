"""What the rendered texts do, each run in the host."""

from __future__ import annotations

import json

import pytest

from lua_rig import Code, exchange, plugin, state
from tenantgate.config import scripts
from tenantgate.devhost.exchange import Exchange
from tenantgate.devhost.lua_state import LuaError
from tenantgate.devhost.stock.functions import PHASES, Function
from tenantgate.errors import ConfigError
from tenantgate.guard.scripts import GUARD_CHECK, REPLY_GUARD_BODY, REPLY_GUARD_CHECK
from tenantgate.llm.errors import BY_STATUS, OTHER_STATUS, ErrorText, error_body

EVENTS = ("Content-Type", "text/event-stream; charset=utf-8")


def replied(status: int = 200, *headers: tuple[str, str], **more: object) -> Exchange:
    x = exchange(status=status, **{"proxied": True, **more})
    x.out.extend(headers)
    x.upstream_headers.extend(headers)
    return x


# -- access


@pytest.mark.parametrize(
    ("value", "made"),
    [
        ("Bearer k", "k"),
        ("bearer k", "k"),
        ("BEARER   k", "k"),
        ("Basic k", "Basic k"),
        ("bearer k x", "bearer k x"),
        ("bearer", "bearer"),
    ],
)
def test_a_key_is_compared_without_its_scheme(value: str, made: str) -> None:
    code = Code(exchange([("Authorization", value)]), access=[scripts.ANY_BEARER])
    code.access()
    assert code.x.headers.getall("Authorization") == [made]


def test_two_authorizations_stay_as_they_are() -> None:
    code = Code(
        exchange([("Authorization", "bearer a"), ("Authorization", "b")]), access=[scripts.ANY_BEARER]
    )
    code.access()
    assert code.x.headers.getall("Authorization") == ["bearer a", "b"]


def test_the_query_ends_here() -> None:
    code = Code(access=[scripts.NO_QUERY])
    code.access()
    assert code.x.args == ""


@pytest.mark.parametrize(("mark", "passes"), [(None, False), ("blocked", False), ("pass", True)])
def test_without_the_guards_mark_the_route_is_closed(mark: str | None, passes: bool) -> None:
    code = Code(access=[GUARD_CHECK, "kong.ctx.shared.went_on = true"])
    if mark:
        code.x.shared["tenantgate_guard"] = mark
    answer = code.access()
    assert code.x.shared.get("went_on", False) is passes
    if not passes:
        assert answer is not None
        assert (answer.status, answer.headers) == (503, (("Content-Type", "application/json"),))
        assert json.loads(answer.body)["error"]["code"] == "guard_unavailable"


# -- filters


def chunks(field: str, *reasons: str) -> list[bytes]:
    return [f'data: {{"choices":[{{"{field}": "{reason}"}}]}}\n\n'.encode() for reason in reasons]


def test_the_reason_of_an_end_is_noted_and_the_pieces_pass() -> None:
    code = Code(replied(200, EVENTS), body_filter=[scripts.END_OF_STREAM, scripts.FINISH_REASON])
    pieces = chunks("finish_reason", "length", "stop")
    assert code.body(*pieces) == [*pieces, b"\n"]
    assert code.x.shared["tenantgate_finish_reason"] == "stop"
    assert code.x.shared["tenantgate_stream_end"] is True


@pytest.mark.parametrize(
    ("piece", "more"),
    [
        (b'{"tool_calls":[{"id":"a"}]}', True),
        (b'{"refusal": "no"}', True),
        (b'{"reasoning_content":"hm"}', True),
        (b'{"tool_calls":[]}', False),
        (b'{"refusal":null}', False),
        (b'{"refusal":""}', False),
        (b'{"content":"\\"tool_calls\\":[1]"}', False),
    ],
)
def test_a_stream_that_is_more_than_text_loses_its_mark(piece: bytes, more: bool) -> None:
    code = Code(replied(200, EVENTS), body_filter=[scripts.END_OF_STREAM, scripts.FINISH_REASON])
    code.body(piece)
    assert code.x.shared.get("tenantgate_stream_end", False) is not more


def test_a_reply_that_is_no_stream_gets_no_line_end() -> None:
    x = replied(200, ("Content-Type", "application/json"))
    x.out["Content-Type"] = EVENTS[1]  # as ai-proxy calls Gemini's streams for the client
    code = Code(x, body_filter=[scripts.END_OF_STREAM])
    assert code.body(b"{}") == [b"{}", b""]
    assert "tenantgate_stream_end" not in code.x.shared


@pytest.mark.parametrize(
    ("decision", "runs"),
    [
        (None, False),
        ({}, False),
        ({"a": {}}, False),
        ({"a": {"b": False}}, False),
        ({"a": {"b": True}}, True),
    ],
)
def test_code_for_what_was_decided_runs_for_nothing_else(
    decision: dict[str, object] | None, runs: bool
) -> None:
    code = Code(access=[scripts.where_decided("a.b", "local c = 1; kong.ctx.shared.ran = c")])
    if decision is not None:
        code.x.shared["tenantgate_decision"] = decision
    code.access()
    assert ("ran" in code.x.shared) is runs


@pytest.mark.parametrize(
    ("kind", "read", "line_end"),
    [
        ("text/event-stream", False, b"\n"),
        ("application/json", True, b""),
        ("application/vnd.amazon.eventstream", True, b"\n"),
        ("application/vnd.amazon.eventstream", False, b""),
    ],
)
def test_a_stream_ends_in_a_line_end_where_its_reader_takes_one(
    kind: str, read: bool, line_end: bytes
) -> None:
    code = Code(replied(200, ("Content-Type", kind)), body_filter=[scripts.END_OF_STREAM])
    if read:
        code.x.shared["tenantgate_stream"] = {}
    assert code.body(b"x")[-1] == line_end
    assert ("tenantgate_stream_end" in code.x.shared) is bool(line_end)


HELD = {"header_filter": [REPLY_GUARD_CHECK], "body_filter": [REPLY_GUARD_BODY]}


@pytest.mark.parametrize(
    ("mark", "source", "refused"),
    [("pass", "service", False), (None, "service", True), ("x", "service", True), (None, "exit", False)],
)
def test_a_reply_without_the_guards_mark_is_held_back(mark: str | None, source: str, refused: bool) -> None:
    x = replied(200, ("Content-Encoding", "gzip"), ("Content-Length", "2"), exited=source == "exit")
    if mark:
        x.shared["tenantgate_reply_guard"] = mark
    code = Code(x, **HELD)
    code.header_filter()
    got = b"".join(code.body(b"secret", b"text"))
    assert (x.status, "Content-Encoding" in x.out) == ((503, False) if refused else (200, True))
    if refused:
        assert json.loads(got)["error"]["code"] == "guard_unavailable"
    else:
        assert got == b"secrettext"


ERRORS = {"header_filter": [scripts.ERROR_HEAD], "body_filter": [scripts.ERROR_BODY]}


@pytest.mark.parametrize(
    ("status", "body", "error"),
    [
        (
            401,
            '{"message":"Unauthorized"}',
            ("The API key is missing", "invalid_request_error", "invalid_api_key"),
        ),
        (
            429,
            '{"message":"API rate limit exceeded"}',
            ("Rate limit reached", "requests", "rate_limit_exceeded"),
        ),
        (418, "<html>", ("The request failed.", "invalid_request_error", "error")),
        (502, "", ("The provider could not", "server_error", "bad_gateway")),
        (
            400,
            '{"error":{"message":"no \\"model\\""}}',
            ('no "model"', "invalid_request_error", "invalid_request"),
        ),
        (403, '{"error":{"code":"blocked","message":"m"}}', None),
    ],
)
@pytest.mark.parametrize("pieces", [1, 3])
def test_an_error_has_openais_shape(
    status: int, body: str, error: tuple[str, str, str] | None, pieces: int
) -> None:
    code = Code(replied(status, ("Content-Length", "1"), proxied=False), **ERRORS)
    code.header_filter()
    assert "Content-Length" not in code.x.out
    raw = body.encode()
    got = b"".join(code.body(*(raw[i::1][:1] for i in range(len(raw))) if pieces > 1 else [raw]))
    if error is None:
        assert got == raw
        return
    assert code.x.out["Content-Type"] == "application/json; charset=utf-8"
    made = json.loads(got)["error"]
    assert made["message"].startswith(error[0])
    assert (made["type"], made["param"], made["code"]) == (error[1], None, error[2])


@pytest.mark.parametrize(
    ("status", "text"), [*BY_STATUS.items(), (418, OTHER_STATUS)], ids=lambda value: str(value)[:3]
)
def test_each_status_has_the_text_that_python_has(status: int, text: ErrorText) -> None:
    code = Code(replied(status, proxied=False), **ERRORS)
    code.header_filter()
    assert b"".join(code.body(b"<html>")) == error_body(text.message, kind=text.kind, code=text.code)


@pytest.mark.parametrize(
    "x",
    [replied(500), replied(399, proxied=False), replied(500, EVENTS, proxied=False)],
    ids=["providers", "no error", "stream"],
)
def test_other_replies_keep_their_form(x: Exchange) -> None:
    code = Code(x, **ERRORS)
    code.header_filter()
    assert code.body(b"as it was") == [b"as it was", b""]


@pytest.mark.parametrize(
    ("text", "status", "uri", "applies"),
    [
        (scripts.ERROR_HEAD_EARLY, 413, "/a", True),
        (scripts.ERROR_HEAD_EARLY, 500, "/a", False),
        (scripts.ERROR_HEAD_ELSEWHERE, 404, "/a/chat/completions", True),
        (scripts.ERROR_HEAD_ELSEWHERE, 404, "/a?b=/chat/completions", False),
        (scripts.ERROR_HEAD_ELSEWHERE, 404, "/other", False),
    ],
)
def test_where_errors_get_openais_head(text: str, status: int, uri: str, applies: bool) -> None:
    code = Code(replied(status, proxied=False, uri=uri), header_filter=[text])
    code.header_filter()
    assert ("tenantgate_error" in code.x.shared) is applies


# -- Kong's rules for the plugin


def test_a_chunk_that_returns_a_function_is_run_once_and_then_the_function() -> None:
    text = (
        "local n = 0 kong.ctx.shared.inits = (kong.ctx.shared.inits or 0) + 1 "
        "return function() n = n + 1 kong.ctx.shared.runs = n end"
    )
    code = Code(access=[text])
    for _ in range(3):
        code.access()
    assert (code.x.shared["inits"], code.x.shared["runs"]) == (1, 3)


def test_globals_stay_in_their_text() -> None:
    code = Code(access=["mine = 1", "kong.ctx.shared.seen = tostring(mine)"])
    code.access()
    assert code.x.shared["seen"] == "nil"


def test_rewrite_and_log_run_too() -> None:
    code = Code(log=["kong.log.set_serialize_value('a', {b = 1})"])
    code.log()
    assert code.x.serialize_values == [("a", {"b": 1}, "set")]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("if x then", r"access\[1\]: error parsing: post-function.access\[1\]:1: 'end' expected"),
        ("kong.cache:get('a')", "the embedded host has no kong.cache; use a real Kong"),
        ("local r = kong . request ; kong.request.get_tls()", "no kong.request.get_tls"),
        ("ngx.re.match('a', 'b')", "no ngx.re"),
        ("return ngx.var.upstream_addr", "no ngx.var.upstream_addr"),
        ("\x1bLJ", "error parsing"),
    ],
)
def test_code_that_the_host_cant_run_is_refused_at_load(text: str, problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        Code(access=["return", text])


def test_untrusted_lua_can_be_switched_off() -> None:
    lua = state({"untrusted_lua": "off"})
    with pytest.raises(ConfigError, match="untrusted_lua"):
        Code(lua=lua, access=["return"])
    Function("post-function", lua).prepare(plugin("post-function", **{phase: [] for phase in PHASES}))


def test_an_error_in_a_filter_names_its_place() -> None:
    code = Code(body_filter=["return", "local a = nil\nreturn a.b"])
    with pytest.raises(LuaError, match=r"^post-function.body_filter\[1\]:2: attempt to index local 'a'"):
        code.body()
