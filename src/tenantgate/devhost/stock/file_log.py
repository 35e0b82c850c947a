"""file-log."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tenantgate.devhost import lua
from tenantgate.devhost.entities import PluginConfig
from tenantgate.devhost.exchange import Exchange
from tenantgate.devhost.lua_state import LuaState
from tenantgate.devhost.record import serialize
from tenantgate.devhost.stock.base import StockPlugin
from tenantgate.devhost.stock.functions import compiled

__all__ = ["FileLog"]


class FileLog(StockPlugin):
    """`kong/plugins/file-log/handler.lua`: a line of JSON for each request."""

    name = "file-log"

    def __init__(self, state: LuaState) -> None:
        self._state = state
        self._fields: dict[str, dict[str, Any]] = {}

    def prepare(self, conf: PluginConfig) -> None:
        """Compile the fields' code, which Kong does at each request.

        Raises:
            ConfigError: names the place of code that the host can't run.
        """
        self._fields[conf.id] = {
            key: compiled(
                self._state,
                code,
                f"{self.name}.custom_fields_by_lua.{key}",
                f"{conf.where}: config.custom_fields_by_lua.{key}",
            )
            for key, code in (conf.config.get("custom_fields_by_lua") or {}).items()
        }

    def log(self, x: Exchange, conf: PluginConfig) -> None:
        """Write the record."""
        for key, field in self._fields[conf.id].items():
            value = self._state.run(x, self.name, field)
            x.serialize_values.append((key, self._state.values.to_python(value), "set"))
        with Path(conf.config["path"]).open("ab") as out:
            out.write(lua.encode(serialize(x)) + b"\n")
