"""Lua plugins from files: ``kong/plugins/NAME/handler.lua`` and ``schema.lua`` below kong.conf's lua_package_path."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any, Final

from tenantgate.devhost import kong_schema, lua
from tenantgate.devhost.entities import PluginConfig
from tenantgate.devhost.exchange import Exchange
from tenantgate.devhost.kong_conf import KongConf
from tenantgate.devhost.lua_names import unknown
from tenantgate.devhost.lua_state import LuaError, LuaState
from tenantgate.devhost.stock.base import StockPlugin
from tenantgate.devhost.stock.functions import PHASES
from tenantgate.errors import ConfigError

__all__ = ["LuaPlugin", "load"]

_OTHER_PHASES: Final = (
    "certificate",
    "configure",
    "init_worker",
    "preread",
    "response",
    "ws_client_frame",
    "ws_close",
    "ws_handshake",
    "ws_upstream_frame",
)
_LEFT_OUT: Final = frozenset({("tenantgate-request", "configure")})
"""Phases that change no request: this one has Kong start the engine's instances before the first one."""
_SCOPES: Final = ("route", "service", "consumer")
_ATTRIBUTES: Final = frozenset(
    {
        "between",
        "custom_validator",
        "default",
        "description",
        "elements",
        "encrypted",
        "err",
        "fields",
        "gt",
        "keys",
        "len_eq",
        "len_max",
        "len_min",
        "match",
        "one_of",
        "referenceable",
        "required",
        "type",
        "values",
    }
)
"""Attributes of a field that the host heeds (`kong/db/schema/metaschema.lua` has more)."""


class LuaPlugin(StockPlugin):
    """One plugin of Lua files.

    Args:
        name: as kong.conf's ``plugins`` has it.
        handler: the table that handler.lua returns.
        fields: the schema's fields.
        state: where all this lives.

    Raises:
        ConfigError: Kong would refuse the plugin, or the host can't run all its phases.
    """

    def __init__(self, name: str, handler: Any, fields: list[dict[str, Any]], state: LuaState) -> None:
        self.name = name
        self.fields = fields
        self.priority = _priority(name, handler)
        self._handler = handler
        self._state = state
        # A handler may inherit (kong/db/dao/plugins.lua, implements): so by name, not by its own keys.
        for phase in _OTHER_PHASES:
            if handler[phase.encode()] is not None and (name, phase) not in _LEFT_OUT:
                raise ConfigError(
                    f"plugin {name}: the embedded host doesn't run the {phase} phase; use a real Kong"
                )
        self._phases = {p: f for p in PHASES if (f := handler[p.encode()]) is not None}

    def prepare(self, conf: PluginConfig) -> None:
        """Refuse a scope that the schema excludes, as ``typedefs.no_consumer`` does."""
        for scope, given in zip(_SCOPES, conf.scope, strict=True):
            excluded = any("eq" in entry.get(scope, {}) for entry in self.fields)
            if given and excluded:
                raise ConfigError(f"{conf.where}: {scope}: value must be null")

    def _run(self, x: Exchange, conf: PluginConfig) -> None:
        if phase := self._phases.get(x.phase.value):
            self._state.run(x, self.name, phase, self._handler, self._state.config(conf))

    def rewrite(self, x: Exchange, conf: PluginConfig) -> None:
        """Run the handler's rewrite."""
        self._run(x, conf)

    async def access(self, x: Exchange, conf: PluginConfig) -> None:
        """Run the handler's access."""
        self._run(x, conf)

    def header_filter(self, x: Exchange, conf: PluginConfig) -> None:
        """Run the handler's header_filter."""
        self._run(x, conf)

    def body_filter(self, x: Exchange, conf: PluginConfig, chunk: bytes, *, last: bool) -> bytes:
        """Run the handler's body_filter on a piece of the body."""
        phase = self._phases.get("body_filter")
        if phase is None:
            return chunk
        config = self._state.config(conf)
        return self._state.filter(x, self.name, chunk, phase, self._handler, config, last=last)

    def log(self, x: Exchange, conf: PluginConfig) -> None:
        """Run the handler's log."""
        self._run(x, conf)


