from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from lua_rig import exchange, install, plugin, state
from tenantgate.devhost import kong_conf, kong_schema, lua_plugins
from tenantgate.devhost.entities import PluginConfig
from tenantgate.devhost.exchange import Exited, Phase
from tenantgate.devhost.lua_plugins import LuaPlugin
from tenantgate.devhost.lua_state import LuaError
from tenantgate.devhost.stock_schemas import SCHEMAS
from tenantgate.errors import ConfigError

HANDLER = """
local Mine = {PRIORITY = 771, VERSION = "0.1.0"}
function Mine:access(conf)
  kong.ctx.plugin.word = conf.word
  if conf.stop then
    return kong.response.exit(403, {message = conf.word})
  end
end
function Mine:header_filter(conf)
  kong.response.set_header("X-Word", kong.ctx.plugin.word .. self.VERSION)
end
function Mine:body_filter()
  ngx.arg[1] = ngx.arg[1]:upper()
end
return Mine
"""
SCHEMA = """
local typedefs = require "kong.db.schema.typedefs"
return {
  name = "mine",
  fields = {
    {consumer = typedefs.no_consumer},
    {protocols = typedefs.protocols_http},
    {config = {type = "record", fields = {
      {word = {type = "string", default = "w", match = "^%l+$", err = "small letters only"}},
      {stop = {type = "boolean"}},
      {port = typedefs.port({default = 80})},
      {even = {type = "integer", custom_validator = function(n)
        if n % 2 == 0 then return true end
        return nil, "must be even"
      end}},
      {words = {type = "array", elements = {type = "string", match = "^%l+$"}}},
      {deep = {type = "array", elements = {type = "record", fields = {{a = {type = "string", required = true}}}}}},
    }}},
  },
}
"""


def load(folder: Path, handler: str = HANDLER, schema: str = SCHEMA, **settings: str) -> LuaPlugin:
    path = install(folder, "mine", handler, schema)
    lines = {"plugins": "bundled, mine", "lua_package_path": path, **settings}
    conf = kong_conf.parse("".join(f"{k} = {v}\n" for k, v in lines.items()))
    (made,) = lua_plugins.load(conf, SCHEMAS, state(conf.settings, conf.lua_package_path))
    return made


def configured(made: LuaPlugin, **config: Any) -> dict[str, Any]:
    fields = kong_schema.config_fields(made.fields, "mine")
    return kong_schema.apply(fields, config, "config", resolve=lambda r, _: r, refs={})


def test_a_plugin_is_loaded_with_its_priority_and_schema(tmp_path: Path) -> None:
    made = load(tmp_path)
    assert (made.name, made.priority) == ("mine", 771)
    assert configured(made) == {"word": "w", "port": 80}


def test_its_phases_run_with_its_configuration(tmp_path: Path) -> None:
    made, x = load(tmp_path), exchange()
    conf = plugin("mine", word="hello")
    asyncio.run(made.access(x, conf))
    x.phase = Phase.HEADER_FILTER
    made.header_filter(x, conf)
    x.phase = Phase.BODY_FILTER
    assert (x.out["X-Word"], made.body_filter(x, conf, b"ab", last=False)) == ("hello0.1.0", b"AB")
    made.log(x, conf)
    made.rewrite(x, conf)
    with pytest.raises(Exited) as exited:
        asyncio.run(made.access(exchange(), plugin("stopping", word="no", stop=True)))
    assert exited.value.answer.body == b'{"message":"no"}'


@pytest.mark.parametrize(
    ("config", "problem"),
    [
        ({"word": "A1"}, "config.word: small letters only"),
        ({"port": 65536}, "config.port: 65536 should be between 0 and 65535"),
        ({"even": 3}, "config.even: must be even"),
        ({"other": 3}, "config.other: unknown field"),
        ({"words": ["a", "1"]}, r"config.words\[1\]: invalid value$"),
        ({"deep": [{}]}, r"config.deep\[0\].a: required field missing"),
    ],
)
def test_its_schema_is_heeded(tmp_path: Path, config: dict[str, Any], problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        configured(load(tmp_path), **config)


def test_no_consumer_is_heeded(tmp_path: Path) -> None:
    made = load(tmp_path)
    conf = PluginConfig(
        id="1", name="mine", route_id=None, service_id=None, consumer_id="c", config={}, where="plugins[0]"
    )
    with pytest.raises(ConfigError, match=r"plugins\[0\]: consumer: value must be null"):
        made.prepare(conf)
    made.prepare(plugin("mine"))


def handler(body: str = "", head: str = 'PRIORITY = 1, VERSION = "1.0.0"') -> str:
    return f"local P = {{{head}}} {body} return P"


@pytest.mark.parametrize(
    ("handler", "schema", "problem"),
    [
        (handler(head='VERSION = "1.0.0"'), SCHEMA, "PRIORITY field is not a valid integer"),
        (handler(head='PRIORITY = 1.5, VERSION = "1.0.0"'), SCHEMA, "PRIORITY field is not a valid integer"),
        (handler(head="PRIORITY = 1"), SCHEMA, "VERSION field"),
        (handler("function P:response() end"), SCHEMA, "doesn't run the response phase"),
        (handler("function P:init_worker() end"), SCHEMA, "doesn't run the init_worker phase"),
        (
            handler("function P:access() return kong.cache:get('x') end"),
            SCHEMA,
            "no kong.cache; use a real Kong",
        ),
        (handler("local http = require 'resty.http'"), SCHEMA, "module 'resty.http' not found"),
        (handler("local x = kong.request.get_path()"), SCHEMA, "outside of a request"),
        ("return 1", SCHEMA, "must return a table"),
        ("return {", SCHEMA, "(?s)plugin mine: .*kong/plugins/mine/handler.lua:1: unexpected symbol near"),
        (handler(), "return {name = 'mine', fields = {}}", "no config field"),
        (handler(), "return {name = 'mine', fields = {}, entity_checks = {}}", "can't check entity_checks"),
        (handler(), SCHEMA.replace("match", "match_any"), "word: the embedded host can't check match_any"),
        (handler(), SCHEMA.replace("typedefs.port", "typedefs.host"), "no kong.db.schema.typedefs.host"),
    ],
)
def test_what_kong_would_refuse_or_the_host_cant_run_is_refused(
    tmp_path: Path, handler: str, schema: str, problem: str
) -> None:
    with pytest.raises(ConfigError, match=problem):
        load(tmp_path, handler, schema)


def test_a_plugin_without_files_isnt_installed(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"plugin mine: enabled but not installed: no kong.plugins.mine.handler"
    ):
        load(tmp_path, lua_package_path=f"{tmp_path}/elsewhere/?.lua")


def test_files_cant_stand_for_a_bundled_plugin(tmp_path: Path) -> None:
    path = install(tmp_path, "acl", HANDLER, SCHEMA)
    conf = kong_conf.parse(f"plugins = bundled, acl\nlua_package_path = {path}\n")
    with pytest.raises(ConfigError, match="plugin acl: its files would stand for"):
        lua_plugins.load(conf, SCHEMAS, state({}, path))


def test_only_the_package_path_is_searched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path, "mine", HANDLER, SCHEMA)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(LuaError, match=r"module 'kong\.plugins\.mine\.handler' not found"):
        state().module("kong.plugins.mine.handler")
    assert state({}, "./?.lua").module("kong.plugins.mine.handler")[b"PRIORITY"] == 771
