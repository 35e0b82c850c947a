"""Who may send an MCP request from where: the checks of `Host` and `Origin` against DNS rebinding."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final
from urllib.parse import urlsplit

__all__ = ["is_allowed_host", "is_allowed_origin"]

_LOOPBACK: Final = frozenset({"localhost", "127.0.0.1", "::1"})


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
