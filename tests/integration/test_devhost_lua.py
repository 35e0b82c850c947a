"""Lua in the embedded gateway, over real sockets: plugins from files among stock ones and those of a plugin server."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from devhost_rig import World, ai, plays, record, route
from lua_rig import install
from tenantgate.devhost import gateway
from tenantgate.errors import ConfigError

from support import until

SECRET = "a word of the prompt"

NOTES = """
local function note(name)
  kong.ctx.shared.order = (kong.ctx.shared.order or "") .. name
end
"""
FIRST = (
    NOTES
    + """
local P = {PRIORITY = 1300, VERSION = "1.0.0"}
function P:rewrite(conf) kong.ctx.shared.order = "r" end
function P:access(conf)
  note(conf.name)
  if kong.request.get_header("X-Stop") then
    return kong.response.exit(403, {message = "stopped"}, {["X-Stopped-By"] = "first"})
  end
  if kong.request.get_header("X-Fail") == "access" then
    error(kong.request.get_raw_body())
  end
end
function P:header_filter(conf)
  if kong.request.get_header("X-Fail") == "header_filter" then
    error(kong.request.get_header("X-Word"))
  end
  kong.response.set_header("X-Order", kong.ctx.shared.order)
end
function P:body_filter(conf)
  if kong.request.get_header("X-Fail") == "body_filter" then
    error(ngx.arg[1])
  end
end
function P:log(conf)
  kong.log.set_serialize_value("first.order", kong.ctx.shared.order)
  kong.log.set_serialize_value("first.status", kong.log.serialize().response.status)
  if kong.request.get_header("X-Fail") == "log" then
    error(kong.request.get_header("X-Word"))
  end
end
return P
"""
)
SECOND = (
    NOTES
    + """
local P = {PRIORITY = 760, VERSION = "1.0.0"}
function P:access(conf)
  note(conf.name .. "(" .. tostring(kong.ctx.shared.from_python) .. ")")
  kong.ctx.shared.from_lua = {list = {1, 2}, name = conf.name}
end
function P:body_filter(conf)
  ngx.arg[1] = ngx.arg[1]:gsub("choices", "CHOICES")
end
return P
"""
)
SCHEMA = """
local typedefs = require "kong.db.schema.typedefs"
return {name = "%s", fields = {
  {consumer = typedefs.no_consumer},
  {config = {type = "record", fields = {{name = {type = "string", default = "%s"}}}}},
}}
"""

EVERYWHERE = """
if kong.request.get_header("X-Early") then
  return kong.response.exit(418, "early", {["X-Early"] = "yes"})
end
if kong.request.get_header("X-Fail") == "rewrite" then
  error(kong.request.get_header("X-Word"))
