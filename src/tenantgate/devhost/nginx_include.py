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

__all__ = ["ErrorPage", "Include", "Server", "load", "parse"]

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
        "lua_check_client_abort",
        "lua_ssl_conf_command",
        "lua_ssl_protocols",
        "lua_ssl_verify_depth",
        "server_name",
    }
)
"""What the host does in any case, or doesn't need to do."""


_HEEDED: Final = frozenset(
    {"error_page", "large_client_header_buffers", "listen", "lua_ssl_trusted_certificate"}
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorPage:
    """What nginx answers in place of an error of its own: ``error_page CODES =STATUS LOCATION``."""

    codes: frozenset[int]
    status: int
    content_type: str
    body: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """A server whose location ``/`` is Lua."""

    host: str
    port: int
    code: str
    """Lua, ``content_by_lua_block``."""
    trusted: str | None = None
    """``lua_ssl_trusted_certificate``."""
    error_page: ErrorPage | None = None
    max_header: int = 8192
    """Bytes of one header at most: of ``large_client_header_buffers`` the size."""


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
    found: dict[str, list[str]] = {}
    code = ""
    pages: dict[str, dict[str, list[str]]] = {}
    for name, arguments, block in _directives(text, where):
        if name in _HEEDED and block is None:
            found[name] = arguments
        elif name == "location" and arguments == ["/"] and block is not None:
            code = _lua(block, where)
        elif name == "location" and arguments[:1] == ["="] and len(arguments) == 2 and block is not None:
            pages[arguments[1]] = _page(block, where)
        elif name not in _WITHOUT_EFFECT:
            raise ConfigError(f"{where}: {name}: the embedded host can't do this in a server")
    host, colon, port = "".join(found.get("listen", [])).rpartition(":")
    if not colon or not port.isdigit() or not code:
        raise ConfigError(
            f"{where}: server: needs `listen ADDRESS:PORT` and `location / {{content_by_lua_block}}`"
        )
    return Server(
        host=host.strip("[]"),
        port=int(port),
        code=code,
        trusted=next(iter(found.get("lua_ssl_trusted_certificate", [])), None),
        max_header=_size(found.get("large_client_header_buffers", ["4", "8k"])[-1], where),
        error_page=_error_page(found["error_page"], pages, where) if "error_page" in found else None,
    )


def _size(text: str, where: str) -> int:
    found = re.fullmatch(r"(\d+)([km]?)", text.lower())
    if not found:
        raise ConfigError(f"{where}: {text}: must be a size such as 8k")
    return int(found[1]) * {"": 1, "k": 1 << 10, "m": 1 << 20}[found[2]]


def _lua(block: str, where: str) -> str:
    code = ""
    for name, _, text in _directives(block, where):
        if name != "content_by_lua_block" or text is None:
            raise ConfigError(f"{where}: {name}: the embedded host can't do this in a location")
        code = text
    return code


def _page(block: str, where: str) -> dict[str, list[str]]:
    found = {name: arguments for name, arguments, text in _directives(block, where) if text is None}
    if found.keys() - {"default_type", "internal"} != {"return"} or len(found["return"]) != 2:
        raise ConfigError(f"{where}: the embedded host has no location but one that returns a text")
    return found


def _error_page(arguments: list[str], pages: dict[str, dict[str, list[str]]], where: str) -> ErrorPage:
    *codes, status, location = arguments
    if location not in pages or not re.fullmatch(r"=\d{3}", status) or not all(c.isdigit() for c in codes):
        raise ConfigError(f"{where}: error_page: the embedded host knows `CODES =STATUS LOCATION` alone")
    page = pages[location]
    return ErrorPage(
        codes=frozenset(int(code) for code in codes),
        status=int(status[1:]),
        content_type="".join(page.get("default_type", [])) or "text/plain",
        body=page["return"][1].encode(),
    )


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
            at = found.start()
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
    for found in re.finditer(r"'[^'\n]*'|\"[^\"\n]*\"|[{}]", text[at:]):
        depth += {"{": 1, "}": -1}.get(found[0], 0)
        if not depth:
            return at + found.start()
    raise ConfigError(f"{where}: a block without an end")
