"""The file that kong.conf's ``nginx_http_include`` names: servers on loopback whose replies Lua makes.

Directives that the host doesn't know are refused, since it couldn't do what they say.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tenantgate.errors import ConfigError

__all__ = ["Include", "Server", "load", "parse"]

_TOKEN: Final = re.compile(
    r"""\s*(?: \#[^\n]* | (?P<mark>[;{}]) | '(?P<single>[^']*)' | "(?P<double>[^"]*)" | (?P<word>[^\s;{}'"]+) )""",
    re.VERBOSE,
)
_WITHOUT_EFFECT: Final = frozenset(
    {
        "access_log",
        "client_body_buffer_size",
        "client_body_in_single_buffer",
        "client_max_body_size",
        "default_type",
        "keepalive_requests",
        "large_client_header_buffers",
        "lua_check_client_abort",
        "lua_ssl_conf_command",
        "lua_ssl_protocols",
        "lua_ssl_verify_depth",
        "server_name",
    }
)
"""What the host does in any case, or doesn't need to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """A server whose only location is ``/``."""

    host: str
    port: int
    code: str
    """Lua, ``content_by_lua_block``."""
    trusted: str | None = None
    """``lua_ssl_trusted_certificate``."""


@dataclass(frozen=True, slots=True)
class Include:
    """What the file says."""

    dicts: tuple[str, ...] = ()
    """Names of ``lua_shared_dict``."""
    servers: tuple[Server, ...] = ()


def load(path: str) -> Include:
    """Read the file; nothing where there is no path.

    Raises:
        ConfigError: names the file and what the host can't do.
    """
    if not path:
        return Include()
    try:
        text = Path(path).read_text("utf-8")
    except OSError as error:
        raise ConfigError(f"nginx_http_include: {path}: {error.strerror}") from error
    return parse(text, where=path)


def parse(text: str, *, where: str = "nginx_http_include") -> Include:
    """The servers in an nginx configuration's text.

    Raises:
        ConfigError: names what the host can't do.
    """
    dicts: list[str] = []
    servers: list[Server] = []
    for name, arguments, block in _directives(text, where):
        if name == "lua_shared_dict" and len(arguments) == 2 and block is None:
            dicts.append(arguments[0])
        elif name == "server" and block is not None:
            servers.append(_server(block, where))
        else:
            raise ConfigError(f"{where}: {name}: the embedded host can't do this")
    return Include(tuple(dicts), tuple(servers))


def _server(text: str, where: str) -> Server:
    found: dict[str, str] = {}
    for name, arguments, block in _directives(text, where):
        if name in ("listen", "lua_ssl_trusted_certificate") and len(arguments) == 1:
            found[name] = arguments[0]
        elif name == "location" and arguments == ["/"] and block is not None:
            for inner, _, code in _directives(block, where):
                if inner != "content_by_lua_block" or code is None:
                    raise ConfigError(f"{where}: {inner}: the embedded host can't do this in a location")
                found["code"] = code
        elif name not in _WITHOUT_EFFECT:
            raise ConfigError(f"{where}: {name}: the embedded host can't do this in a server")
    host, colon, port = found.get("listen", "").rpartition(":")
    if not colon or not port.isdigit() or "code" not in found:
        raise ConfigError(
            f"{where}: server: needs `listen ADDRESS:PORT` and `location / {{content_by_lua_block}}`"
        )
    trusted = found.get("lua_ssl_trusted_certificate")
    return Server(host=host.strip("[]"), port=int(port), code=found["code"], trusted=trusted)


def _directives(text: str, where: str) -> Iterator[tuple[str, list[str], str | None]]:
    """(name, arguments, the block's text or None), one after another."""
    words: list[str] = []
    at = 0
    while found := _TOKEN.match(text, at):
        at = found.end()
        mark = found["mark"]
        if mark is None:
            words += [w for w in (found["single"], found["double"], found["word"]) if w is not None]
        elif mark == "}" or not words:
            break
        else:
            block = None
            if mark == "{":
                end = _end_of_block(text, at, where)
                block, at = text[at:end], end + 1
            yield words[0], words[1:], block
            words = []
    if words or text[at:].strip():
        raise ConfigError(f"{where}: can't be read near {text[at : at + 40].strip()!r}")


def _end_of_block(text: str, at: int, where: str) -> int:
    depth = 1
    for found in re.finditer(r"[{}]", text[at:]):
        depth += 1 if found[0] == "{" else -1
        if not depth:
            return at + found.start()
    raise ConfigError(f"{where}: a block without an end")