end
"""


def tree(mock: int) -> dict[str, Any]:
    post = {
        "name": "post-function",
        "config": {"access": ['kong.ctx.shared.order = kong.ctx.shared.order .. "z"']},
    }
    pre = {
        "name": "pre-function",
        "config": {"access": ['kong.ctx.shared.order = (kong.ctx.shared.order or "") .. "a"']},
    }
    return {
        "_format_version": "3.0",
        "services": [
            {
                "name": "s",
                "url": f"http://127.0.0.1:{mock}",
                "routes": [
                    route(
                        "chat",
                        pre,
                        {"name": "key-auth"},
                        {"name": "second"},
                        {"name": "mine"},
                        {"name": "first"},
                        ai(mock),
                        post,
                    )
                ],
            }
        ],
        "plugins": [{"name": "pre-function", "config": {"rewrite": [EVERYWHERE]}}],
        "consumers": [{"username": "a", "keyauth_credentials": [{"key": "k"}]}],
    }


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("w")
    install(folder, "first", FIRST, SCHEMA % ("first", "f"))
    path = install(folder, "second", SECOND, SCHEMA % ("second", "s"))
    made = World(
        folder, tree, f"plugins = bundled, second, first, mine, buffers\nlua_package_path = {path}\n"
    )
    yield made
    made.close()


@pytest.fixture(autouse=True)
def _no_scripts(world: World) -> Iterator[None]:
    world.plugins.scripts = {}
    yield
    world.plugins.scripts = {}


def test_plugins_run_by_priority_whatever_they_are_written_in(world: World) -> None:
    """pre-function, Lua at 1300 (its rewrite isn't global, so isn't run), Python at 794, Lua at 760, post-function."""
    answers = plays(
        world,
        ("kong.ctx.shared.get", ["order"]),
        ("kong.ctx.shared.set", ["from_python", "p"]),
        ("kong.ctx.shared.get", ["from_lua"]),
    )
    status, headers, _ = world.chat()
    assert (status, headers["x-order"]) == (200, "afs(p)z")
    assert answers == ["af", None, None]


def test_what_lua_shares_reaches_pythons_log_phase(world: World) -> None:
    answers = plays(world, ("kong.ctx.shared.get", ["from_lua"]), phase="log")
    world.chat()
    until(lambda: len(answers), lambda n: n > 0, what="answers in log")
    assert answers[:1] == [{"list": [1, 2], "name": "s"}]


def test_the_log_phase_of_lua_writes_the_record(world: World) -> None:
    told = world.records()
    _, headers, _ = world.chat()
    first = record(told, headers)["first"]
    assert first == {"order": "afs(nil)z", "status": 200}


def test_a_body_filter_sees_each_piece(world: World) -> None:
    """At 760 it comes after ai-proxy, which puts its own reply in the place of what came before."""
    for stream in (False, True):
        _, _, body = world.chat(stream=stream)
        assert b'"CHOICES"' in body
        assert b'"choices"' not in body


def test_an_answer_in_access_ends_the_request_but_not_its_filters(world: World) -> None:
    before = world.provider.ledger.summary()
    status, headers, body = world.chat(headers={"X-Stop": "1"})
    assert (status, json.loads(body), headers["x-stopped-by"]) == (403, {"message": "stopped"}, "first")
    assert headers["x-order"] == "af"
    assert world.provider.ledger.summary() == before


def test_an_answer_in_rewrite_comes_before_every_route(world: World) -> None:
    status, headers, body = world.chat("/nowhere", headers={"X-Early": "1"})
    assert (status, body, headers["x-early"]) == (418, b"early", "yes")
    assert "x-order" not in headers


@pytest.mark.parametrize("phase", ["rewrite", "access"])
def test_an_error_is_a_500_that_says_nothing(world: World, phase: str) -> None:
    world.log.write_text("")
    status, _, body = world.chat(text=SECRET, headers={"X-Fail": phase, "X-Word": SECRET})
    assert (status, json.loads(body)["message"]) == (500, "An unexpected error occurred")
    shown = until(world.log.read_text, lambda t: "plugin's own" in t, what="error log")
    assert f", in {phase}" in shown
    assert SECRET not in shown


@pytest.mark.parametrize("phase", ["header_filter", "body_filter"])
@pytest.mark.parametrize("path", ["/chat", "/chat/x"])
def test_an_error_in_a_filter_ends_the_connection(world: World, phase: str, path: str) -> None:
    world.log.write_text("")
    with pytest.raises((http.client.HTTPException, ConnectionError)):
        world.chat(path, text=SECRET, headers={"X-Fail": phase, "X-Word": SECRET}, stream=True)
    shown = until(world.log.read_text, lambda t: "plugin's own" in t, what="error log")
    assert "[first]" in shown
    assert SECRET not in shown
    assert world.chat()[0] == 200


def test_an_error_in_log_is_no_other_plugins(world: World) -> None:
    world.log.write_text("")
    told = world.records()
    _, headers, _ = world.chat(headers={"X-Fail": "log", "X-Word": SECRET})
    assert record(told, headers)["first"]["status"] == 200
    shown = until(world.log.read_text, lambda t: "plugin's own" in t, what="error log")
    assert "handler.lua:" in shown
    assert SECRET not in shown


def test_requests_at_the_same_time_dont_mix(world: World) -> None:
    with ThreadPoolExecutor(8) as pool:
        orders = list(pool.map(lambda _: world.chat()[1]["x-order"], range(40)))
    assert set(orders) == {"afs(nil)z"}


def test_a_file_that_isnt_there_stops_the_start(tmp_path: Path) -> None:
    (tmp_path / "kong.conf").write_text(f"prefix = {tmp_path}\nplugins = bundled,nobody\n")
    (tmp_path / "kong.yml").write_text('_format_version: "3.0"\n')
    with pytest.raises(ConfigError, match="plugin nobody: enabled but not installed"):
        gateway.load(tmp_path / "kong.yml", tmp_path / "kong.conf")
