"""ai-proxy's drivers as a Lua plugin has replaced them, for models whose options hold ``tenantgate``."""

from __future__ import annotations

from typing import Any, Final

from tenantgate.devhost import lua
from tenantgate.devhost.exchange import Exchange
from tenantgate.devhost.lua_state import LuaState
from tenantgate.devhost.pdk_event import Event as PdkCall
from tenantgate.devhost.stock.ai_drivers import FormatError

__all__ = ["LuaDrivers"]

_PLUGIN: Final = "ai-proxy"
Json = dict[str, Any]


class LuaDrivers:
    """The functions in ``kong_lua/drivers.lua`` of one Lua state."""

    def __init__(self, state: LuaState) -> None:
        self._state = state
        state.provide({"ai.metrics_set": _set_metric})

    @staticmethod
    def serves(model: Json) -> bool:
        """Whether a plugin's functions translate for this model."""
        return bool((model.get("options") or {}).get("tenantgate"))

    def to_format(self, x: Exchange, request: Json, model: Json) -> Json:
        """The provider's request body.

        Raises:
            FormatError: the text is the plugin's.
        """
        values = self._state.values
        made = self._call(
            x,
            b"to_format",
            model["provider"].encode(),
            values.to_lua(request, arrays=True),
            values.to_lua(model),
        )
        if made[b"body"] is None:
            raise FormatError(lua.from_bytes(made[b"err"] or b""))
        body: Json = values.to_python(made[b"body"])
        return body

    def from_format(self, x: Exchange, body: bytes, model: Json) -> bytes:
        """OpenAI's reply body.

        Raises:
            FormatError: the text is the plugin's.
        """
        provider = model["provider"].encode()
        made = self._call(x, b"from_format", provider, body, self._state.values.to_lua(model))
        if made[b"text"] is None:
            raise FormatError(lua.from_bytes(made[b"err"] or b""))
        text: bytes = made[b"text"]
        return text

    def chunks(self, x: Exchange, piece: bytes, content_type: str | None) -> list[bytes] | None:
        """The client's chunks in a piece of a stream; None where no plugin reads it."""
        kind = None if content_type is None else content_type.encode()
        made = self._call(x, b"chunks", piece, kind)
        return None if made is None else list(made.values())

    def _call(self, x: Exchange, name: bytes, *arguments: Any) -> Any:
        return self._state.call(x, _PLUGIN, self._state.drivers[name], *arguments)


def _set_metric(e: PdkCall, name: str, value: float) -> Any:
    e.x.ctx["ai_llm_metrics"][name] = value
    return lua.MISSING
