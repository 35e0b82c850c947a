"""file-log."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from tenantgate.config.lua import COMPLETE, CORRELATION, TRACEPARENT
from tenantgate.devhost import lua
from tenantgate.devhost.entities import PluginConfig
from tenantgate.devhost.exchange import Exchange
from tenantgate.devhost.record import serialize
from tenantgate.devhost.stock.base import StockPlugin
from tenantgate.errors import ConfigError

__all__ = ["FileLog"]

# The Lua that is known, each with what it gives.
_SHARED: Final = re.compile(r"return kong\.ctx\.shared\.([A-Za-z_]\w*)")
_REPLY: Final = re.compile(r'return kong\.response\.get_header\("([\w-]+)"\)')
_CORRELATION: Final = re.compile(re.escape(CORRELATION).replace("HEADER", r"([\w-]+)"))
_UUID: Final = re.compile(r"[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}(#[0-9]+)?")
_TRACE: Final = re.compile(r"(?=.{55}\Z)[0-9A-Fa-f]{2}-[0-9A-Fa-f]+-[0-9A-Fa-f]+-[0-9A-Fa-f]{2}")


def _known(code: str) -> Callable[[Exchange], Any] | None:
    """What the code gives for a request; None for code that isn't known."""
    if code == "return nil":
        return lambda _x: None
    if shared := _SHARED.fullmatch(code):
        mark = shared[1]
        return lambda x: x.shared.get(mark)
    if reply := _REPLY.fullmatch(code):
        header = reply[1]
        return lambda x: x.out.get(header)
    if code == COMPLETE:
        return lambda x: not x.client_gone
    if code == TRACEPARENT:
        return lambda x: _formed(x, "tenantgate_traceparent", "traceparent", _TRACE)
    if correlation := _CORRELATION.fullmatch(code):
        name = correlation[1]
        return lambda x: _formed(x, "tenantgate_correlation", name, _UUID)
    return None


def _formed(x: Exchange, mark: str, header: str, form: re.Pattern[str]) -> str | None:
    value = x.shared.get(mark) or x.headers.get(header)
    return value if isinstance(value, str) and form.fullmatch(value) else None


class FileLog(StockPlugin):
    """`kong/plugins/file-log/handler.lua`: a line of JSON for each request."""

    name = "file-log"

    @staticmethod
    def check(conf: PluginConfig) -> None:
        """Refuse, at start, code that isn't known."""
        for key, code in (conf.config.get("custom_fields_by_lua") or {}).items():
            if _known(code) is None:
                raise ConfigError(
                    f"{conf.where}: config.custom_fields_by_lua.{key}: the embedded host runs no Lua; use a real Kong"
                )

    def log(self, x: Exchange, conf: PluginConfig) -> None:
        """Write the record."""
        for key, code in (conf.config.get("custom_fields_by_lua") or {}).items():
            give = _known(code)
            x.serialize_values.append((key, give(x) if give else None))
        with Path(conf.config["path"]).open("ab") as out:
            out.write(lua.encode(serialize(x)) + b"\n")
