"""file-log."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from tenantgate.devhost import lua
from tenantgate.devhost.entities import PluginConfig
from tenantgate.devhost.exchange import Exchange
from tenantgate.devhost.record import serialize
from tenantgate.devhost.stock.base import StockPlugin
from tenantgate.errors import ConfigError

__all__ = ["FileLog"]

# The Lua that is known: take a field out, or put in what a plugin left in kong.ctx.shared.
_SHARED: Final = re.compile(r"return kong\.ctx\.shared\.([A-Za-z_]\w*)")


class FileLog(StockPlugin):
    """`kong/plugins/file-log/handler.lua`: a line of JSON for each request."""

    name = "file-log"

    @staticmethod
    def check(conf: PluginConfig) -> None:
        """Refuse, at start, code that isn't known."""
        for key, code in (conf.config.get("custom_fields_by_lua") or {}).items():
            if code != "return nil" and not _SHARED.fullmatch(code):
                raise ConfigError(
                    f"{conf.where}: config.custom_fields_by_lua.{key}: the embedded host runs no Lua; use a real Kong"
                )

    def log(self, x: Exchange, conf: PluginConfig) -> None:
        """Write the record."""
        for key, code in (conf.config.get("custom_fields_by_lua") or {}).items():
            shared = _SHARED.fullmatch(code)
            x.serialize_values.append((key, x.shared.get(shared[1]) if shared else None))
        with Path(conf.config["path"]).open("ab") as out:
            out.write(lua.encode(serialize(x)) + b"\n")
