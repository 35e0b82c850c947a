"""cors (`kong/plugins/cors/handler.lua`), for origins in plain words."""

from __future__ import annotations

from typing import Final

from tenantgate.devhost.entities import PluginConfig
from tenantgate.devhost.exchange import Exchange
from tenantgate.devhost.stock.base import StockPlugin

__all__ = ["Cors"]

_ORIGIN: Final = "Access-Control-Allow-Origin"


class Cors(StockPlugin):
    """Answers preflight requests, and tells browsers whose pages may read a reply."""

    name = "cors"

    async def access(self, x: Exchange, conf: PluginConfig) -> None:
        """200 to a preflight request."""
        if (
            x.method != "OPTIONS"
            or not x.headers.get("Origin")
            or not x.headers.get("Access-Control-Request-Method")
        ):
            return
        x.private.setdefault(conf.id, {})["answered"] = True
        headers = {**_allowed(x, conf), "Access-Control-Allow-Methods": ",".join(conf.config["methods"])}
        if asked := x.headers.get("Access-Control-Request-Headers"):
            headers["Access-Control-Allow-Headers"] = asked
        if conf.config.get("max_age") is not None:
            headers["Access-Control-Max-Age"] = str(conf.config["max_age"])
        x.exit(200, None, headers)

    def header_filter(self, x: Exchange, conf: PluginConfig) -> None:
        """The same for the reply itself."""
        if x.private.get(conf.id, {}).get("answered"):
            return
        allowed = _allowed(x, conf)
        if exposed := conf.config.get("exposed_headers"):
            allowed["Access-Control-Expose-Headers"] = ",".join(exposed)
        for name, value in allowed.items():
            x.out.popall(name, None)
            x.out[name] = value


def _allowed(x: Exchange, conf: PluginConfig) -> dict[str, str]:
    origins = conf.config.get("origins") or ["*"]
    if origins == ["*"]:
        return {_ORIGIN: "*"}
    if len(origins) == 1:
        return {"Vary": "Origin", _ORIGIN: origins[0]}
    asked = x.headers.get("Origin")
    if "*" in origins and asked:
        return {"Vary": "Origin", _ORIGIN: "*"}
    return {"Vary": "Origin", **({_ORIGIN: asked} if asked and asked in origins else {})}
