"""Who may send an MCP request from where: names for lists of access, `Host` and `Origin` against DNS rebinding."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Final
from urllib.parse import urlsplit

__all__ = ["is_allowed_host", "is_allowed_origin", "principals_of"]

_LOOPBACK: Final = frozenset({"localhost", "127.0.0.1", "::1"})

_KEY_ID: Final = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def principals_of(credential: str, tenant: str, scopes: Iterable[str] | None) -> set[str]:
    """Names of a caller in lists of access. A scope that is written as a key's id is none: a client may ask for any."""
    return {credential, tenant, *(s for s in scopes or () if not _KEY_ID.fullmatch(s))}


def is_allowed_host(host: str, hosts: Sequence[str]) -> bool:
    """Whether ``Host`` is one of `hosts` (with or without a port), or `hosts` is empty."""
    name = _name(host)
    return not hosts or any(host.lower() == known.lower() or name == known.lower() for known in hosts)


def is_allowed_origin(origin: str, host: str, origins: Sequence[str]) -> bool:
    """Whether pages of this origin may send requests: one of `origins`, or a page of this machine to this machine."""
    if "*" in origins or origin.rstrip("/").lower() in (o.rstrip("/").lower() for o in origins):
        return True
    try:
        name = urlsplit(origin).hostname or ""
    except ValueError:
        return False
    return name in _LOOPBACK and _name(host) in _LOOPBACK


def _name(host: str) -> str:
    """The name in ``name:port``, in lower case; of an IPv6 address without brackets."""
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""