def load(conf: KongConf, others: Iterable[str], state: LuaState) -> tuple[LuaPlugin, ...]:
    """The plugins of kong.conf that are neither bundled nor in a plugin server.

    Args:
        conf: names the plugins.
        others: names of plugins that aren't Lua files.
        state: in which their code is run, and that finds their files.

    Raises:
        ConfigError: a plugin has no files, or none that the host can run.
    """
    taken = {"bundled", *others}
    for name in taken & set(conf.plugins):
        if state.find(f"kong.plugins.{name}.handler"):
            raise ConfigError(f"plugin {name}: its files would stand for a plugin that the embedded host has")
    names = [name for name in conf.plugins if name not in taken]
    return tuple(_load(name, state) for name in names)


def _load(name: str, state: LuaState) -> LuaPlugin:
    where = f"plugin {name}"
    modules = {}
    for part in ("handler", "schema"):
        module = f"kong.plugins.{name}.{part}"
        file = state.find(module)
        if file is None:
            raise ConfigError(f"{where}: enabled but not installed: no {module} in lua_package_path")
        if missing := unknown(file.read_text("utf-8"), state.names):
            raise ConfigError(f"{where}: {file}: the embedded host has no {missing}; use a real Kong")
        try:
            modules[part] = state.module(module)
        except LuaError as error:
            raise ConfigError(f"{where}: {error}") from None
        if not hasattr(modules[part], "items"):
            raise ConfigError(f"{where}: {file}: must return a table")
    fields = _schema(modules["schema"], where, state)
    return LuaPlugin(name, modules["handler"], fields, state)


def _priority(name: str, handler: Any) -> int:
    priority, version = handler[b"PRIORITY"], handler[b"VERSION"]
    if not isinstance(priority, int) or isinstance(priority, bool):
        raise ConfigError(f"plugin {name}: its PRIORITY field is not a valid integer number")
    if not isinstance(version, bytes) or not re.match(rb"\d+\.\d+\.\d+", version):
        raise ConfigError(f'plugin {name}: its VERSION field does not follow the "x.y.z" format')
    return priority


def _schema(schema: Any, where: str, state: LuaState) -> list[dict[str, Any]]:
    for key in schema:
        if key not in (b"name", b"fields"):
            shown = lua.from_bytes(key) if isinstance(key, bytes) else key
            raise ConfigError(f"{where}: schema: the embedded host can't check {shown}; use a real Kong")
    fields = [_entry(entry, f"{where}: schema", state) for entry in schema[b"fields"].values()]
    kong_schema.config_fields(fields, where)
    return fields


def _entry(entry: Any, where: str, state: LuaState) -> dict[str, Any]:
    return {
        (name := lua.from_bytes(key)): _field(field, f"{where}.{name}", state) for key, field in entry.items()
    }


def _field(field: Any, where: str, state: LuaState) -> dict[str, Any]:
    if field[b"type"] == b"foreign":
        return {} if field[b"eq"] is None else {"eq": None}
    spec: dict[str, Any] = {}
    validators = []
    for raw, value in field.items():
        key = lua.from_bytes(raw)
        if key not in _ATTRIBUTES:
            raise ConfigError(f"{where}: the embedded host can't check {key}; use a real Kong")
        if key == "fields":
            spec[key] = [_entry(e, where, state) for e in value.values()]
        elif key in ("elements", "keys", "values"):
            spec[key] = _field(value, where, state)
        elif key == "custom_validator":
            validators.append(_validator(value, state))
        elif key == "match":
            validators.append(_validator(state.matching(value, field[b"err"]), state))
        else:
            spec[key] = state.values.to_python(value)
    return {**spec, "validators": validators} if validators else spec


def _validator(function: Any, state: LuaState) -> Callable[[Any], str | None]:
    """The message of a Lua validator for a value; None where the value is valid."""

    def check(value: Any) -> str | None:
        answer = function(state.values.to_lua(value))
        valid, message = answer if isinstance(answer, tuple) else (answer, None)
        if valid:
            return None
        return lua.from_bytes(message) if isinstance(message, bytes) else "invalid value"

    return check
