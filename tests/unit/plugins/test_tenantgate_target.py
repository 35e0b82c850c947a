"""tenantgate-target on the embedded Lua; tests/e2e/test_lua_plugins.py has it on a whole gateway."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lua_rig import Log, exchange, plugin
from tenantgate.devhost import kong_conf, lua_functions, lua_plugins
from tenantgate.devhost.exchange import Answer, Exchange, Exited, Phase
from tenantgate.devhost.lua_plugins import LuaPlugin
from tenantgate.devhost.lua_state import LuaState
from tenantgate.devhost.stock_schemas import SCHEMAS
from tenantgate.paths import plugins_dir

CONF = plugin("tenantgate-target", keep_headers=[], correlation_header="X-Request-ID")
TARGET = {"provider": "openai", "name": "m1"}
BODY = b'{"model": "fast", "messages": []}'


def load() -> LuaPlugin:
    path = f"{plugins_dir()}/?.lua;;"
    conf = kong_conf.parse(f"plugins = bundled, tenantgate-target\nlua_package_path = {path}\n")
    made = LuaState(Log(), conf.settings, path, environ={"KEY": "sk-1"})
    (target,) = lua_plugins.load(conf, SCHEMAS, made)
    return target


@pytest.fixture
def target() -> LuaPlugin:
    return load()


def request(decision: Any = None, body: bytes = BODY, **more: Any) -> Exchange:
    table = {
        "tenant": "acme",
        "path": "/v1/chat/completions",
        "headers": {"content-type": "application/json"},
        "body": body,
        **more,
    }
    shared = {"tenantgate_request": table}
    if decision is not None:
        shared["tenantgate_decision"] = decision
    return exchange([("Content-Type", "application/json")], body=body, shared=shared)


def access(target: LuaPlugin, x: Exchange) -> Answer | None:
    try:
        asyncio.run(target.access(x, CONF))
    except Exited as exited:
        return exited.answer
    return None


def selected(x: Exchange) -> Any:
    spaces = x.ctx.get("ai_namespaced_ctx")
    return spaces.plain()["ai-proxy-advanced-balance"]["selected_target"] if spaces else None


@pytest.mark.parametrize(
    ("given", "made"),
    [
        ({}, {}),
        (
            {"provider": "anthropic", "name": "c"},
            {"model": {"provider": "anthropic", "name": "c", "options": {}}},
        ),
        (
            {"options": {"max_tokens": 5, "temperature": 0.5}},
            {"model": {"provider": "openai", "name": "m1", "options": {"max_tokens": 5, "temperature": 0.5}}},
        ),
        (
            {"auth": {"header_name": "Authorization", "header_value": "{vault://env/KEY}", "bearer": True}},
            {
                "auth": {
                    "header_name": "Authorization",
                    "header_value": "Bearer sk-1",
                    "allow_override": False,
                }
            },
        ),
        (
            {"auth": {"header_name": "x-api-key", "header_value": "k", "bearer": False}},
            {"auth": {"header_name": "x-api-key", "header_value": "k", "allow_override": False}},
        ),
        ({"log_payloads": True}, {"logging": {"log_statistics": True, "log_payloads": True}}),
        ({"log_payloads": "yes"}, {}),
        ({"response_streaming": "deny"}, {"response_streaming": "deny"}),
        ({"max_request_body_size": 9}, {"max_request_body_size": 9}),
        ({"route_type": "preserve"}, {"route_type": "preserve"}),
        ({"options": "text"}, {}),
    ],
)
def test_a_target_is_a_whole_configuration_of_ai_proxy(
    target: LuaPlugin, given: dict[str, Any], made: dict[str, Any]
) -> None:
    x = request({"target": {**TARGET, **given}})
    assert access(target, x) is None
    assert selected(x) == {
        "route_type": "llm/v1/chat",
        "llm_format": "openai",
        "auth": {},
        "model": {"provider": "openai", "name": "m1", "options": {}},
        "model_name_header": True,
        "logging": {"log_statistics": True, "log_payloads": False},
        "response_streaming": "allow",
        "max_request_body_size": 8192,
        **made,
    }


JUNK = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**40), 2**40) | st.text(max_size=8) | st.binary(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
NAMES = ("body", "headers", "target", "fail_closed", "reply_guard", "shared", "state", "keep_body", "model")
IN_TARGET = ("provider", "name", "options", "auth", "response_streaming", "log_payloads", "accept_encoding")
DECISIONS = st.fixed_dictionaries(
    {},
    optional={
        **dict.fromkeys(NAMES, JUNK),
        "target": JUNK | st.fixed_dictionaries({}, optional=dict.fromkeys(IN_TARGET, JUNK)),
    },
)
SHARED_TARGET = load()


@given(JUNK | DECISIONS)
def test_whatever_the_decision_is_the_request_is_refused_or_has_a_target(decision: Any) -> None:
    x = request(decision, tenant="junk")
    answer = access(SHARED_TARGET, x)
    if answer is None:
        assert isinstance(selected(x)["model"]["provider"], str)
    else:
        assert answer.status == 503
        assert selected(x) is None


def test_ten_thousand_headers(target: LuaPlugin) -> None:
    many = {f"X-{i}": "v" * 10 for i in range(10_000)}
    x = request({"target": TARGET, "headers": many})
    assert access(target, x) is None
    assert len(x.out) == 10_000


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[float]]:
    now = [1_000.0]
    monkeypatch.setitem(lua_functions.FUNCTIONS, "ngx.now", lambda _e: now[0])
    yield now


OPEN = {"target": TARGET, "fail_closed": False, "reply_guard": False}


def test_a_last_decision_ends(target: LuaPlugin, clock: list[float]) -> None:
    """Its tenant's rules may have changed since."""
    assert access(target, request(OPEN)) is None
    clock[0] += 299
    x = request()
    assert access(target, x) is None
    assert json.loads(x.body) == {"model": "m1", "messages": []}
    assert "no decision: the last one holds" in target._state.log.text.getvalue()  # type: ignore[attr-defined]
    clock[0] += 2
    answer = access(target, request())
    assert answer is not None
    assert answer.status == 503


