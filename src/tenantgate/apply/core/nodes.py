"""Which processes of which nodes go by which version of the policies."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from tenantgate.policy.core.ports import UNREADABLE, Acknowledgement
from tenantgate.policy.core.records import CATALOG
from tenantgate.tenant import TenantId

__all__ = ["LIVE_S", "behind", "lines", "live", "unread"]

LIVE_S: Final = 15.0
"""Seconds after which a process that said nothing counts as gone; live ones say their version every second or so."""


def live(
    found: Iterable[Acknowledgement], *, now: float, first: Iterable[Acknowledgement] = ()
) -> list[Acknowledgement]:
    """The processes that run: heard of lately, or again since `first`, whatever their node's clock says.

    Args:
        found: the last word of each process.
        now: Unix time in seconds.
        first: the same, some time before.
    """
    before = {(a.node, a.process): a.at for a in first}
    return [a for a in found if a.at >= now - LIVE_S or a.at > before.get((a.node, a.process), a.at)]


def behind(found: Iterable[Acknowledgement], version: int) -> list[str]:
    """``node (version)`` of each node with a process that goes by an earlier version, the lowest one, sorted."""
    lowest: dict[str, int] = {}
    for a in found:
        if a.version < version:
            lowest[a.node] = min(a.version, lowest.get(a.node, a.version))
    return [f"{node} (version {number})" for node, number in sorted(lowest.items())]


def unread(running: Iterable[Acknowledgement]) -> list[str]:
    """A line for each tenant whose newest record isn't in force on some nodes, with their names."""
    by_tenant: dict[str, set[str]] = {}
    more = set()
    for a in running:
        for tenant in a.unreadable:
            by_tenant.setdefault(tenant, set()).add(a.node)
        if len(a.unreadable) >= UNREADABLE:
            more.add(a.node)
    found = [
        f"{'the list of all models' if tenant == CATALOG else TenantId(tenant).slug}: not in force on "
        f"{', '.join(sorted(nodes))}, whose engine can't read the record: an earlier one stays in force, or none"
        for tenant, nodes in sorted(by_tenant.items())
    ]
    return found + [f"{node}: perhaps more; its log has all" for node in sorted(more)]


def lines(found: Iterable[Acknowledgement], *, now: float) -> list[str]:
    """A line for each node and version that processes of it go by; a node of which nothing runs has one, too.

    Args:
        found: the last word of each process.
        now: Unix time in seconds.
    """
    by_node: dict[str, list[Acknowledgement]] = {}
    for a in found:
        by_node.setdefault(a.node, []).append(a)
    out = []
    for node, said in sorted(by_node.items()):
        running = live(said, now=now)
        heard = max(a.at for a in said)
        if not running:
            last = max(a.version for a in said if a.at == heard)
            out.append(f"{node}  version {last}  not running, last heard {max(0.0, now - heard):.0f} s ago")
        for version in sorted({a.version for a in running}, reverse=True):
            count = sum(a.version == version for a in running)
            out.append(f"{node}  version {version}  {count} process{'es' * (count != 1)}")
    return out
