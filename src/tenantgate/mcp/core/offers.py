"""What an endpoint offers: the tools of one server, or of all of a tenant's, by the names that clients see."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import Any

from tenantgate.mcp.core.protocol.results import Identity, described
from tenantgate.mcp.core.tool import Acl, RemoteTool, Server, Tool

__all__ = ["Endpoint", "Offer", "endpoints", "permits"]

_LONGEST = 64
_APART = "__"


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """A tool under the name by which an endpoint's clients know it."""

    name: str
    tool: Tool
    server: Server
    listed: bytes = field(repr=False)
    """As it stands in a list."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """An MCP server as clients see it."""

    identity: Identity
    offers: Sequence[Offer]
    """By name."""
    by_name: Mapping[str, Offer]
    remote: Server | None = None
    """The server that is asked in its own protocol; then there are no offers of ours."""

    def visible(self, principals: AbstractSet[str]) -> list[tuple[str, bytes]]:
        """The tools that a caller may know of, for `tenantgate.mcp.core.protocol.results.page`."""
        return [(o.name, o.listed) for o in self.offers if permits(acl_of(o.tool, o.server), principals)]

    def remote_tool(self, name: Any, principals: AbstractSet[str]) -> RemoteTool | None:
        """The remote server's tool of this name; None where there is none that the caller may know of."""
        found = None if self.remote is None else self.remote.remote_tool(name)
        if self.remote is None or found is None or not permits(acl_of(found, self.remote), principals):
            return None
        return found

    def offer(self, name: str, principals: AbstractSet[str]) -> Offer | None:
        """The tool of this name; None where there is none that the caller may know of."""
        found = self.by_name.get(name)
        return found if found is not None and permits(acl_of(found.tool, found.server), principals) else None


def acl_of(tool: Tool | RemoteTool, server: Server) -> Acl:
    """Who may see and call a tool: its own list, or its server's."""
    return server.default_acl if tool.acl is None else tool.acl


def permits(acl: Acl, principals: AbstractSet[str]) -> bool:
    """Whether a caller with these names may pass: `deny` wins, and an `allow` with entries lets nobody else pass."""
    return principals.isdisjoint(acl.deny) and (not acl.allow or not principals.isdisjoint(acl.allow))


def endpoints(servers: Iterable[Server], *, version: str) -> dict[str, Endpoint]:
    """By name of the server its endpoint, and under the empty name the one that joins all of them.

    A tool whose fingerprint isn't the one that was approved is in none. Remote servers aren't joined: their lists
    are their own.
    """
    made: dict[str, Endpoint] = {}
    joined: list[Offer] = []
    for server in servers:
        tools = [t for t in server.tools if server.pins.get(t.name, t.fingerprint) == t.fingerprint]
        identity = Identity(
            name=server.name, title=server.title, version=version, instructions=server.instructions
        )
        made[server.name] = _endpoint(
            identity, [_offer(t.name, t, server) for t in tools], server if server.remote else None
        )
        joined += [_offer(_joined_name(server.name, t.name), t, server) for t in tools]
    everything = Identity(name="tenantgate", title="", version=version, instructions="")
    made[""] = _endpoint(everything, joined, None)
    return made


def _endpoint(identity: Identity, offers: list[Offer], remote: Server | None) -> Endpoint:
    ordered = sorted(offers, key=lambda o: o.name)
    return Endpoint(identity=identity, offers=ordered, by_name={o.name: o for o in ordered}, remote=remote)


def _offer(name: str, tool: Tool, server: Server) -> Offer:
    return Offer(name=name, tool=tool, server=server, listed=described(tool, name))


def _joined_name(server: str, tool: str) -> str:
    """``server__tool``: the same whatever other servers there are, and never two tools' name."""
    name = f"{server}{_APART}{tool}"
    if len(name) <= _LONGEST and _APART not in server and not server.endswith("_"):
        return name
    digest = hashlib.sha256(f"{server}\0{tool}".encode()).hexdigest()[:8]
    return f"{name[: _LONGEST - 10]}{_APART}{digest}"
