"""file-log."""

from __future__ import annotations

from pathlib import Path

from tenantgate.devhost import lua
from tenantgate.devhost.entities import PluginConfig
from tenantgate.devhost.exchange import Exchange
from tenantgate.devhost.record import serialize
from tenantgate.devhost.stock.base import StockPlugin

__all__ = ["FileLog"]


class FileLog(StockPlugin):
    """`kong/plugins/file-log/handler.lua`: a line of JSON for each request."""

    name = "file-log"

    def log(self, x: Exchange, conf: PluginConfig) -> None:
        """Write the record."""
        for key in conf.config.get("custom_fields_by_lua") or {}:
            x.serialize_values.append((key, None))  # its only value that we take is `return nil`
        with Path(conf.config["path"]).open("ab") as out:
            out.write(lua.encode(serialize(x)) + b"\n")
