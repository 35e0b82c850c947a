"""Files and URLs that tenants.yaml names (OpenAPI documents, files of tools), read before it is compiled."""

from __future__ import annotations

import http.client
import ssl
import urllib.parse
from pathlib import Path
from typing import Final

from tenantgate.config.model import TenantsFile
from tenantgate.errors import ConfigError, EdgeError
from tenantgate.http_limits import within

__all__ = ["documents", "named", "read_location"]

_TIMEOUT_S: Final = 30.0
_BYTES: Final = 64 * 1024 * 1024
_REDIRECTS: Final = 3


def documents(file: TenantsFile, folder: Path) -> dict[str, bytes]:
    """The contents of all that the MCP servers of a file name, by that name; paths are relative to `folder`.

    Raises:
        ConfigError, EdgeError: something can't be read; names it.
    """
    return {location: read_location(location, folder) for location in named(file)}


def named(file: TenantsFile) -> list[str]:
    """The files and URLs that the MCP servers of a file name, each once."""
    servers = [server for tenant in file.tenants for server in tenant.mcp]
    found = [location for server in servers for location in (server.openapi, server.tools_file)]
    return list(dict.fromkeys(location for location in found if location is not None))


def read_location(location: str, folder: Path) -> bytes:
    """What stands in a file, or at a URL of http or https.

    Raises:
        ConfigError: the file can't be read.
        EdgeError: the URL's server doesn't answer with it.
    """
    if location.startswith(("http://", "https://")):
        return _fetched(location)
    try:
        with (folder / location).open("rb") as file:
            raw = file.read(_BYTES + 1)
    except OSError as error:
        raise ConfigError(f"{location}: can't be read ({type(error).__name__})") from None
    return _checked(raw, location)


def _fetched(url: str) -> bytes:
    asked = url
    for _ in range(_REDIRECTS + 1):
        parts = urllib.parse.urlsplit(asked)
        connection = _connection(parts, url)
        try:
            path = parts.path or "/"
            with within(connection, _TIMEOUT_S):
                connection.request("GET", f"{path}?{parts.query}" if parts.query else path)
                response = connection.getresponse()
                body = response.read(_BYTES + 1) if response.status == 200 else b""
            if response.status in (301, 302, 303, 307, 308):
                target = urllib.parse.urljoin(asked, response.getheader("Location") or "")
                if parts.scheme == "https" and not target.startswith("https://"):
                    raise EdgeError(f"{url}: leads from https to another scheme")
                asked = target
                continue
            if response.status != 200:
                raise EdgeError(f"{url}: answered {response.status}")
            return _checked(body, url)
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise EdgeError(f"{url}: can't be read ({type(error).__name__})") from None
        finally:
            connection.close()
    raise EdgeError(f"{url}: more than {_REDIRECTS} redirections")


def _connection(parts: urllib.parse.SplitResult, url: str) -> http.client.HTTPConnection:
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.username:
        raise ConfigError(f"{url}: must be http://HOST/… or https://HOST/…")
    if parts.scheme == "https":
        context = ssl.create_default_context()
        return http.client.HTTPSConnection(parts.hostname, parts.port, timeout=_TIMEOUT_S, context=context)
    return http.client.HTTPConnection(parts.hostname, parts.port, timeout=_TIMEOUT_S)


def _checked(raw: bytes, name: str) -> bytes:
    if len(raw) > _BYTES:
        raise ConfigError(f"{name}: more than {_BYTES} bytes")
    return raw
