"""The functions of Kong's PDK that a plugin server may call, with Kong's meaning and limits.

In the log phase Kong answers from what it saved when the request ended (`Saved`), in a timer: there some
functions raise, which leaves the caller without an answer.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import MutableMapping
from typing import Any, Final

from tenantgate.devhost import lua, variables
from tenantgate.devhost.exchange import Held, Phase
from tenantgate.devhost.logs import LEVELS
from tenantgate.devhost.pdk_event import Event, Function, NoSuchMethodError, PdkError, Saved, absent, text
from tenantgate.devhost.pdk_request import REQUEST
from tenantgate.devhost.pdk_response import RESPONSE
from tenantgate.devhost.protocol import EMPTY_MAP, Binary
from tenantgate.devhost.record import MODES, serialize

__all__ = [
    "KONG_VERSION",
    "MULTI_MAPS",
    "NODE",
    "Event",
    "NoSuchMethodError",
    "PdkError",
    "Saved",
    "call",
    "set_serialize_value",
]

_NODE_ID: Final = str(uuid.uuid4())
KONG_VERSION: Final = "3.9.3"

# must_fix in rpc/mp_rpc.lua
MULTI_MAPS: Final = frozenset(
    {
        "kong.request.get_query",
        "kong.request.get_headers",
        "kong.response.get_headers",
        "kong.service.response.get_headers",
    }
)
_RAW_BODIES: Final = frozenset({"kong.request.get_raw_body", "kong.service.response.get_raw_body"})


def call(e: Event, method: str, args: list[Any]) -> Any:
    """The first return value of a function, as Kong sends it.

    Raises:
        Exited: `kong.response.exit` or `error`.
        NoSuchMethodError: the PDK has no such function.
        PdkError: it raised.
    """
    function = _METHODS.get(method)
    if function is None:
        return _log_line(e, method, args)
    try:
        value = function(e, *args)
    except TypeError as error:
        raise PdkError(f"{method}: wrong arguments") from error
    if method in _RAW_BODIES:
        if not isinstance(value, bytes):
            raise PdkError(f"{method}: nothing to pack")  # the packer raises on nil
        return Binary(value)
    if method in MULTI_MAPS:
        return _multi_map(value)
    return value


def _multi_map(value: dict[str, Any]) -> Any:
    if not value:
        return EMPTY_MAP
    return {k: [] if v is True else [v] if isinstance(v, str) else v for k, v in value.items()}


def _log_line(e: Event, method: str, args: list[Any]) -> Any:
    level = method.removeprefix("kong.log.")
    if level not in LEVELS:
        raise NoSuchMethodError(method)
    e.log.write(level, f"[{e.plugin}] " + "".join(map(str, args)))
    return lua.MISSING


def _get_var(e: Event, name: Any) -> Any:
    try:
        return absent(variables.get(e.live(), text(name, "variable")))
    except variables.UnknownVariableError:
        raise NoSuchMethodError(
            f"kong.nginx.get_var of {name}, which the embedded host doesn't have"
        ) from None


def _get_ctx(e: Event, key: Any) -> Any:
    value = e.ctx.get(key, lua.MISSING)
    return value.plain() if isinstance(value, Held) else value


def _serialize(e: Event) -> str:
    e.only(Phase.LOG)
    return lua.from_bytes(lua.encode(e.saved.record if e.saved else serialize(e.x)))


def set_serialize_value(e: Event, key: Any, value: Any = None, options: Any = None) -> Any:
    """``kong.log.set_serialize_value``."""
    mode = (options or {}).get("mode", "set")
    if mode not in MODES:
        raise PdkError("mode must be 'set', 'add' or 'replace'")
    e.x.serialize_values.append((text(key, "key"), value, mode))
    return lua.MISSING


def _store(table: MutableMapping[str, Any], key: Any, value: Any = None) -> Any:
    if value is None:
        table.pop(key, None)
    else:
        table[key] = _as_lua_has_it(value)
    return lua.MISSING


def _as_lua_has_it(value: Any) -> Any:
    """A value that came as MessagePack: Lua has one kind of text, and no nil in a table."""
    if isinstance(value, bytes):
        return lua.from_bytes(value)
    if isinstance(value, dict):
        return {k: _as_lua_has_it(v) for k, v in value.items() if v is not None}
    return [_as_lua_has_it(v) for v in value] if isinstance(value, list) else value


NODE: Final[dict[str, Function]] = {
    "kong.nginx.get_subsystem": lambda _e: "http",
    "kong.node.get_hostname": lambda _e: "tenantgate-devhost",
    "kong.node.get_id": lambda _e: _NODE_ID,
    "kong.plugin.get_id": lambda e: e.x.plugin.id if e.x.plugin else lua.MISSING,
    "ngx.now": lambda _e: time.time(),
}

_METHODS: Final[dict[str, Function]] = {
    **REQUEST,
    **RESPONSE,
    **NODE,
    "kong.ctx.shared.get": lambda e, key: e.x.shared.get(key, lua.MISSING),
    "kong.ctx.shared.set": lambda e, key, value=None: _store(e.x.shared, key, value),
    "kong.log.serialize": _serialize,
    "kong.log.set_serialize_value": set_serialize_value,
    "kong.nginx.get_ctx": _get_ctx,
    "kong.nginx.get_tls1_version_str": lambda _e: lua.MISSING,
    "kong.nginx.get_var": _get_var,
    "kong.nginx.req_start_time": lambda e: e.x.started,
    "kong.nginx.set_ctx": lambda e, key, value=None: _store(e.ctx, key, value),
    "kong.version": lambda _e: KONG_VERSION,
}