@pytest.mark.parametrize(
    "other",
    [
        {"tenant": "acm"},
        {"captures": {"tenant": "acme"}},
        {"captures": {"tenant": "other", "provider": "openai", "model": "gpt-4o"}},
        {"captures": {"provider": "openai", "model": "gpt-4"}},
        {"captures": {"provider": "openai/gpt-4o"}},
        {"captures": {"provider": "openai", "model": "gpt%252D4o"}},
        {"tenant": "acme6", "captures": {"provider": "openai", "model": "gpt-4o"}},
    ],
    ids=str,
)
def test_tenants_and_models_are_told_apart(target: LuaPlugin, other: dict[str, Any]) -> None:
    assert access(target, request(OPEN)) is None
    assert access(target, request(OPEN, captures={"provider": "openai", "model": "gpt-4o"})) is None
    answer = access(target, request(**other))
    assert answer is not None
    assert answer.status == 503


def test_the_spelling_of_a_path_makes_no_decision_of_its_own(target: LuaPlugin) -> None:
    """Else one tenant's spellings, of which there is no end, would drive out the decisions of all others."""
    assert access(target, request(OPEN, captures={"provider": "openai", "model": "gpt-4o"})) is None
    again = request(path="//v1/./x/chat/completions", captures={"provider": "%6Fpenai", "model": "gpt%2d4o"})
    assert access(target, again) is None


@pytest.mark.parametrize(
    "path", ["/v1/embeddings", "/v1/completions", "/v1/messages", "/v1/chat/completions/x"]
)
def test_the_last_decision_holds_for_chats_alone(target: LuaPlugin, path: str) -> None:
    """Texts of other requests only the engine reads."""
    assert access(target, request(OPEN)) is None
    assert access(target, request(OPEN, path=path)) is None
    answer = access(target, request(path=path))
    assert answer is not None
    assert answer.status == 503


@pytest.mark.parametrize(
    ("origins", "origin", "allowed"),
    [
        (["https://a.example", "https://b.example"], "https://b.example", "https://b.example"),
        (["https://a.example", "*"], "https://c.example", "*"),
        (["https://a.example", "https://b.example"], "https://c.example", None),
        (["https://a.example", "https://b.example"], None, None),
        (None, "https://a.example", None),
    ],
)
def test_pages_of_other_sites(
    target: LuaPlugin, origins: Any, origin: str | None, allowed: str | None
) -> None:
    x = request(OPEN)
    if origin is not None:
        x.headers["Origin"] = origin
    assert access(target, x) is None
    assert "Origin" not in x.headers
    x.phase = Phase.HEADER_FILTER
    conf = {**CONF.config, **({"origins": origins} if origins else {})}
    target.header_filter(x, replace(CONF, id="with-origins", config=conf))
    assert x.out.get("Access-Control-Allow-Origin") == allowed


def test_the_engine_may_name_the_model(target: LuaPlugin) -> None:
    """Then the body isn't read where there is a decision."""
    assert access(target, request({**OPEN, "model": "fast"}, body=b"not read")) is None
    assert access(target, request()) is None


def test_no_text_of_a_request_is_logged(target: LuaPlugin) -> None:
    bad = {"header_name": "a", "header_value": "{vault://env/NOTHING}"}
    for decision in (None, OPEN, {"target": {**TARGET, "auth": bad}}):
        access(target, request(decision, body=b'{"model": "fast", "messages": ["4111 1111"]}'))
    log = target._state.log.text.getvalue()  # type: ignore[attr-defined]
    assert log
    assert not [word for word in ("4111", "fast", "NOTHING", "acme") if word in log]


AWS = {"aws_access_key_id": "{vault://env/KEY}", "aws_secret_access_key": "{vault://env/KEY}"}


@pytest.mark.parametrize(
    ("secrets", "auth"),
    [
        (AWS, {"aws_access_key_id": "sk-1", "aws_secret_access_key": "sk-1", "allow_override": False}),
        ({**AWS, "header_value": "x", "other": "y"}, {**dict.fromkeys(AWS, "sk-1"), "allow_override": False}),
        ({}, {}),
    ],
)
def test_secrets_that_are_no_header_are_resolved(
    target: LuaPlugin, secrets: dict[str, str], auth: dict[str, Any]
) -> None:
    x = request({"target": {**TARGET, "auth": {"secrets": secrets}}})
    assert access(target, x) is None
    assert selected(x)["auth"] == auth


@pytest.mark.parametrize(
    "secrets",
    [
        {**AWS, "aws_secret_access_key": "{vault://env/MISSING}"},
        {**AWS, "aws_access_key_id": ""},
        {"gcp_service_account_json": "no key file"},
    ],
)
def test_without_its_secrets_a_target_isnt_asked(target: LuaPlugin, secrets: dict[str, str]) -> None:
    x = request({"target": {**TARGET, "auth": {"secrets": secrets}}})
    answer = access(target, x)
    assert answer is not None
    assert (answer.status, selected(x)) == (503, None)
