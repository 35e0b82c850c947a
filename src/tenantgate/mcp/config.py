"""Settings of the MCP servers for the whole gateway."""

from __future__ import annotations

from typing import Final

from tenantgate.fields import config_class, field

__all__ = ["McpGateway"]

_HOST: Final = r"^(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9.-]+)(:[0-9]{1,5})?$"
_ORIGIN: Final = r"^(\*|https?://[A-Za-z0-9.-]+(:[0-9]{1,5})?)$"


@config_class
class McpGateway:
    """Who may send requests to the tenants' MCP servers from where."""

    hosts: tuple[str, ...] = field(
        "Names by which clients reach the gateway, with or without a port: a request with another `Host` is refused "
        "with 403. Default: any.",
        default=(),
        match=_HOST,
        lua_match=r"^[%[%]%w:.-]+$",
        len_max=32,
    )
    origins: tuple[str, ...] = field(
        "Origins whose pages may send requests; those of other pages are refused with 403. Default: those of `cors`.",
        default=(),
        match=_ORIGIN,
        lua_match=r"^[%w:/.*-]+$",
        len_max=100,
    )
