"""nginx's variables of a request, as far as the host has them: ``ngx.var`` and ``kong.nginx.get_var``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from tenantgate import __version__
from tenantgate.devhost.exchange import Exchange, Phase

__all__ = [
    "FIXED",
    "FORWARDED",
    "READ",
    "SERVER",
    "UnknownVariableError",
    "forwarded",
    "get",
    "note_upgrade",
    "put",
    "upgrades",
]

SERVER: Final = f"tenantgate-devhost/{__version__}"

FORWARDED: Final[Mapping[str, str]] = {
    "upstream_via": "Via",
    **{
        f"upstream_x_forwarded_{name.lower()}": f"X-Forwarded-{name}"
        for name in ("For", "Host", "Path", "Port", "Prefix", "Proto")
    },
}
"""Variables from which nginx makes headers of the request to the upstream (`kong/templates/nginx_kong.lua`)."""

READ: Final = frozenset(
    {
        "args",
        "host",
        "kong_request_id",
        "remote_addr",
        "remote_port",
        "request_completion",
        "request_id",
        "request_length",
        "request_method",
        "request_uri",
        "scheme",
        "server_port",
        "upstream_bytes_sent",
        "upstream_host",
        "upstream_scheme",
        "upstream_uri",
        "uri",
    }
)
"""Other variables, beside ``http_NAME``."""


FIXED: Final[Mapping[str, str]] = {"upstream_connection": "keep-alive", "upstream_upgrade": ""}
"""Variables that may be set to the value that they have here upstream in any case: the host passes no WebSocket on."""
_UPGRADE: Final = "upstream_upgrade"


class UnknownVariableError(LookupError):
    """The host doesn't have this variable."""


def get(x: Exchange, name: str) -> str | None:
    """The variable's value; None where nginx has none.

    Raises:
        UnknownVariableError: nginx may have a value, the host hasn't.
    """
    if name.startswith("http_"):
        return x.headers.get(name[5:].replace("_", "-"))
    if name in FORWARDED:
        return x.variables.get(name, forwarded(x)[name])
    if name not in READ:
        raise UnknownVariableError(name)
    values = {
        "args": x.args or None,
        "host": x.host,
        "kong_request_id": x.request_id,
        "remote_addr": x.client_ip,
        "remote_port": str(x.client_port),
        "request_completion": "OK" if x.phase is Phase.LOG and not x.client_gone else "",
        "request_id": x.request_id,
        "request_length": str(x.request_size),
        "request_method": x.method,
        "request_uri": x.uri,
        "scheme": "http",
        "server_port": str(x.server_port),
        "uri": x.path,
        "upstream_bytes_sent": ", ".join(map(str, x.sent_upstream)) or None,
        "upstream_host": x.upstream.host_header or "" if x.upstream else None,
        "upstream_scheme": x.upstream.scheme if x.upstream else None,
        "upstream_uri": x.upstream.path if x.upstream else None,
    }
    return values[name]


def put(x: Exchange, name: str, value: str) -> None:
    """Set a variable.

    Raises:
        UnknownVariableError: the host would not heed the value.
    """
    if name not in FORWARDED and FIXED.get(name) != value:
        raise UnknownVariableError(name)
    x.variables[name] = value


def note_upgrade(x: Exchange) -> None:
    """Set ``upstream_upgrade`` by the client's headers, as Kong does (`kong/runloop/handler.lua`, access.before)."""
    if x.headers.get("Upgrade", "").lower() == "websocket":
        x.variables[_UPGRADE] = "websocket"


def upgrades(x: Exchange) -> bool:
    """Whether the request would go on as a WebSocket: Kong then holds no reply back (`kong/init.lua`)."""
    return bool(x.variables.get(_UPGRADE))


def forwarded(x: Exchange) -> dict[str, str]:
    """The values of `FORWARDED` as Kong sets them (`kong/runloop/handler.lua`, access.before)."""
    via = x.headers.get("Via")
    prefix = x.match.prefix if x.match and x.match.prefix != "/" else ""
    return {
        "upstream_via": (via + ", " if via else "") + f"{x.http_version} {SERVER}",
        "upstream_x_forwarded_for": ", ".join([*x.headers.getall("X-Forwarded-For", ()), x.client_ip]),
        "upstream_x_forwarded_host": x.host,
        "upstream_x_forwarded_path": x.path,
        "upstream_x_forwarded_port": str(x.server_port),
        "upstream_x_forwarded_prefix": prefix or "",
        "upstream_x_forwarded_proto": "http",
    }
