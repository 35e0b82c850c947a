"""Replies of operations that ai-proxy passes through, on the embedded Lua; tests/e2e has them on Kong."""

from __future__ import annotations

import json
from typing import Any

import pytest

from lua_rig import Log, exchange, plugin
from tenantgate.devhost import kong_conf, lua_plugins
from tenantgate.devhost.exchange import Exchange, Phase
from tenantgate.devhost.lua_plugins import LuaPlugin
from tenantgate.devhost.lua_state import LuaState
from tenantgate.devhost.stock_schemas import SCHEMAS
from tenantgate.paths import plugins_dir

CONF = plugin("tenantgate-format", correlation_header="X-Request-ID", only_unrouted=False)


class Reply:
    """A reply in ai-proxy's hands: its body, and how ai-proxy takes the request."""

    def __init__(self, body: str | None, *, preserve: bool = True, stream: bool = False) -> None:
        self.body = body
        path = f"{plugins_dir()}/?.lua;;"
        conf = kong_conf.parse(f"plugins = bundled, tenantgate-format\nlua_package_path = {path}\n")
        state = LuaState(Log(), conf.settings, path)
        state.provide(
            {
                "ai.preserve_mode": lambda _: preserve,
                "ai.stream_mode": lambda _: stream,
                "ai.response_body": lambda _: self.body,
                "ai.use_response_body": self._use,
            }
        )
        state.trusted(
            'require("kong.llm.plugin.ctx").get_namespaced_accesors("ai-proxy-advanced-balance", '
            '{selected_target = "table"})',
            "register",
        )()
        self.plugin: LuaPlugin
        (self.plugin,) = lua_plugins.load(conf, SCHEMAS, state)

    def _use(self, _event: Any, body: Any) -> None:
        self.body = body

    def head(self, *, status: int = 200, kind: str = "application/json") -> Exchange:
        x = exchange(
            uri="/v1/embeddings", args="", shared={"tenantgate_request": {"body": b"{}"}}, status=status
        )
        x.proxied, x.upstream_status = True, status
        x.ctx["ai_llm_metrics"] = {}
        x.upstream_headers["Content-Type"] = kind
        x.out["Content-Type"], x.out["Content-Length"] = "text/event-stream", "5"
        x.phase = Phase.HEADER_FILTER
        self.plugin.header_filter(x, CONF)
        return x


@pytest.mark.parametrize(("status", "told"), [(200, 502), (429, 429), (503, 503)])
@pytest.mark.parametrize("body", ["<html>", "", "3"])
def test_a_reply_that_isnt_json_is_an_error(body: str, status: int, told: int) -> None:
    reply = Reply(body)
    x = reply.head(status=status)
    assert x.status == told
    assert json.loads(reply.body or "")["error"]["code"] == "bad_gateway"
    assert "Content-Length" not in x.out


@pytest.mark.parametrize("status", [200, 404])
def test_json_passes(status: int) -> None:
    reply = Reply('{"data": []}')
    assert (reply.head(status=status).status, reply.body) == (status, '{"data": []}')


def test_a_stream_keeps_the_providers_type() -> None:
    x = Reply(None, stream=True).head(kind="audio/mpeg")
    assert x.out["Content-Type"] == "audio/mpeg"


def test_a_chat_is_left_alone() -> None:
    reply = Reply("<html>", preserve=False)
    assert (reply.head().status, reply.body) == (200, "<html>")
